//! A control plane of either kind.

use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::model::{Model, Viewer};
use crate::objects;
use crate::real::Real;
use crate::rest::{NAMESPACE, Rest, autoscalers, deployments};

/// Where the binaries of a real Kubernetes control plane are: `kube-apiserver`, `etcd`,
/// `kube-controller-manager`.
const ASSETS: &str = "KUBEBUILDER_ASSETS";

/// Why there is no real Kubernetes control plane.
pub const NO_ASSETS: &str = "set KUBEBUILDER_ASSETS to a directory with kube-apiserver, etcd and kube-controller-manager \
     (as setup-envtest makes it, and the last one beside them)";

/// A running control plane; ends when dropped.
#[derive(Debug)]
pub struct Plane {
    kind: Kind,
    rest: Rest,
    directory: TempDir,
}

#[derive(Debug)]
enum Kind {
    Model(Model),
    Real(Box<Real>),
}

/// Where a person's requests to the aggregator's API group go.
#[derive(Clone, Debug)]
pub enum View {
    Model(Viewer),
    Real(Rest),
}

// === impl View ===

impl View {
    /// The document at `path`.
    pub async fn get(&self, path: &str) -> Result<Value> {
        match self {
            Self::Model(viewer) => viewer.get(path).await,
            Self::Real(rest) => rest.get(path).await,
        }
    }
}

// === impl Plane ===

impl Plane {
    /// A model, in this process.
    pub async fn model() -> Result<Self> {
        let directory = TempDir::new().context("make a directory")?;
        let kubeconfig = directory.path().join("kubeconfig");
        let model = Model::start(&kubeconfig).await?;
        Self::new(Kind::Model(model), &kubeconfig, directory).await
    }

    /// A real one, if there are binaries; says so if there are none.
    pub async fn real() -> Result<Option<Self>> {
        let Some(assets) = env::var_os(ASSETS).map(PathBuf::from) else {
            return Ok(None);
        };
        let directory = TempDir::new().context("make a directory")?;
        let kubeconfig = directory.path().join("kubeconfig");
        let real = Real::start(&assets, directory.path(), &kubeconfig).await?;
        let plane = Self::new(Kind::Real(Box::new(real)), &kubeconfig, directory).await?;
        Ok(Some(plane))
    }

    async fn new(kind: Kind, kubeconfig: &Path, directory: TempDir) -> Result<Self> {
        let rest = Rest::new(kubeconfig).await?;
        for name in [NAMESPACE, "meshmeter"] {
            let namespace =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            rest.create("/api/v1/namespaces", &namespace).await?;
        }
        Ok(Self {
            kind,
            rest,
            directory,
        })
    }

    /// The API as a test uses it.
    pub fn rest(&self) -> &Rest {
        &self.rest
    }

    /// Kubeconfig for an aggregator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    /// Registers the aggregator whose API is at `api`, for each group.
    pub async fn register(&self, api: SocketAddr) -> Result<()> {
        let services = "/api/v1/namespaces/meshmeter/services";
        let port = api.port();
        self.rest
            .create(services, &objects::service("meshmeter-api", port))
            .await?;
        for (group, version, priority) in [
            ("custom.metrics.k8s.io", "v1beta1", 100),
            ("custom.metrics.k8s.io", "v1beta2", 200),
            ("external.metrics.k8s.io", "v1beta1", 100),
            ("view.meshmeter.io", "v1", 100),
        ] {
            let service = objects::api_service(group, version, priority, port);
            let path = "/apis/apiregistration.k8s.io/v1/apiservices";
            self.rest.create(path, &service).await?;
        }
        if let Kind::Model(model) = &self.kind {
            model.lead_to(api);
        }
        Ok(())
    }

    /// The way to the aggregator's views.
    pub fn view(&self) -> View {
        match &self.kind {
            Kind::Model(model) => View::Model(model.viewer()),
            Kind::Real(_) => View::Real(self.rest.clone()),
        }
    }

    /// Replicas that the Deployment `name` should have.
    pub async fn replicas(&self, name: &str) -> Result<u64> {
        let path = format!("{}/{name}", deployments());
        let deployment = self.rest.get(&path).await?;
        deployment["spec"]["replicas"]
            .as_u64()
            .context("no replicas")
    }

    /// What `kubectl describe hpa` says of the autoscaler `name`; where there is none, its
    /// conditions in the same words.
    pub async fn describe(&self, name: &str) -> Result<String> {
        if let Kind::Real(real) = &self.kind
            && let Some(described) = real.describe(name).await?
        {
            return Ok(described);
        }
        let path = format!("{}/{name}", autoscalers());
        let autoscaler = self.rest.get(&path).await?;
        Ok(conditions(&autoscaler))
    }

    /// True if this is a model.
    pub fn is_model(&self) -> bool {
        matches!(self.kind, Kind::Model(_))
    }
}

fn conditions(autoscaler: &Value) -> String {
    let conditions = autoscaler["status"]["conditions"].as_array();
    let lines = conditions.into_iter().flatten().map(|condition| {
        let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
        let [kind, status, reason, message] = ["type", "status", "reason", "message"].map(text);
        format!("{kind}  {status}  {reason}  {message}\n")
    });
    lines.collect()
}
