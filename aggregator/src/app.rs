//! Wires every part together and runs it until shutdown. The only file that knows all of them.
//!
//! At shutdown the order is: not ready, sidecar streams (what was received is in the store by
//! then), API requests, then the rest.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aggregator_api::{Api, MetricSettings, Observations};
use aggregator_core::store::Store;
use aggregator_directory::Directory;
use aggregator_ingest::Identity;
use anyhow::{Context as _, Result};
use common_budget::Limit;
use common_http::descriptors::Descriptors;
use common_http::health::ReadinessChecks;
use common_http::{Limits, Security, pages};
use common_kubernetes::Watches;
use common_time::Clock;
use common_tls::config as tls;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::addresses::Addresses;
use crate::admin::Admin;
use crate::app::tasks::{Task, Tasks};
use crate::budget::Budget;
use crate::clock;
use crate::cluster::{Checks, Cluster};
use crate::config::{ClusterConfig, Config, Mode, RemoteWriteConfig};
use crate::gauges;
use crate::readiness::{Readiness, Sidecars};
use crate::remote_write::RemoteWrite;

mod tasks;

/// How often pods that are long gone are forgotten.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(1);

struct Listeners {
    ingest: TcpListener,
    api: TcpListener,
    admin: TcpListener,
}

/// Runs the aggregator until `shutdown` is cancelled, then ends it in order. An error means that a
/// part could not start, or ended before it was told to.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<()> {
    let Config {
        listen,
        mode,
        addresses_file,
        metrics,
        remote_write,
        drain,
        memory_limit,
    } = config;
    let budget = Budget::begin(&Limit::find(memory_limit))?;
    let limits = Descriptors::raise().share([
        Limits::of(budget.ingest.connections),
        aggregator_api::server::LIMITS,
        pages::settings().limits,
    ]);
    let clock = clock::system();
    let store = Arc::new(Store::new(budget.store));
    let directory = Arc::new(Directory::default());
    let ready_wait = mode.ready_wait();
    let surroundings = Environment::find(mode, &directory, &clock).await?;
    let listeners = Listeners {
        ingest: bind("--ingest-listen", listen.ingest).await?,
        api: bind("--api-listen", listen.api).await?,
        admin: bind("--admin-listen", listen.admin).await?,
    };
    let addresses = listeners.addresses()?;
    let readiness = Arc::new(Readiness::new(clock.now(), ready_wait));
    let shared = AppContext {
        clock,
        store,
        directory,
        readiness,
        budget,
    };
    let learn_pods = surroundings.learn_pods;
    let mut registry = Registry::with_prefix("meshmeter");
    let remote_write = shared
        .remote_write(remote_write, surroundings.cluster.as_ref(), &mut registry)
        .await?;
    let told = Settings {
        metrics,
        remote_write,
        drain,
        limits,
    };
    let mut parts = shared.start(listeners, surroundings, registry, told);
    if let Some(path) = addresses_file {
        addresses.write(&path).await?;
    }
    say_listening(&addresses, learn_pods, drain);
    let failure = tokio::select! {
        () = shutdown.cancelled() => None,
        ended = parts.any_ended() => Some(ended),
    };
    tracing::info!("shutting down");
    shared.readiness.drain();
    parts.stop(drain).await;
    tracing::info!("ended");
    failure.map_or(Ok(()), Err)
}

fn say_listening(addresses: &Addresses, learn_pods: bool, drain: Duration) {
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

/// Every address means those of IPv4 where there is no IPv6.
async fn bind(flag: &str, address: SocketAddr) -> Result<TcpListener> {
    let mut bound = TcpListener::bind(address).await;
    if bound.is_err() && address.ip() == Ipv6Addr::UNSPECIFIED {
        bound = TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await;
    }
    bound.with_context(|| format!("{flag} {address}: cannot listen"))
}

/// What there is around: a cluster or nothing.
struct Environment {
    tls: Arc<rustls::ServerConfig>,
    /// True if pods are those of the sidecars that connect.
    learn_pods: bool,
    cluster: Option<(Cluster, Box<ClusterConfig>)>,
    identity: Identity,
    ingest_security: Security,
    /// Ends what goes on with the cluster.
    stop: CancellationToken,
}

/// What was told about several parts.
struct Settings {
    metrics: MetricSettings,
    remote_write: Option<RemoteWrite>,
    drain: Duration,
    /// Connections of ingest, API and admin.
    limits: [Limits; 3],
}

struct AppContext {
    clock: Clock,
    store: Arc<Store>,
    directory: Arc<Directory>,
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
            Mode::Standalone { api_names, pods } => {
                let learn_pods = pods.is_none();
                for pod in pods.into_iter().flatten() {
                    directory.upsert(pod)?;
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
        surroundings: Environment,
        mut registry: Registry,
        told: Settings,
    ) -> Tasks {
        let Settings {
            metrics,
            remote_write,
            drain,
            limits: [ingest_limits, api_limits, admin_limits],
        } = told;
        let connections = common_http::Metrics::register(&mut registry);
        let Listeners { ingest, api, admin } = listeners;
        let Environment {
            tls,
            learn_pods,
            cluster,
            identity,
            ingest_security,
            stop,
        } = surroundings;
        let (store, directory, clock) = (&self.store, &self.directory, &self.clock);
        self.register_gauges(cluster.as_ref().map(|(cluster, _)| cluster), &mut registry);
        let observations = Observations::register(&mut registry);
        let readiness =
            self.readiness_checks(cluster.as_ref().map(|(cluster, _)| cluster.checks()));
        let ingest_stop = CancellationToken::new();
        let ingest_server = aggregator_ingest::Server::new(
            Arc::clone(store),
            Arc::clone(directory),
            clock.clone(),
            aggregator_ingest::Limits {
                connections: ingest_limits.connections,
                ..self.budget.ingest
            },
            &mut registry,
            learn_pods,
            identity,
            ingest_security,
            ingest_stop.clone(),
        );
        let admin_server = Admin {
            store: Arc::clone(store),
            clock: clock.clone(),
            registry,
            readiness: Arc::clone(&readiness),
            plain_streams: ingest_server.plain_streams(),
        };
        let api_server = self.api_server(readiness, observations, metrics, tls, cluster.as_ref());
        let api_server = api_server.with_limits(api_limits);
        let (ingest_connections, api_connections) = (connections.clone(), connections.clone());
        Tasks {
            ingest: Task {
                task: tokio::spawn(async move {
                    ingest_server.serve(ingest, &ingest_connections).await;
                }),
                stop: ingest_stop,
            },
            api: Task::spawn(|stop| api_server.serve(api, api_connections, stop, drain)),
            admin: Task::spawn(|stop| admin_server.serve(admin, admin_limits, connections, stop)),
            expiry: Task::spawn(|stop| {
                let learnt = learn_pods.then(|| Arc::clone(directory));
                expire(Arc::clone(store), learnt, clock.clone(), stop)
            }),
            remote_write: Task::spawn(|stop| write_until(remote_write, stop, drain)),
            watches: Task {
                task: tokio::spawn(watch_until(
                    cluster.map(|(cluster, _)| cluster.watches),
                    stop.clone(),
                )),
                stop,
            },
        }
    }

    fn register_gauges(&self, cluster: Option<&Cluster>, registry: &mut Registry) {
        let (store, directory) = (Arc::clone(&self.store), Arc::clone(&self.directory));
        gauges::register(registry, store, directory, self.clock.clone());
        if let Some(cluster) = cluster {
            registry.register_collector(Box::new(cluster.watches.gauges()));
            let ingest = cluster.ingest_serving.clone();
            gauges::register_certificates(registry, cluster.serving.clone(), ingest);
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
        let one = lease.map(|(lease, (cluster, settings))| cluster.one_writer(settings, lease));
        let made = RemoteWrite::new(
            config,
            store,
            directory,
            clock,
            one,
            self.budget.queue,
            registry,
        )
        .await?;
        Ok(Some(made))
    }

    fn api_server(
        &self,
        readiness: ReadinessChecks,
        observations: Observations,
        metrics: MetricSettings,
        tls: Arc<rustls::ServerConfig>,
        cluster: Option<&(Cluster, Box<ClusterConfig>)>,
    ) -> aggregator_api::Server {
        let mut api = Api::new(
            Arc::clone(&self.store),
            Arc::clone(&self.directory),
            self.clock.clone(),
            readiness,
            observations,
        )
        .with_metrics(metrics);
        let mut age = None;
        if let Some((cluster, settings)) = cluster {
            api = api.with_guard(cluster.guard(settings, &self.clock));
            age = settings.api_connection_age;
        }
        aggregator_api::Server::new(api, tls).with_connection_age_max(age)
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

/// Writes, if there is anywhere to write to, until it is told to end.
async fn write_until(remote_write: Option<RemoteWrite>, stop: CancellationToken, drain: Duration) {
    match remote_write {
        Some(remote_write) => remote_write.run(stop, drain).await,
        None => stop.cancelled().await,
    }
}

/// Waits for the watches, if there are any, to be told to end.
async fn watch_until(watches: Option<Watches>, stop: CancellationToken) {
    match watches {
        Some(watches) => watches.ended().await,
        None => stop.cancelled().await,
    }
}

/// Forgets what is long gone; pods `learnt` from sidecars are then no longer known either.
async fn expire(
    store: Arc<Store>,
    learnt: Option<Arc<Directory>>,
    clock: Clock,
    stop: CancellationToken,
) {
    let mut ticks = tokio::time::interval(EXPIRE_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let forgotten = store.expire(clock.now());
        if let Some(directory) = &learnt {
            for pod in &forgotten {
                directory.remove(pod);
            }
        }
    }
}
