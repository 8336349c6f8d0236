//! djapp as App Mesh has it: custom resources, a control plane that serves them, an xDS proxy
//! beside each sidecar, stock Envoys that know nothing of either.

pub mod cluster;
pub mod configuration;
pub mod corpus;
pub mod dump;
pub mod gateway;
pub mod grpc;
pub mod manifests;
pub mod plain;
pub mod sds;
pub mod split;
pub mod versions;
pub mod xds_proxy;

pub use self::xds_proxy::XdsProxy;

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests_support::aggregator::{Aggregator, Options as AggregatorOptions, PodState};
use tests_support::artifacts::{self, Module};
use tests_support::clock;
use tests_support::djapp::{App, Behaviour};
use tests_support::envoy::{Envoy, Options};
use tests_support::process::Process;
use versions::Version;

pub const NAMESPACE: &str = "prod";
/// The listener towards the application.
pub const INGRESS: &str = "lds_ingress_0.0.0.0_15000";
/// The listener of the application's own requests.
pub const EGRESS: &str = "lds_egress_0.0.0.0_15001";

/// The name by which dj calls jazz.
const JAZZ: &str = "jazz.prod.svc.cluster.local";

/// Longest time until a process listens.
const START_MAX: Duration = Duration::from_secs(30);
/// Longest time from SIGTERM to the end.
const STOP_MAX: Duration = Duration::from_secs(20);

/// The injected configuration of a sidecar.
#[derive(Clone, Debug)]
pub struct Modules {
    /// Module of the role `filter`.
    pub filter: PathBuf,
    /// Module of the role `upstream_log`.
    pub log: Option<PathBuf>,
}

/// The mesh without its pods: manifests and control plane.
#[derive(Debug)]
pub struct Mesh {
    folder: TempDir,
    endpoints: BTreeMap<String, Vec<SocketAddr>>,
    process: Process,
    control_plane: SocketAddr,
    /// The Envoy of its sidecars; `None`: the default one.
    pub envoy: Option<PathBuf>,
    /// The socket of an SDS server, in the bootstrap of its sidecars.
    pub sds: Option<PathBuf>,
}

/// djapp: dj calls jazz, of which there are two versions.
#[derive(Debug)]
pub struct Djapp {
    pub mesh: Mesh,
    pub aggregator: Aggregator,
    pub dj: Pod,
    /// Who is called: versions 1 and 2.
    pub jazz: [Pod; 2],
}

#[derive(Debug)]
pub struct Pod {
    /// Its name, and that of its virtual node.
    pub name: String,
    pub envoy: Envoy,
    pub app: App,
    /// The xDS proxy between sidecar and control plane.
    pub xds_proxy: Option<XdsProxy>,
}

// === impl Modules ===

impl Modules {
    pub fn built() -> Result<Self> {
        Ok(Self {
            filter: Module::Filter.path()?,
            log: Some(Module::Log.path()?),
        })
    }
}

// === impl Mesh ===

impl Mesh {
    /// The mesh of djapp, with these weights of jazz's two versions.
    pub async fn start(weights: (u32, u32)) -> Result<Self> {
        let folder = TempDir::new()?;
        let manifests = folder.path().join("manifests");
        fs::create_dir(&manifests)?;
        fs::write(manifests.join("djapp.yaml"), manifests::djapp(weights))?;
        // Nobody's name is asked for: metal is in the manifests and has no pods.
        let metal =
            ["metal-v1", "metal-v2"].map(|name| (format!("{NAMESPACE}/{name}"), Vec::new()));
        let endpoints = BTreeMap::from(metal);
        fs::write(
            folder.path().join("endpoints.yaml"),
            serde_json::to_string(&endpoints)?,
        )?;
        let addresses = folder.path().join("addresses.json");
        let text = |path: &Path| path.display().to_string();
        let arguments = [
            "control-plane".to_owned(),
            "--listen=127.0.0.1:0".to_owned(),
            "--admin-listen=127.0.0.1:0".to_owned(),
            format!("--manifests={}", text(&manifests)),
            format!(
                "--endpoints-file={}",
                text(&folder.path().join("endpoints.yaml"))
            ),
            format!("--addresses-file={}", text(&addresses)),
        ];
        let log = folder.path().join("control-plane.log");
        let mut process = Process::spawn(&artifacts::mesh()?, &arguments, &[], &log)?;
        let listens = addresses_of(&mut process, &addresses).await?;
        Ok(Self {
            folder,
            endpoints,
            control_plane: listens["xds"].as_str().context("an address")?.parse()?,
            process,
            envoy: None,
            sds: None,
        })
    }

    /// The mesh of `manifest` in place of djapp, with this Envoy.
    pub async fn of(version: Version, manifest: &str) -> Result<Self> {
        let mut mesh = Self::start((1, 1)).await?;
        mesh.envoy = version.binary()?;
        mesh.add("djapp.yaml", manifest)?;
        Ok(mesh)
    }

    pub async fn lose_control_plane(&mut self) -> Result<()> {
        self.process.kill().await
    }

    pub fn add(&self, name: &str, manifest: &str) -> Result<()> {
        let file = self.folder.path().join("manifests").join(name);
        Ok(fs::write(file, manifest)?)
    }

    /// The pods of a virtual node, by the addresses of their sidecars.
    pub fn set_endpoints(&mut self, node: &str, addresses: &[SocketAddr]) -> Result<()> {
        let key = format!("{NAMESPACE}/{node}");
        self.endpoints.insert(key, addresses.to_vec());
        let endpoints = serde_json::to_string(&self.endpoints)?;
        Ok(fs::write(
            self.folder.path().join("endpoints.yaml"),
            endpoints,
        )?)
    }

    /// Address of the control plane.
    pub fn control_plane(&self) -> SocketAddr {
        self.control_plane
    }

    /// From now on these weights.
    pub fn shift(&self, weights: (u32, u32)) -> Result<()> {
        let file = self.folder.path().join("manifests/djapp.yaml");
        Ok(fs::write(file, manifests::djapp(weights))?)
    }

    /// The xDS proxy of a pod, if it has one, and where its Envoy's configuration comes from.
    async fn xds(
        &self,
        name: &str,
        through: Option<(&Modules, SocketAddr)>,
    ) -> Result<(Option<XdsProxy>, SocketAddr)> {
        let Some((modules, aggregator)) = through else {
            return Ok((None, self.control_plane));
        };
        let proxy = XdsProxy::start(name, self.control_plane, aggregator, modules).await?;
        let xds = proxy.xds;
        Ok((Some(proxy), xds))
    }

    /// Starts the pod `name` with its sidecar, configured by the xDS proxy, or without one by the
    /// control plane.
    pub async fn pod(
        &mut self,
        name: &str,
        behaviour: Behaviour,
        through: Option<(&Modules, SocketAddr)>,
    ) -> Result<Pod> {
        let app = App::start((Ipv4Addr::LOCALHOST, 0).into(), behaviour).await?;
        let (xds_proxy, xds) = self.xds(name, through).await?;
        let mut bootstrap = bootstrap(name, app.address(), xds);
        if let Some(socket) = &self.sds {
            sds::add(&mut bootstrap, socket)?;
        }
        let options = Options {
            binary: self.envoy.clone(),
            ..Options::default()
        };
        let envoy = Envoy::start(&bootstrap, &options).await;
        let log = xds_proxy.as_ref().map(XdsProxy::log_tail);
        let mut envoy = envoy.with_context(|| format!("the xDS proxy's log ends:\n{log:?}"))?;
        let ingress = envoy.wait_listener(INGRESS).await?;
        self.set_endpoints(name, &[ingress])?;
        Ok(Pod {
            name: name.to_owned(),
            envoy,
            app,
            xds_proxy,
        })
    }
}

// === impl Djapp ===

impl Djapp {
    /// All of it, with these weights of jazz's versions.
    pub async fn start(weights: (u32, u32)) -> Result<Self> {
        Self::start_on(None, weights).await
    }

    /// The same with this Envoy in the sidecars.
    pub async fn start_on(envoy: Option<PathBuf>, weights: (u32, u32)) -> Result<Self> {
        let aggregator = Aggregator::start(&AggregatorOptions::default()).await?;
        let modules = Modules::built()?;
        let through = Some((&modules, aggregator.ingest()));
        let mut mesh = Mesh::start(weights).await?;
        mesh.envoy = envoy;
        let jazz = [
            mesh.pod("jazz-v1", Behaviour::jazz_v1(), through).await?,
            mesh.pod("jazz-v2", Behaviour::jazz_v1(), through).await?,
        ];
        let calls = Behaviour::dj().calling(vec![JAZZ.to_owned()]);
        let mut dj = mesh.pod("dj", calls, through).await?;
        dj.app.set_outbound(dj.envoy.wait_listener(EGRESS).await?);
        aggregator.wait_ready().await?;
        Ok(Self {
            mesh,
            aggregator,
            dj,
            jazz,
        })
    }

    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        std::iter::once(&self.dj).chain(&self.jazz)
    }

    /// Requests of dj that reached each version of jazz, by the counters of dj's Envoy; health
    /// checks are not among them.
    pub async fn calls(&self) -> Result<(u64, u64)> {
        let stats = self.dj.envoy.stats().await?;
        let of = |pod: &Pod| {
            let cluster = format!("cds_egress_dj-app_{}_{NAMESPACE}_http_9080", pod.name);
            stats.get(&format!("cluster.{cluster}.upstream_rq_total"))
        };
        let [first, second] = &self.jazz;
        Ok((of(first), of(second)))
    }

    /// Ends all processes in order, and waits.
    pub async fn stop(&mut self) -> Result<()> {
        for pod in std::iter::once(&mut self.dj).chain(&mut self.jazz) {
            pod.envoy.terminate().await?;
            if let Some(xds_proxy) = &mut pod.xds_proxy {
                xds_proxy.terminate().await?;
            }
        }
        self.aggregator.terminate().await?;
        Ok(())
    }
}

// === impl Pod ===

impl Pod {
    /// Requests that Envoy itself has counted at the listener towards the application.
    pub async fn counted_by_envoy(&self) -> Result<u64> {
        let stats = self.envoy.stats().await?;
        Ok(stats.get("http.ingress.downstream_rq_total"))
    }

    /// The aggregator's state of it.
    pub async fn state(&self, aggregator: &Aggregator) -> Result<Option<PodState>> {
        let pods = aggregator.pods().await?;
        Ok(pods.find(NAMESPACE, &self.name).cloned())
    }

    /// Waits until the aggregator has exactly what Envoy has counted.
    pub async fn is_exact(&self, aggregator: &Aggregator) -> Result<u64> {
        let what = format!("exact totals of {}", self.name);
        clock::wait_for(&what, START_MAX, async || {
            let counted = self.counted_by_envoy().await?;
            let state = self.state(aggregator).await?;
            let counted_now = state.and_then(|state| state.requests("inbound"));
            Ok((counted_now == Some(counted)).then_some(counted))
        })
        .await
        .with_context(|| aggregator.log_tail())
    }
}

async fn addresses_of(process: &mut Process, file: &Path) -> Result<Value> {
    clock::wait_for("addresses", START_MAX, async || {
        process.check_running()?;
        let text = fs::read(file).ok();
        Ok(text.map(|text| serde_json::from_slice(&text)).transpose()?)
    })
    .await
}

/// A cluster of a bootstrap: a gRPC server at this address.
pub(crate) fn grpc_cluster(name: &str, address: &Value) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            },
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    })
}

/// The bootstrap of a stock sidecar: its node and where its configuration comes from.
pub fn bootstrap(pod: &str, application: SocketAddr, xds: SocketAddr) -> Value {
    let any = "127.0.0.1:0";
    let ads = json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"});
    json!({
        "node": {
            "id": format!("mesh/dj-app/virtualNode/{pod}_{NAMESPACE}"),
            "cluster": format!("mesh/dj-app/virtualNode/{pod}_{NAMESPACE}"),
            "metadata": {
                "meshmeter.ingress": any,
                "meshmeter.egress": any,
                "meshmeter.application": application.to_string(),
            },
        },
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "meshmeter_xds"}}],
            },
            "lds_config": ads,
            "cds_config": ads,
        },
        "static_resources": {
            "clusters": [grpc_cluster("meshmeter_xds", &json!({"socket_address": {
                "address": xds.ip().to_string(),
                "port_value": xds.port(),
            }}))],
        },
    })
}
