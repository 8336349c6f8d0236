//! Watches custom resources, services, slices and pods of a Kubernetes cluster.
//!
//! ```text
//! watches -> cache (bounded) -> build: meshes, addresses of their workloads -> server
//!                                  └─> conditions -> writer: conditions in the status, Events
//! ```
//!
//! Nothing is served before every list was read once: half a mesh would remove the other half from
//! Envoys that have it. From then on the cache is served, even while kube-apiserver is down.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use common_kubernetes::watches::WatchGauges;
use common_kubernetes::{ClusterError, Scope, Watches, connection};
use common_time::Clock;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::events;
use crate::mesh::{AcmMap, Endpoints, Key, Mesh, Meshes, RefusedObject};
use crate::metrics::{Limit, Metrics};
use crate::resources::{Kind, ServiceDiscovery};
use cache::{CustomTable, Namespaces, Pods, ResourceCache, Services, Slices, State};
use cloud_map::Instances;
use conditions::ServedConditions;
pub use endpoints::service_of;
use endpoints::{ENDPOINTS_MAX, SERVICE_LABEL};
use objects::Slice;
use writer::Writer;

mod cache;
mod cloud_map;
mod conditions;
mod endpoints;
mod objects;
mod writer;

/// Debounce of rebuilds: a rollout changes a slice many times a second.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// Interval of checks for complete lists at the start.
const CHECK_EVERY: Duration = Duration::from_millis(50);

/// Namespaces that are watched individually at most, by nine watches each. For more, watch the
/// whole Kubernetes cluster.
pub const NAMESPACES_MAX: usize = 50;

#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `None` uses the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// Empty watches all namespaces.
    pub namespaces: Vec<String>,
    pub purpose: Purpose,
    pub acm: AcmMap,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Purpose {
    /// Serve its meshes, and write a condition into the status of each resource.
    #[default]
    Serve,
    /// Find the workload of a pod. Routes, services and endpoints are not read, and nothing is
    /// written.
    LookUp,
}

/// A watched Kubernetes cluster.
pub struct Cluster {
    /// Empty until [`Cluster::missing`] returns `None`.
    pub meshes: watch::Receiver<Arc<Meshes>>,
    watches: Watches,
    built: watch::Receiver<bool>,
}

/// Builds meshes from the cache.
struct Builder {
    cache: Arc<ResourceCache>,
    purpose: Purpose,
    metrics: Metrics,
    meshes: watch::Sender<Arc<Meshes>>,
    conditions: watch::Sender<Arc<ServedConditions>>,
    /// [`State::revision`] of the built meshes.
    revision: Option<u64>,
    refused: Vec<RefusedObject>,
}

// === impl Cluster ===

impl Cluster {
    /// Starts the watches, which run until `stop`. kube-apiserver need not be reachable yet.
    pub async fn start(
        options: &Options,
        metrics: &Metrics,
        clock: &Clock,
        stop: &CancellationToken,
    ) -> Result<Self, ClusterError> {
        let client = connection::connect(options.kubeconfig.as_deref()).await?;
        let cache = Arc::new(ResourceCache::new(metrics.clone()));
        let mut watches = Watches::new(client.clone(), clock.clone(), stop.clone());
        match options.purpose {
            Purpose::Serve => watch_all(&mut watches, &cache, &options.namespaces),
            Purpose::LookUp => watch_nodes(&mut watches, &cache, &options.namespaces),
        }
        let (meshes, served) = watch::channel(Arc::new(Meshes::with_acm(options.acm.clone())));
        let (conditions, to_write) = watch::channel(Arc::default());
        let (built, is_built) = watch::channel(false);
        let builder = Builder {
            cache: Arc::clone(&cache),
            purpose: options.purpose,
            metrics: metrics.clone(),
            meshes,
            conditions,
            revision: None,
            refused: Vec::new(),
        };
        let missing = watches.missing();
        let building = builder.run(missing, built);
        tokio::spawn(stop.clone().run_until_cancelled_owned(building));
        if options.purpose == Purpose::Serve {
            let writer = Writer::new(client, cache, to_write, metrics.clone(), clock.clone());
            tokio::spawn(stop.clone().run_until_cancelled_owned(writer.run()));
        }
        Ok(Self {
            meshes: served,
            watches,
            built: is_built,
        })
    }

    /// Why nothing can be served yet; `None` once it can.
    pub fn missing(&self) -> impl Fn() -> Option<String> + Send + Sync + 'static {
        let (missing, built) = (self.watches.missing(), self.built.clone());
        move || {
            let building = || (!*built.borrow()).then(|| "the meshes are being built".to_owned());
            missing().or_else(building)
        }
    }

    /// Waits until meshes are built; false if the builder ended before.
    pub async fn ready(&self) -> bool {
        self.built.clone().wait_for(|built| *built).await.is_ok()
    }

    pub fn gauges(&self) -> WatchGauges {
        self.watches.gauges()
    }

    /// Waits until the watches end: after `stop`, or by a bug.
    pub async fn ended(self) {
        self.watches.ended().await;
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("Cluster");
        debug
            .field("watches", &self.watches)
            .finish_non_exhaustive()
    }
}

fn watch_all(watches: &mut Watches, cache: &Arc<ResourceCache>, namespaces: &[String]) {
    let custom = |kind| CustomTable {
        kind,
        cache: Arc::clone(cache),
    };
    watches.follow(custom(Kind::Mesh), Scope::All);
    watches.follow(Namespaces(Arc::clone(cache)), Scope::All);
    for scope in scopes(namespaces) {
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Mesh) {
            watches.follow(custom(kind), scope.clone());
        }
        watches.follow(Services(Arc::clone(cache)), scope.clone());
        watches.follow(Slices(Arc::clone(cache)), scope.clone());
        watches.follow(Pods(Arc::clone(cache)), scope);
    }
}

/// Watches virtual nodes and gateways, and meshes and namespaces, by which those belong to one.
fn watch_nodes(watches: &mut Watches, cache: &Arc<ResourceCache>, namespaces: &[String]) {
    let custom = |kind| CustomTable {
        kind,
        cache: Arc::clone(cache),
    };
    watches.follow(custom(Kind::Mesh), Scope::All);
    watches.follow(Namespaces(Arc::clone(cache)), Scope::All);
    for scope in scopes(namespaces) {
        watches.follow(custom(Kind::VirtualNode), scope.clone());
        watches.follow(custom(Kind::VirtualGateway), scope);
    }
}

fn scopes(namespaces: &[String]) -> Vec<Scope> {
    if namespaces.is_empty() {
        return vec![Scope::All];
    }
    let watched = namespaces.iter().take(NAMESPACES_MAX);
    watched.cloned().map(Scope::Namespace).collect()
}

// === impl Builder ===

impl Builder {
    async fn run(
        mut self,
        missing: impl Fn() -> Option<String> + Send + Sync,
        built: watch::Sender<bool>,
    ) {
        while missing().is_some() {
            sleep(CHECK_EVERY).await;
        }
        loop {
            self.build();
            built.send_replace(true);
            self.cache.changed.notified().await;
            sleep(DEBOUNCE).await;
        }
    }

    fn build(&mut self) {
        let state = self.cache.state();
        let before = Arc::clone(&self.meshes.borrow());
        // Pods come and go far more often than resources change: then only endpoints are rebuilt.
        let resources_changed = self.revision != Some(state.revision);
        let mut meshes = if resources_changed {
            self.resources(&state, &before)
        } else {
            Meshes::clone(&before)
        };
        let mut changed = resources_changed;
        let slices = by_service(&state);
        for mesh in meshes.iter_mut() {
            let endpoints = self.endpoints(mesh, &state, &slices);
            changed |= endpoints != mesh.endpoints;
            mesh.endpoints = endpoints;
        }
        if changed {
            self.meshes.send_replace(Arc::new(meshes));
        }
    }

    fn resources(&mut self, state: &State, before: &Meshes) -> Meshes {
        let custom = state.custom.values().map(|entry| &entry.document);
        let namespaces = state.namespaces.values().map(|document| &**document);
        let (meshes, refused) = Meshes::of(custom.chain(namespaces), before);
        self.revision = Some(state.revision);
        if self.purpose == Purpose::LookUp {
            self.warn_unknown(&meshes, refused);
            return meshes;
        }
        self.metrics.resources(&meshes, &refused);
        events::log(&meshes, &refused, &self.refused);
        let conditions = conditions::of(state, &refused);
        self.conditions.send_replace(Arc::new(conditions));
        self.refused = refused;
        meshes
    }

    /// Warns of refused virtual nodes and gateways. Other refusals may be caused by resources that
    /// are not read for this purpose.
    fn warn_unknown(&mut self, meshes: &Meshes, refused: Vec<RefusedObject>) {
        let is_unknown = |refused: &RefusedObject| {
            let Some((kind @ (Kind::VirtualNode | Kind::VirtualGateway), key)) = &refused.object
            else {
                return false;
            };
            !meshes.serves(*kind, key)
        };
        let refused: Vec<_> = refused.into_iter().filter(is_unknown).collect();
        for refused in refused.iter().filter(|new| !self.refused.contains(new)) {
            tracing::warn!(
                resource = refused.what,
                reason = refused.why,
                "pods that it selects have no VirtualNode or VirtualGateway"
            );
        }
        self.refused = refused;
    }

    /// Endpoints of all workloads whose host name is that of a Kubernetes service, and of those
    /// with `awsCloudMap`.
    fn endpoints(
        &self,
        mesh: &Mesh,
        state: &State,
        slices: &BTreeMap<Key, Vec<&Slice>>,
    ) -> BTreeMap<Key, Endpoints> {
        let mut endpoints = BTreeMap::new();
        let instances = Instances::of(mesh, &state.pods);
        for (key, node) in mesh.nodes.iter() {
            if let Some(mut of_pods) = instances.endpoints(mesh, node) {
                for all in of_pods.values_mut() {
                    self.limit(all);
                }
                endpoints.insert(key.clone(), of_pods);
                continue;
            }
            let discovery = node.service_discovery.as_ref();
            let dns = discovery.and_then(ServiceDiscovery::dns);
            let Some(name) = dns.and_then(|dns| service_of(&dns.hostname)) else {
                continue;
            };
            let Some(service) = state.services.get(&name) else {
                continue;
            };
            let slices = slices.get(&name).map_or(&[][..], Vec::as_slice);
            let by_port = node.listeners.iter().filter_map(|listener| {
                let port = listener.port_mapping.port;
                let mut addresses = endpoints::addresses(service, slices, port)?;
                self.limit(&mut addresses);
                Some((port, addresses))
            });
            endpoints.insert(key.clone(), by_port.collect());
        }
        endpoints
    }

    fn limit(&self, addresses: &mut Vec<SocketAddr>) {
        if addresses.len() > ENDPOINTS_MAX {
            addresses.truncate(ENDPOINTS_MAX);
            self.metrics.over_limit(Limit::Endpoints);
        }
    }
}

fn by_service(state: &State) -> BTreeMap<Key, Vec<&Slice>> {
    let mut by_service: BTreeMap<_, Vec<&Slice>> = BTreeMap::new();
    for slice in state.slices.values() {
        let metadata = &slice.metadata;
        if let Some(service) = metadata.labels.get(SERVICE_LABEL) {
            let key = Key::new(&metadata.namespace, service);
            by_service.entry(key).or_default().push(slice);
        }
    }
    by_service
}
