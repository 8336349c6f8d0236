//! The running program, and pods for it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests_support::clock::wait_for;
use tests_support::kubernetes::CertificateAuthority;
use tests_support::process::Process;

use crate::client::{Client, Reply};

/// How long a test waits for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The name under which kube-apiserver calls the webhook's service.
pub(crate) const NAME: &str = "meshmeter-injector.meshmeter.svc";

const REVIEW: &str = include_str!("review.json");

/// A running webhook; ends when dropped.
pub(crate) struct Program {
    pub(crate) process: Process,
    pub(crate) addresses: Addresses,
    _directory: TempDir,
}

/// What the addresses file says.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Addresses {
    pub(crate) webhook: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// A certificate in the files that the program reads.
pub(crate) struct InFiles {
    pub(crate) ca: CertificateAuthority,
    certificate: PathBuf,
    key: PathBuf,
}

// === impl Program ===

impl Program {
    /// Starts it with `flags` and waits until it listens.
    pub(crate) async fn start(directory: TempDir, flags: &[String]) -> Self {
        let file = directory.path().join("addresses.json");
        let mut all: Vec<String> = [
            "injector",
            "--image=registry/mesh:1",
            "--upstream=http://control-plane:18000",
            "--aggregator=meshmeter-0.meshmeter-ingest.meshmeter.svc.cluster.local:7470",
            "--listen=127.0.0.1:0",
            "--admin-listen=127.0.0.1:0",
            "--shutdown-delay-seconds=3",
            "--addresses-file",
        ]
        .map(str::to_owned)
        .into();
        all.push(file.display().to_string());
        all.extend(flags.iter().cloned());
        let binary = Path::new(env!("CARGO_BIN_EXE_meshmeter-mesh"));
        let log = directory.path().join("log");
        let mut process = Process::spawn(binary, &all, &[], &log).unwrap();
        let addresses = wait_for("the addresses", PATIENCE, async || {
            process.check_running()?;
            let text = std::fs::read(&file).ok();
            Ok(text.and_then(|text| serde_json::from_slice(&text).ok()))
        });
        let addresses = addresses.await.unwrap();
        Self {
            process,
            addresses,
            _directory: directory,
        }
    }

    /// Starts it with a certificate in files, and no cluster.
    pub(crate) async fn with_files() -> (Self, InFiles) {
        let directory = tempfile::tempdir().unwrap();
        let files = InFiles::new(directory.path());
        files.renew();
        let program = Self::start(directory, &files.flags()).await;
        (program, files)
    }

    /// A client that trusts `ca` (PEM).
    pub(crate) fn client(&self, ca: &str) -> Client {
        Client::new(self.addresses.webhook, ca, NAME)
    }

    /// `/readyz`, and what it says.
    pub(crate) async fn ready(&self) -> (bool, String) {
        let page = tests_support::http::get(self.addresses.admin, "/readyz").await;
        let page = page.unwrap();
        (page.status.is_success(), page.text())
    }

    /// Waits for `/readyz`.
    pub(crate) async fn wait_ready(&self) {
        let ready = wait_for("/readyz", PATIENCE, async || {
            Ok(self.ready().await.0.then_some(()))
        });
        if let Err(error) = ready.await {
            panic!("{error:#}\n{}", self.process.log_tail());
        }
    }

    /// The value of the line that begins with `series`, such as
    /// `reviews_total{result="injected",reason=""}`; of the injector or, like
    /// `connections{listener="webhook"}`, of the whole program.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let page = tests_support::http::get_ok(self.addresses.admin, "/metrics").await;
        let text = page.unwrap().text();
        let names = ["meshmeter_mesh_injector_", "meshmeter_mesh_"];
        let names = names.map(|prefix| format!("{prefix}{series} "));
        let value = names
            .iter()
            .find_map(|name| text.lines().find_map(|held| held.strip_prefix(name)));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Waits until the metric is `expected`.
    pub(crate) async fn wait_metric(&self, series: &str, expected: f64) {
        let counted = wait_for(series, PATIENCE, async || {
            let value = self.metric(series).await;
            Ok(((value - expected).abs() < 0.5).then_some(()))
        });
        if let Err(error) = counted.await {
            panic!("{error:#}\n{}", self.process.log_tail());
        }
    }
}

// === impl InFiles ===

impl InFiles {
    fn new(directory: &Path) -> Self {
        Self {
            ca: CertificateAuthority::new("company").unwrap(),
            certificate: directory.join("tls.crt"),
            key: directory.join("tls.key"),
        }
    }

    /// Writes another certificate; gives it, PEM.
    pub(crate) fn renew(&self) -> String {
        let issued = self.ca.server(&[NAME]).unwrap();
        std::fs::write(&self.certificate, &issued.certificate).unwrap();
        std::fs::write(&self.key, &issued.key).unwrap();
        issued.certificate
    }

    fn flags(&self) -> Vec<String> {
        [
            ("--cert-file", &self.certificate),
            ("--key-file", &self.key),
        ]
        .map(|(flag, file)| format!("{flag}={}", file.display()))
        .into()
    }
}

/// A pod of a `ReplicaSet`.
pub(crate) fn pod() -> Value {
    review_of(None)["request"]["object"].clone()
}

/// A review as kube-apiserver sends it; of another `pod`.
pub(crate) fn review_of(pod: Option<&Value>) -> Value {
    let mut review: Value = serde_json::from_str(REVIEW).unwrap();
    if let Some(pod) = pod {
        review["request"]["object"] = pod.clone();
    }
    review
}

/// The pod as kube-apiserver makes it by the answer, and the answer's `response`.
pub(crate) fn admitted(review: &Value, reply: &Reply) -> (Value, Value) {
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.content_type, "application/json");
    let answer = reply.json();
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(answer["kind"], "AdmissionReview");
    let response = answer["response"].clone();
    assert_eq!(response["uid"], review["request"]["uid"]);
    assert_eq!(response["allowed"], true);
    let mut pod = review["request"]["object"].clone();
    if let Some(patch) = response["patch"].as_str() {
        assert_eq!(response["patchType"], "JSONPatch");
        let patch = BASE64.decode(patch).unwrap();
        let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
        json_patch::patch(&mut pod, &patch).unwrap();
    }
    (pod, response)
}

/// What the fake API server has as a webhook configuration: two webhooks, with more in them than is
/// ours.
pub(crate) fn configuration() -> Value {
    let webhook = |name: &str, path: &str| {
        json!({
            "name": name,
            "clientConfig": {"service": {"namespace": "meshmeter", "name": "meshmeter-injector", "path": path, "port": 443}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"], "scope": "Namespaced"}],
            "namespaceSelector": {"matchLabels": {"meshmeter.io/inject": "enabled"}},
            "failurePolicy": "Ignore",
            "timeoutSeconds": 5,
        })
    };
    json!({
        "metadata": {"name": "aa-meshmeter-injector", "labels": {"app": "meshmeter"}},
        "webhooks": [webhook("pods.meshmeter.io", "/mutate"), webhook("others.meshmeter.io", "/mutate")],
    })
}
