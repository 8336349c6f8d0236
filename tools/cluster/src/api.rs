//! The cluster, as kubectl, helm and an autoscaler see it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use common_kubernetes::connection;
use futures_util::io::{AsyncBufReadExt as _, BufReader};
use futures_util::stream::{Stream, TryStreamExt as _};
use http::{Method, Request};
use kube::Client;
use serde_json::Value;
use tests_support::clock;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

/// Longest time for one answer of kube-apiserver.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Connection to one cluster.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    kubeconfig: PathBuf,
    programs: PathBuf,
}

// === impl Cluster ===

impl Cluster {
    /// As `kubeconfig` says, with kubectl and helm from the folder `programs`.
    pub async fn connect(kubeconfig: &Path, programs: &Path) -> Result<Self> {
        let client = connection::connect(Some(kubeconfig)).await?;
        Ok(Self {
            client,
            kubeconfig: kubeconfig.to_owned(),
            programs: programs.to_owned(),
        })
    }

    /// The body of the answer at `path`; an error if its status is not 2xx.
    pub async fn text(&self, method: Method, path: &str) -> Result<String> {
        let request = Request::builder().method(&method).uri(path);
        let request = request.body(Vec::new()).with_context(|| path.to_owned())?;
        let answer = timeout(ANSWER_WITHIN, self.client.request_text(request)).await;
        let answer = answer.with_context(|| format!("{method} {path}: no answer in time"))?;
        answer.with_context(|| format!("{method} {path}"))
    }

    pub async fn get(&self, path: &str) -> Result<Value> {
        let text = self.text(Method::GET, path).await?;
        serde_json::from_str(&text).with_context(|| format!("GET {path}: not JSON: {text}"))
    }

    /// The objects of the collection at `path`; none if the cluster does not know their kind.
    pub async fn list(&self, path: &str) -> Result<Vec<Value>> {
        match self.get(path).await {
            Ok(list) => Ok(list["items"].as_array().cloned().unwrap_or_default()),
            Err(error) if is_not_found(&error) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Lines of a container's log, from its first to its end.
    pub async fn log(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Result<impl Stream<Item = std::io::Result<String>> + Send + use<>> {
        let path = format!(
            "/api/v1/namespaces/{namespace}/pods/{pod}/log?container={container}&follow=true"
        );
        let request = Request::get(path).body(Vec::new())?;
        let lines = self.client.request_stream(request).await?;
        Ok(BufReader::new(lines).lines().into_stream())
    }

    /// What kubectl says.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.run("kubectl", args, "").await
    }

    /// Applies manifests.
    pub async fn apply(&self, manifests: &str) -> Result<()> {
        let args = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        self.run("kubectl", &args, manifests).await.map(drop)
    }

    /// What helm says.
    pub async fn helm(&self, args: &[&str]) -> Result<String> {
        self.run("helm", args, "").await
    }

    /// A command for a process that goes on, such as `kubectl port-forward`.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        command.kill_on_drop(true);
        command
    }

    async fn run(&self, program: &str, args: &[&str], input: &str) -> Result<String> {
        let line = format!("{program} {}", args.join(" "));
        let mut command = self.command(program);
        command.args(args).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| line.clone())?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that ended without reading says why itself.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        let output = child
            .wait_with_output()
            .await
            .with_context(|| line.clone())?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{line}: {}", errors.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}

/// Whether kube-apiserver said 404.
pub fn is_not_found(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref::<kube::Error>();
    cause.is_some_and(|cause| matches!(cause, kube::Error::Api(status) if status.code == 404))
}

/// Looks four times a second until `look` gives a value, and gives the time it took; what fails
/// meanwhile is tried again.
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<(T, Duration)> {
    let begun = clock::now();
    let mut last = None;
    while begun.elapsed() < limit {
        match look().await {
            Ok(Some(found)) => return Ok((found, begun.elapsed())),
            Ok(None) => last = None,
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let limit = limit.as_secs();
    match last {
        Some(error) => Err(error.context(format!("waited {limit} s in vain for {what}"))),
        None => bail!("waited {limit} s in vain for {what}"),
    }
}

/// The path of a pod's own HTTP server behind kube-apiserver.
pub fn proxied(namespace: &str, pod: &str, port: u16, path: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy{path}")
}
