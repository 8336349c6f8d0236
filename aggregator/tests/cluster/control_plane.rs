//! A cluster and an aggregator in it, in the test's own process.

use std::net::SocketAddr;
use std::time::Duration;

use aggregator::args::{Args, Command};
use aggregator::config::Config;
use clap::Parser as _;
use http::{Method, Request};
use http_body_util::Full;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests_support::clock::wait_for;
use tests_support::kubernetes::objects::{API_SERVICE, DEPLOYMENT, POD, REPLICA_SET, SERVICE};
use tests_support::kubernetes::{ApiServer, Identity};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::client::{self, Reply};
use crate::sidecar::{Sidecar, inbound};

/// How long a test waits for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The group in its preferred version.
pub(crate) const V2: &str = "/apis/custom.metrics.k8s.io/v1beta2";

/// Metric of the two pods of the cluster.
pub(crate) const PODS: &str = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/demo/pods/%2A/appmesh_requests_per_second?labelSelector=app%3Dllm";

/// A cluster with the Deployment and Service `llm` of two pods in namespace demo, and an aggregator
/// that knows it.
pub(crate) struct Cluster {
    pub(crate) server: ApiServer,
    pub(crate) addresses: Addresses,
    pub(crate) sidecars: Vec<Sidecar>,
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
    pub(crate) directory: TempDir,
}

/// What the addresses file says.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Addresses {
    pub(crate) ingest: SocketAddr,
    pub(crate) api: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// Who asks, and in which words.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller {
    pub(crate) identity: Option<Identity>,
    pub(crate) headers: Vec<(String, String)>,
}

/// An `APIService` that leads to the aggregator.
pub(crate) fn api_service(name: &str) -> Value {
    let service = json!({"namespace": "meshmeter", "name": "meshmeter-api"});
    json!({"metadata": {"name": name}, "spec": {"service": service}})
}

impl Cluster {
    /// Starts both, with the two pods reporting `100` and `300` requests in ten seconds.
    pub(crate) async fn start(flags: &[&str]) -> Self {
        let server = ApiServer::start().await.unwrap();
        let objects = server.objects();
        for version in ["v1beta1.custom", "v1beta2.custom", "v1beta1.external"] {
            let name = format!("{version}.metrics.k8s.io");
            objects.apply(API_SERVICE, api_service(&name));
        }
        let metadata = |name: &str| json!({"namespace": "demo", "name": name, "uid": name});
        objects.apply(DEPLOYMENT, json!({"metadata": metadata("llm")}));
        let mut set = metadata("llm-959c885bb");
        set["ownerReferences"] = owner("Deployment", "llm");
        objects.apply(REPLICA_SET, json!({"metadata": set}));
        objects.apply(
            SERVICE,
            json!({"metadata": metadata("llm"), "spec": {"selector": {"app": "llm"}}}),
        );
        for name in ["llm-959c885bb-5c5rq", "llm-959c885bb-8x7r2"] {
            objects.apply(POD, pod(name));
        }
        let mut cluster = Self::with(server, flags).await;
        for (name, requests) in [("llm-959c885bb-5c5rq", 100), ("llm-959c885bb-8x7r2", 300)] {
            let ingest = cluster.addresses.ingest;
            let mut sidecar = Sidecar::connect_in("demo", ingest, name, "llm").await;
            sidecar.report(vec![inbound(requests, requests)]).await;
            cluster.sidecars.push(sidecar);
        }
        cluster
    }

    /// An aggregator for `server`, ready to be asked.
    pub(crate) async fn with(server: ApiServer, flags: &[&str]) -> Self {
        let cluster = Self::begin(server, flags).await;
        wait_for("readiness", PATIENCE, async || {
            let reply = cluster.readyz().await;
            Ok(reply.status.is_success().then_some(()))
        })
        .await
        .unwrap();
        cluster
    }

    /// The same, as soon as it listens.
    pub(crate) async fn begin(server: ApiServer, flags: &[&str]) -> Self {
        let Running {
            addresses,
            shutdown,
            task,
            directory,
        } = Running::begin(&server, flags).await;
        Self {
            server,
            addresses,
            sidecars: Vec::new(),
            shutdown,
            task,
            directory,
        }
    }

    /// GETs `path` over HTTP/1.1.
    pub(crate) async fn get(&self, path: &str, caller: &Caller) -> Reply {
        get(self.addresses, path, caller).await
    }

    /// What it says of being ready, check by check.
    pub(crate) async fn readyz(&self) -> Reply {
        client::get_plain(self.addresses.admin, "/readyz?verbose").await
    }

    /// As kube-apiserver passes it on for the user `name`.
    pub(crate) fn front_proxy(&self, name: &str) -> Caller {
        Caller {
            identity: Some(self.server.front_proxy().identity().clone()),
            headers: vec![("X-Remote-User".to_owned(), name.to_owned())],
        }
    }

    /// What the aggregator counts under `name`.
    pub(crate) async fn metrics(&self) -> String {
        client::get_plain(self.addresses.admin, "/metrics")
            .await
            .text()
    }

    /// Ends the aggregator in order.
    pub(crate) async fn stop(self) {
        drop(self.sidecars);
        self.shutdown.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.task).await;
        ended.expect("it ends in time").unwrap().unwrap();
    }
}

/// GETs `path` of an aggregator over HTTP/1.1.
pub(crate) async fn get(of: Addresses, path: &str, caller: &Caller) -> Reply {
    let identity = caller.identity.as_ref();
    let identity = identity.map(|identity| identity.to_rustls().unwrap());
    let stream = client::connect_as(of.api, b"http/1.1", identity);
    let stream = stream.await.unwrap();
    let mut request = Request::builder().method(Method::GET).uri(path);
    for (name, value) in &caller.headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::default()).unwrap();
    client::send_over(stream, of.api, request).await
}

/// An aggregator that runs in a cluster.
pub(crate) struct Running {
    pub(crate) addresses: Addresses,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<anyhow::Result<()>>,
    pub(crate) directory: TempDir,
}

impl Running {
    /// An aggregator for `server`, as soon as it listens.
    pub(crate) async fn begin(server: &ApiServer, flags: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let kubeconfig = directory.path().join("kubeconfig");
        server.write_kubeconfig(&kubeconfig).unwrap();
        let file = directory.path().join("addresses.json");
        let (kubeconfig, path) = (kubeconfig.display().to_string(), file.display().to_string());
        let any = "127.0.0.1:0";
        let base = [
            ["--kubeconfig", &kubeconfig],
            ["--addresses-file", &path],
            ["--ingest-listen", any],
            ["--api-listen", any],
            ["--admin-listen", any],
        ];
        let all = ["meshmeter", "serve"]
            .into_iter()
            .chain(base.iter().flatten().copied())
            .chain(flags.iter().copied());
        let Command::Serve(args) = Args::try_parse_from(all).unwrap().command else {
            panic!("another command");
        };
        let (_, config) = Config::check(*args).unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(aggregator::app::run(config, shutdown.clone()));
        let addresses: Addresses = wait_for("the addresses", PATIENCE, async || {
            let text = std::fs::read(&file).ok();
            Ok(text.map(|text| serde_json::from_slice(&text).unwrap()))
        })
        .await
        .unwrap();
        Self {
            addresses,
            shutdown,
            task,
            directory,
        }
    }
}

impl Caller {
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

fn pod(name: &str) -> Value {
    json!({
        "metadata": {
            "namespace": "demo",
            "name": name,
            "uid": format!("uid-{name}"),
            "labels": {"app": "llm", "tier": "gpu"},
            "ownerReferences": owner("ReplicaSet", "llm-959c885bb"),
        },
        "status": {
            "phase": "Running",
            "podIP": "127.0.0.1",
            "podIPs": [{"ip": "127.0.0.1"}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    })
}

fn owner(kind: &str, name: &str) -> Value {
    json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": name, "controller": true}])
}
