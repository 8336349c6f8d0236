//! Wires every part together and runs it until shutdown. The only file that knows all of them.
//!
//! At shutdown the order is: not ready, sidecar streams (what was received is in the store by then), API
//! requests, then the rest.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aggregator_api::health::ReadinessChecks;
use aggregator_api::{Api, MetricSettings, Observations, tls};
use aggregator_core::directory::Directory;
use aggregator_core::limits::StoreLimits;
use aggregator_core::store::Store;
use aggregator_core::time::Clock;
use anyhow::{Context as _, Result, anyhow};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::addresses::Addresses;
use crate::admin::Admin;
use crate::clock;
use crate::config::Config;
use crate::gauges;
use crate::readiness::Readiness;

/// How often pods that are long gone are forgotten.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(1);

/// The open listeners.
struct Listeners {
    ingest: TcpListener,
    api: TcpListener,
    admin: TcpListener,
}

/// The running parts: each a task, and the token that ends it.
struct Parts {
    ingest: Part<Result<(), aggregator_ingest::ServeError>>,
    api: Part<()>,
    admin: Part<()>,
    expiry: Part<()>,
}

struct Part<T> {
    task: JoinHandle<T>,
    stop: CancellationToken,
}

/// Runs the aggregator until `shutdown` is cancelled, then ends it in order. An error means that a part could
/// not start, or ended before it was told to.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<()> {
    let Config {
        ingest_listen,
        api_listen,
        admin_listen,
        api_names,
        addresses_file,
        pods,
        metrics,
        drain,
    } = config;
    let clock = clock::system();
    let store = Arc::new(Store::new(StoreLimits::default()));
    let directory = Arc::new(Directory::default());
    let learn_pods = pods.is_none();
    for pod in pods.into_iter().flatten() {
        directory.upsert(pod)?;
    }
    let tls = tls::self_signed(&api_names).context("--api-name")?;
    let listeners = Listeners {
        ingest: listen("--ingest-listen", ingest_listen).await?,
        api: listen("--api-listen", api_listen).await?,
        admin: listen("--admin-listen", admin_listen).await?,
    };
    let addresses = listeners.addresses()?;
    let readiness = Arc::new(Readiness::new(clock()));
    let shared = Shared {
        clock,
        store,
        directory,
        readiness,
    };
    let mut parts = shared.start(listeners, tls, learn_pods, metrics, drain);
    if let Some(path) = addresses_file {
        addresses.write(&path).await?;
    }
    tracing::info!(
        ingest = %addresses.ingest,
        api = %addresses.api,
        admin = %addresses.admin,
        version = env!("CARGO_PKG_VERSION"),
        pods.learnt = learn_pods,
        drain_s = drain.as_secs(),
        "listening"
    );
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

async fn listen(flag: &str, address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("{flag} {address}: cannot listen"))
}

/// What several parts use.
struct Shared {
    clock: Clock,
    store: Arc<Store>,
    directory: Arc<Directory>,
    readiness: Arc<Readiness>,
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

// === impl Shared ===

impl Shared {
    fn start(
        &self,
        listeners: Listeners,
        tls: Arc<rustls::ServerConfig>,
        learn_pods: bool,
        metrics: MetricSettings,
        drain: Duration,
    ) -> Parts {
        let Listeners { ingest, api, admin } = listeners;
        let mut registry = Registry::with_prefix("meshmeter");
        let (store, directory, clock) = (&self.store, &self.directory, &self.clock);
        gauges::register(
            &mut registry,
            Arc::clone(store),
            Arc::clone(directory),
            Arc::clone(clock),
        );
        let observations = Observations::register(&mut registry);
        let readiness = self.readiness_checks();
        let ingest_stop = CancellationToken::new();
        let ingest_server = aggregator_ingest::Server::new(
            Arc::clone(store),
            Arc::clone(directory),
            Arc::clone(clock),
            aggregator_ingest::Limits::default(),
            &mut registry,
            learn_pods,
            ingest_stop.clone(),
        );
        let api_server = aggregator_api::Server::new(
            Api::new(
                Arc::clone(store),
                Arc::clone(directory),
                Arc::clone(clock),
                Arc::clone(&readiness),
                observations,
            )
            .with_metrics(metrics),
            tls,
        );
        let admin_server = Admin {
            store: Arc::clone(store),
            clock: Arc::clone(clock),
            registry,
            readiness,
        };
        Parts {
            ingest: Part {
                task: tokio::spawn(ingest_server.serve(ingest)),
                stop: ingest_stop,
            },
            api: Part::spawn(|stop| api_server.serve(api, stop, drain)),
            admin: Part::spawn(|stop| admin_server.serve(admin, stop)),
            expiry: Part::spawn(|stop| {
                let learnt = learn_pods.then(|| Arc::clone(directory));
                expire(Arc::clone(store), learnt, Arc::clone(clock), stop)
            }),
        }
    }

    fn readiness_checks(&self) -> ReadinessChecks {
        let (readiness, clock) = (Arc::clone(&self.readiness), Arc::clone(&self.clock));
        Arc::new(move || readiness.checks(clock()))
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
        let forgotten = store.expire(clock());
        if let Some(directory) = &learnt {
            for pod in &forgotten {
                directory.remove(pod);
            }
        }
    }
}

// === impl Parts ===

impl Parts {
    /// Waits for a part to end that nobody told to; says which and why.
    async fn any_ended(&mut self) -> anyhow::Error {
        tokio::select! {
            ended = &mut self.ingest.task => match ended {
                Ok(Err(error)) => anyhow!(error).context("ingest ended"),
                Ok(Ok(())) => anyhow!("ingest ended before it was told to"),
                Err(error) => died("ingest", error),
            },
            ended = &mut self.api.task => ended_early("API", ended),
            ended = &mut self.admin.task => ended_early("admin", ended),
            ended = &mut self.expiry.task => ended_early("expiry", ended),
        }
    }

    /// Ends all parts in order; each has `drain`, then it is cut.
    async fn stop(self, drain: Duration) {
        let Self {
            ingest,
            api,
            admin,
            expiry,
        } = self;
        ingest.stop("ingest", drain).await;
        // The API keeps to `drain` itself; the rest is for cutting what is left.
        api.stop("API", drain + Duration::from_secs(1)).await;
        expiry.stop("expiry", drain).await;
        admin.stop("admin", drain).await;
    }
}

// === impl Part ===

impl Part<()> {
    fn spawn<F>(make: impl FnOnce(CancellationToken) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = CancellationToken::new();
        Self {
            task: tokio::spawn(make(stop.clone())),
            stop,
        }
    }
}

impl<T> Part<T> {
    async fn stop(mut self, name: &'static str, deadline: Duration) {
        self.stop.cancel();
        if self.task.is_finished() {
            return;
        }
        if tokio::time::timeout(deadline, &mut self.task)
            .await
            .is_err()
        {
            tracing::warn!(part = name, "cut at shutdown");
            self.task.abort();
        }
    }
}

fn ended_early(part: &'static str, ended: Result<(), JoinError>) -> anyhow::Error {
    match ended {
        Ok(()) => anyhow!("{part} ended before it was told to"),
        Err(error) => died(part, error),
    }
}

fn died(part: &'static str, error: JoinError) -> anyhow::Error {
    anyhow!(error).context(format!("{part} died"))
}
