//! djapp in a cluster: its manifests in an API server, a control plane that follows them, sidecars
//! that ask the control plane.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests_support::djapp::{App, Behaviour};
use tests_support::envoy::{Envoy, Options};
use tests_support::kubernetes::ApiServer;
use tests_support::kubernetes::custom::{ENDPOINT_SLICE, VIRTUAL_ROUTER, of_manifest};
use tests_support::kubernetes::objects::{NAMESPACE as NAMESPACES, SERVICE};
use tests_support::process::Process;
use tests_support::{artifacts, clock, http};

use crate::{INGRESS, NAMESPACE, START_MAX, STOP_MAX, bootstrap, manifests};

/// The port of all services.
const PORT: u16 = 9080;

/// A cluster and its control plane.
#[derive(Debug)]
pub struct Cluster {
    pub server: ApiServer,
    folder: TempDir,
    control_plane: Option<Process>,
    xds: SocketAddr,
    admin: SocketAddr,
}

/// A pod of a workload, with its sidecar.
#[derive(Debug)]
pub struct Replica {
    pub envoy: Envoy,
    pub app: App,
    /// Where its sidecar listens for it.
    pub ingress: SocketAddr,
}

// === impl Cluster ===

impl Cluster {
    /// djapp's objects and services, and a control plane that has listed them.
    pub async fn start(weights: (u32, u32)) -> Result<Self> {
        let server = ApiServer::start().await?;
        let objects = server.objects();
        let labels = json!({"mesh": "dj-app"});
        let metadata = json!({"name": NAMESPACE, "labels": labels});
        objects.apply(NAMESPACES, json!({"metadata": metadata}));
        for manifest in manifests::objects(weights)? {
            let resource = of_manifest(&manifest).context("a kind of App Mesh")?;
            objects.apply(resource, manifest);
        }
        for name in ["dj", "jazz-v1", "jazz-v2", "metal-v1", "metal-v2"] {
            let spec = json!({"clusterIP": "10.9.0.1", "selector": {"app": name}, "ports": [{"port": PORT}]});
            let metadata = json!({"namespace": NAMESPACE, "name": name});
            objects.apply(SERVICE, json!({"metadata": metadata, "spec": spec}));
        }
        // As the walkthrough has them: names to call, and nobody behind.
        for name in ["jazz", "metal"] {
            let metadata = json!({"namespace": NAMESPACE, "name": name});
            let spec = json!({"clusterIP": "10.9.0.2", "ports": [{"port": PORT}]});
            objects.apply(SERVICE, json!({"metadata": metadata, "spec": spec}));
        }
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let mut cluster = Self {
            server,
            folder: TempDir::new()?,
            control_plane: None,
            xds: any,
            admin: any,
        };
        cluster.start_control_plane().await?;
        Ok(cluster)
    }

    /// Starts the control plane, at its address of before if it had one.
    pub async fn start_control_plane(&mut self) -> Result<()> {
        let path = |name: &str| self.folder.path().join(name);
        let (kubeconfig, file) = (path("kubeconfig"), path("addresses.json"));
        self.server.write_kubeconfig(&kubeconfig)?;
        let text = |path: &Path| path.display().to_string();
        let arguments = [
            "control-plane".to_owned(),
            "--cluster".to_owned(),
            format!("--kubeconfig={}", text(&kubeconfig)),
            format!("--listen={}", self.xds),
            "--admin-listen=127.0.0.1:0".to_owned(),
            format!("--addresses-file={}", text(&file)),
        ];
        let _ = fs::remove_file(&file);
        let log = path("control-plane.log");
        let mut process = Process::spawn(&artifacts::mesh()?, &arguments, &[], &log)?;
        let listens: Value =
            clock::wait_for("the control plane to listen", START_MAX, async || {
                process.check_running()?;
                let text = fs::read(&file).ok();
                let written = text.map(|text| serde_json::from_slice(&text)).transpose()?;
                Ok(written.filter(|written: &Value| written["xds"].is_string()))
            })
            .await?;
        let address = |key: &str| -> Result<SocketAddr> {
            Ok(listens[key].as_str().context("an address")?.parse()?)
        };
        (self.xds, self.admin) = (address("xds")?, address("admin")?);
        self.control_plane = Some(process);
        Ok(())
    }

    pub async fn stop_control_plane(&mut self) -> Result<()> {
        if let Some(mut control_plane) = self.control_plane.take() {
            control_plane.terminate(STOP_MAX).await?;
        }
        Ok(())
    }

    /// The control plane's own `/metrics`, or another page.
    pub async fn page(&self, path: &str) -> Result<String> {
        Ok(http::get_ok(self.admin, path).await?.text())
    }

    /// The end of the control plane's log.
    pub fn log(&self) -> String {
        self.control_plane
            .as_ref()
            .map(Process::log_tail)
            .unwrap_or_default()
    }

    /// From now on these weights of jazz's versions.
    pub fn shift(&self, weights: (u32, u32)) -> Result<()> {
        for manifest in manifests::objects(weights)? {
            if manifest["kind"] == VIRTUAL_ROUTER.kind {
                self.server.objects().apply(VIRTUAL_ROUTER, manifest);
            }
        }
        Ok(())
    }

    /// One pod with its sidecar; nobody calls it yet.
    pub async fn replica(&self, name: &str, behaviour: Behaviour) -> Result<Replica> {
        let app = App::start((Ipv4Addr::LOCALHOST, 0).into(), behaviour).await?;
        let bootstrap = bootstrap(name, app.address(), self.xds);
        let envoy = Envoy::start(&bootstrap, &Options::default()).await;
        let mut envoy = envoy.with_context(|| self.log())?;
        let ingress = envoy.wait_listener(INGRESS).await?;
        Ok(Replica {
            envoy,
            app,
            ingress,
        })
    }

    /// From now on these are the pods of `service`. Each has a slice, since each has another port.
    pub fn endpoints(&self, service: &str, pods: &[SocketAddr]) {
        let objects = self.server.objects();
        let name = |pod: &SocketAddr| format!("{service}-{}", pod.port());
        let wanted: Vec<_> = pods.iter().map(name).collect();
        for pod in pods {
            let labels = json!({"kubernetes.io/service-name": service});
            let metadata = json!({"namespace": NAMESPACE, "name": name(pod), "labels": labels});
            let endpoint =
                json!({"addresses": [pod.ip().to_string()], "conditions": {"ready": true}});
            let port = json!({"name": "", "port": pod.port(), "protocol": "TCP"});
            objects.apply(
                ENDPOINT_SLICE,
                json!({"metadata": metadata, "addressType": "IPv4", "endpoints": [endpoint], "ports": [port]}),
            );
        }
        for slice in objects.list(ENDPOINT_SLICE, NAMESPACE).1 {
            let there = slice["metadata"]["name"].as_str().unwrap_or_default();
            let ours = slice["metadata"]["labels"]["kubernetes.io/service-name"] == service;
            if ours && !wanted.iter().any(|name| name == there) {
                objects.delete(ENDPOINT_SLICE, NAMESPACE, there);
            }
        }
    }
}
