//! Wires every part together and runs it until shutdown. The only file that knows all of them.
//!
//! Order at shutdown: not ready, sidecar streams (their received frames are then in the store), API
//! requests, all else.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aggregator_api::view::ViewSettings;
use aggregator_api::{Api, MetricSettings, Observations};
use aggregator_core::store::Store;
use aggregator_directory::Directory;
use aggregator_ingest::Identity;
use aggregator_ledger::Ledger;
use anyhow::{Context as _, Result};
use common_budget::Limit;
use common_http::descriptors::Descriptors;
use common_http::health::ReadinessChecks;
use common_http::{Limits, Security, pages};
use common_kubernetes::Watches;
use common_time::Clock;
use common_tls::{ReloadableCert, config as tls};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::addresses::Addresses;
use crate::admin::Admin;
use crate::app::tasks::{Task, Tasks};
use crate::autoscaler_changes;
use crate::budget::Budget;
use crate::clock;
use crate::cluster::{Checks, Cluster};
use crate::config::{ClusterConfig, Config, Mode, RemoteWriteConfig};
use crate::gauges;
use crate::readiness::{Readiness, Sidecars};
use crate::reads::Reads;
use crate::remote_write::RemoteWrite;
use crate::replica::ReplicaState;

mod expiry;
mod pulse;
mod tasks;

struct Listeners {
    ingest: TcpListener,
    api: TcpListener,
    admin: TcpListener,
}

/// Runs the aggregator until `shutdown` is cancelled, then stops it in order. An error means that a
/// part could not start, or ended too early.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<()> {
    let Config {
        listen,
        mode,
        addresses_file,
        metrics,
        reads,
        replica_name,
        remote_write,
        drain,
        memory_limit,
    } = config;
    let budget = Budget::begin(&Limit::find(memory_limit), reads.autoscalers)?;
    let limits = Descriptors::raise().share([
        Limits::of(budget.ingest.connections),
        aggregator_api::server::LIMITS,
        pages::settings().limits,
    ]);
    let clock = clock::system();
    let store = Arc::new(Store::new(budget.store));
    let directory = Arc::new(Directory::default());
    let reads = Reads::open(reads, budget.ledger, &clock).await?;
    let ready_wait = mode.ready_wait();
    let environment = Environment::find(mode, &directory, &clock).await?;
    let listeners = Listeners {
        ingest: bind("--ingest-listen", listen.ingest).await?,
        api: bind("--api-listen", listen.api).await?,
        admin: bind("--admin-listen", listen.admin).await?,
    };
    let addresses = listeners.addresses()?;
    let readiness = Arc::new(Readiness::new(clock.now(), ready_wait));
    let context = AppContext {
        clock,
        store,
        directory,
        ledger: Arc::clone(&reads.ledger),
        readiness,
        budget,
    };
    let learn_pods = environment.learn_pods;
    let mut registry = Registry::with_prefix("meshmeter");
    let remote_write = context
        .remote_write(remote_write, environment.cluster.as_ref(), &mut registry)
        .await?;
    reads.register(&mut registry);
    let settings = Settings {
        metrics,
        reads,
        remote_write,
        drain,
        limits,
        replica_name,
    };
    let mut tasks = context.start(listeners, environment, registry, settings);
    if let Some(path) = addresses_file {
        addresses.write(&path).await?;
    }
    log_listening(&addresses, learn_pods, drain);
    let failure = tokio::select! {
        () = shutdown.cancelled() => None,
        ended = tasks.any_ended() => Some(ended),
    };
    tracing::info!("shutting down");
    context.readiness.drain();
    tasks.stop(drain).await;
    tracing::info!("ended");
    failure.map_or(Ok(()), Err)
}

fn log_listening(addresses: &Addresses, learn_pods: bool, drain: Duration) {
    tracing::info!(
        ingest = %addresses.ingest,
        api = %addresses.api,
        admin = %addresses.admin,
        version = env!("CARGO_PKG_VERSION"),
        pods.learnt = learn_pods,
        drain_s = drain.as_secs(),
        "listening"
    );
}

async fn bind(flag: &str, address: SocketAddr) -> Result<TcpListener> {
    // Without IPv6, the default `[::]` cannot be bound: then all IPv4 addresses.
    let mut bound = TcpListener::bind(address).await;
    if bound.is_err() && address.ip() == Ipv6Addr::UNSPECIFIED {
        bound = TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await;
    }
    bound.with_context(|| format!("{flag} {address}: cannot listen"))
}

/// TLS, identity and pods as the mode defines them: in a cluster or standalone.
struct Environment {
    tls: Arc<rustls::ServerConfig>,
    /// True if pods are learnt from `Hello`.
    learn_pods: bool,
    cluster: Option<(Cluster, Box<ClusterConfig>)>,
    identity: Identity,
    ingest_security: Security,
    /// Stops the tasks that use the cluster.
    stop: CancellationToken,
}

/// Settings for [`AppContext::start`].
struct Settings {
    metrics: MetricSettings,
    reads: Reads,
    remote_write: Option<RemoteWrite>,
    drain: Duration,
    /// Limits of connections for ingest, API and admin.
    limits: [Limits; 3],
    replica_name: String,
}

struct AppContext {
    clock: Clock,
    store: Arc<Store>,
    directory: Arc<Directory>,
    ledger: Arc<Ledger>,
    readiness: Arc<Readiness>,
    budget: Budget,
}

// === impl Listeners ===

impl Listeners {
    fn addresses(&self) -> Result<Addresses> {
        Ok(Addresses {
            ingest: self.ingest.local_addr().context("ingest listener")?,
            api: self.api.local_addr().context("API listener")?,
            admin: self.admin.local_addr().context("admin listener")?,
        })
    }
}

// === impl Environment ===

impl Environment {
    async fn find(mode: Mode, directory: &Arc<Directory>, clock: &Clock) -> Result<Self> {
        let stop = CancellationToken::new();
        match mode {
            Mode::Standalone {
                api_names,
                pods,
                autoscalers,
            } => {
                let learn_pods = pods.is_none();
                for pod in pods.into_iter().flatten() {
                    directory.upsert(pod)?;
                }
                if let Some(file) = autoscalers {
                    file.fill(directory).context("--autoscalers-file")?;
                    tokio::spawn(file.follow(Arc::clone(directory), stop.clone()));
                }
                Ok(Self {
                    tls: tls::self_signed(&api_names).context("--api-name")?,
                    learn_pods,
                    cluster: None,
                    identity: Identity::None,
                    ingest_security: Security::Plain,
                    stop,
                })
            }
            Mode::Cluster(settings) => {
                let mut cluster = Cluster::begin(&settings, directory, clock, &stop).await?;
                let (identity, ingest_security) = cluster.ingest(&settings, clock, &stop)?;
                Ok(Self {
                    identity,
                    ingest_security,
                    tls: Arc::clone(&cluster.tls),
                    learn_pods: false,
                    cluster: Some((cluster, settings)),
                    stop,
                })
            }
        }
    }
}

// === impl AppContext ===

impl AppContext {
    fn start(
        &self,
        listeners: Listeners,
        environment: Environment,
        mut registry: Registry,
        settings: Settings,
    ) -> Tasks {
        let Settings {
            metrics,
            mut reads,
            remote_write,
            drain,
            limits: [ingest_limits, api_limits, admin_limits],
            replica_name,
        } = settings;
        let connections = common_http::Metrics::register(&mut registry);
        let Listeners { ingest, api, admin } = listeners;
        let Environment {
            tls,
            learn_pods,
            cluster,
            identity,
            ingest_security,
            stop,
        } = environment;
        self.register_gauges(cluster.as_ref().map(|(cluster, _)| cluster), &mut registry);
        let observations = self.observations(&mut registry);
        let readiness =
            self.readiness_checks(cluster.as_ref().map(|(cluster, _)| cluster.checks()));
        let ingest_stop = CancellationToken::new();
        let ingest_server = self.ingest_server(
            ingest_limits.connections,
            &mut registry,
            learn_pods,
            (identity, ingest_security),
            ingest_stop.clone(),
        );
        let pulse = ingest_server.pulse();
        let registry = Arc::new(registry);
        let state = ReplicaState {
            name: replica_name,
            readiness: Arc::clone(&readiness),
            registry: Arc::clone(&registry),
            certificates: certificates(cluster.as_ref()),
        };
        let views = self.views(state, cluster.as_ref());
        let admin_server = Admin {
            store: Arc::clone(&self.store),
            clock: self.clock.clone(),
            registry,
            readiness: Arc::clone(&readiness),
            plain_streams: ingest_server.plain_streams(),
        };
        let served = self.api(readiness, observations, metrics).with_views(views);
        let api_server = self.api_server(served, tls, cluster.as_ref());
        let api_server = api_server.with_limits(api_limits);
        let (ingest_connections, api_connections) = (connections.clone(), connections.clone());
        let watches = cluster.map(|(cluster, _)| cluster.watches);
        Tasks {
            ingest: Task {
                task: tokio::spawn(async move {
                    ingest_server.serve(ingest, &ingest_connections).await;
                }),
                stop: ingest_stop,
            },
            api: Task::spawn(|stop| api_server.serve(api, api_connections, stop, drain)),
            admin: Task::spawn(|stop| admin_server.serve(admin, admin_limits, connections, stop)),
            expiry: self.expiry(learn_pods),
            pulse: Task::spawn(|stop| pulse::beat(pulse, self.clock.clone(), stop)),
            reads: Task::spawn(|stop| reads.write_until(stop)),
            remote_write: Task::spawn(|stop| write_until(remote_write, stop, drain)),
            watches: Task {
                task: tokio::spawn(watch_until(watches, stop.clone())),
                stop,
            },
        }
    }

    fn ingest_server(
        &self,
        connections: usize,
        registry: &mut Registry,
        learn_pods: bool,
        (identity, security): (Identity, Security),
        stop: CancellationToken,
    ) -> aggregator_ingest::Server {
        aggregator_ingest::Server::new(
            Arc::clone(&self.store),
            Arc::clone(&self.directory),
            self.clock.clone(),
            aggregator_ingest::Limits {
                connections,
                ..self.budget.ingest
            },
            registry,
            learn_pods,
            identity,
            security,
            stop,
        )
    }

    /// Removes gone pods, and records how autoscalers change.
    fn expiry(&self, learn_pods: bool) -> Task {
        let (store, clock) = (Arc::clone(&self.store), self.clock.clone());
        let (directory, ledger) = (Arc::clone(&self.directory), Arc::clone(&self.ledger));
        let learnt = learn_pods.then(|| Arc::clone(&directory));
        Task::spawn(|stop| {
            let record = autoscaler_changes::record(directory, ledger, clock.clone(), stop.clone());
            let expire = expiry::expire(store, learnt, clock, stop);
            async move {
                tokio::join!(expire, record);
            }
        })
    }

    fn register_gauges(&self, cluster: Option<&Cluster>, registry: &mut Registry) {
        let (store, directory) = (Arc::clone(&self.store), Arc::clone(&self.directory));
        gauges::register(registry, store, directory, self.clock.clone());
        if let Some(cluster) = cluster {
            registry.register_collector(Box::new(cluster.watches.gauges()));
            let ingest = cluster.ingest_cert.clone();
            gauges::register_certificates(registry, cluster.cert.clone(), ingest);
        }
    }

    async fn remote_write(
        &self,
        config: Option<RemoteWriteConfig>,
        cluster: Option<&(Cluster, Box<ClusterConfig>)>,
        registry: &mut Registry,
    ) -> Result<Option<RemoteWrite>> {
        let Some(config) = config else {
            return Ok(None);
        };
        let (store, directory) = (Arc::clone(&self.store), Arc::clone(&self.directory));
        let clock = self.clock.clone();
        let lease = config.lease.as_ref().zip(cluster);
        let one_writer =
            lease.map(|(lease, (cluster, settings))| cluster.one_writer(settings, lease));
        let remote_write = RemoteWrite::new(
            config,
            store,
            directory,
            clock,
            one_writer,
            self.budget.queue,
            registry,
        )
        .await?;
        Ok(Some(remote_write))
    }

    fn api(
        &self,
        readiness: ReadinessChecks,
        observations: Observations,
        metrics: MetricSettings,
    ) -> Api {
        let api = Api::new(
            Arc::clone(&self.store),
            Arc::clone(&self.directory),
            self.clock.clone(),
            readiness,
            observations,
            Arc::clone(&self.ledger),
        );
        api.with_metrics(metrics)
    }

    /// What the views of people are made from, besides the store.
    fn views(
        &self,
        state: ReplicaState,
        cluster: Option<&(Cluster, Box<ClusterConfig>)>,
    ) -> ViewSettings {
        let in_cluster = cluster.map(|(cluster, settings)| {
            let fault = cluster.autoscalers_fault(settings, &self.clock);
            (fault, cluster.peers(settings))
        });
        let (autoscalers_fault, peers) = in_cluster.unwrap_or_else(|| (Arc::new(|| None), None));
        ViewSettings {
            replica: Arc::new(move || state.document()),
            autoscalers_fault,
            peers,
        }
    }

    fn api_server(
        &self,
        mut api: Api,
        tls: Arc<rustls::ServerConfig>,
        cluster: Option<&(Cluster, Box<ClusterConfig>)>,
    ) -> aggregator_api::Server {
        let mut age = None;
        if let Some((cluster, settings)) = cluster {
            api = api.with_guard(cluster.guard(settings, &self.clock));
            age = settings.api_connection_age;
        }
        aggregator_api::Server::new(api, tls).with_connection_age_max(age)
    }

    fn observations(&self, registry: &mut Registry) -> Observations {
        let (directory, clock) = (Arc::clone(&self.directory), self.clock.clone());
        Observations::register(registry).with_autoscalers(registry, directory, clock)
    }

    fn readiness_checks(&self, cluster: Option<Checks>) -> ReadinessChecks {
        let (readiness, clock) = (Arc::clone(&self.readiness), self.clock.clone());
        let (store, directory) = (Arc::clone(&self.store), Arc::clone(&self.directory));
        Arc::new(move || {
            let now = clock.now();
            let sidecars = || match &cluster {
                None => Sidecars::Unknown,
                Some(cluster) if cluster.lists_are_missing() => Sidecars::Unlisted,
                Some(_) => {
                    let mut reporters = directory.reporters();
                    reporters.retain(|pod| !store.has_values(now, pod));
                    Sidecars::Missing(reporters)
                }
            };
            let mut checks = readiness.checks(now, sidecars);
            checks.extend(cluster.iter().flat_map(|cluster| cluster.now(now)));
            checks
        })
    }
}

/// The certificates of the listeners that have one in a cluster.
fn certificates(
    cluster: Option<&(Cluster, Box<ClusterConfig>)>,
) -> Vec<(&'static str, ReloadableCert)> {
    let Some((cluster, _)) = cluster else {
        return Vec::new();
    };
    let ingest = cluster.ingest_cert.clone().map(|cert| ("ingest", cert));
    let api = ("api", cluster.cert.clone());
    [api].into_iter().chain(ingest).collect()
}

/// Runs remote write, if it is configured, until `stop`.
async fn write_until(remote_write: Option<RemoteWrite>, stop: CancellationToken, drain: Duration) {
    match remote_write {
        Some(remote_write) => remote_write.run(stop, drain).await,
        None => stop.cancelled().await,
    }
}

/// Waits for the watches, if there are any, to end.
async fn watch_until(watches: Option<Watches>, stop: CancellationToken) {
    match watches {
        Some(watches) => watches.ended().await,
        None => stop.cancelled().await,
    }
}
