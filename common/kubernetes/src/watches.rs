//! All watches of a program, with their readiness check and metrics.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common_time::{Clock, Monotonic};
use kube::Client;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::configuration::{AuthenticationConfig, ConfigIndex};
use crate::index::Index;
use crate::scope::Scope;
use crate::watch::{Watch, WatchState};

/// Namespaces that can be watched one by one, with six watches each; for more, watch the cluster.
pub const NAMESPACES_MAX: usize = 50;

/// The watches of one cluster, which run until `stop` is cancelled.
pub struct Watches {
    states: Vec<Arc<WatchState>>,
    /// Those of `states` that readiness depends on.
    needed: Vec<Arc<WatchState>>,
    clock: Clock,
    client: Client,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

/// Metrics of the watches.
pub struct WatchGauges {
    states: Vec<Arc<WatchState>>,
    clock: Clock,
}

// === impl Watches ===

impl Watches {
    pub fn new(client: Client, clock: Clock, stop: CancellationToken) -> Self {
        Self {
            states: Vec::new(),
            needed: Vec::new(),
            clock,
            client,
            tasks: JoinSet::new(),
            stop,
        }
    }

    /// Starts to watch how clients of an aggregated API are authenticated.
    pub fn follow_authentication(&mut self) -> AuthenticationConfig {
        let (index, config) = ConfigIndex::new();
        self.follow(index, ConfigIndex::scope());
        config
    }

    /// Starts a watch that updates `index`.
    pub fn follow<T: Index>(&mut self, index: T, scope: Scope) {
        let state = Arc::new(WatchState::new(index.name(), &scope, self.clock.now()));
        self.states.push(Arc::clone(&state));
        if index.is_needed() {
            self.needed.push(Arc::clone(&state));
        }
        let watch = Watch {
            client: self.client.clone(),
            index: Arc::new(index),
            scope,
            state,
            clock: self.clock.clone(),
        };
        self.tasks.spawn(watch.run(self.stop.clone()));
    }

    /// A readiness check: returns the first fault of a watch, `None` while all are current.
    pub fn fault(&self) -> impl Fn(Monotonic) -> Option<String> + Send + Sync + 'static {
        let states = self.needed.clone();
        move |now| states.iter().find_map(|state| state.fault(now))
    }

    /// Returns the first fault of the watches with this name, whether readiness depends on them or
    /// not; `None` while their objects are current.
    pub fn fault_of(
        &self,
        name: &'static str,
    ) -> impl Fn(Monotonic) -> Option<String> + Send + Sync + 'static {
        let mut states = self.states.clone();
        states.retain(|state| state.name() == name);
        move |now| {
            let mut faults = states
                .iter()
                .filter_map(|state| state.absence().or_else(|| state.fault(now)));
            faults.next()
        }
    }

    /// Returns how far the objects of the watches with this name lag behind at most.
    pub fn lag_of(
        &self,
        name: &'static str,
    ) -> impl Fn(Monotonic) -> Duration + Send + Sync + 'static {
        let mut states = self.states.clone();
        states.retain(|state| state.name() == name);
        move |now| {
            let lags = states.iter().map(|state| state.lag(now));
            // Nobody watches them, so they are as old as can be.
            lags.max().unwrap_or(Duration::MAX)
        }
    }

    /// A readiness check: returns the first list still missing; `None` once all are complete. It
    /// then stays `None`: listed objects are served even while the API server is unreachable.
    pub fn missing(&self) -> impl Fn() -> Option<String> + Send + Sync + 'static {
        let states = self.needed.clone();
        move || states.iter().find_map(|state| state.missing())
    }

    pub fn gauges(&self) -> WatchGauges {
        WatchGauges {
            states: self.states.clone(),
            clock: self.clock.clone(),
        }
    }

    /// Waits until all watches have stopped, or one has panicked.
    pub async fn ended(mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "watch task stopped");
                return;
            }
        }
    }
}

impl fmt::Debug for Watches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Watches");
        debug.field("states", &self.states).finish_non_exhaustive()
    }
}

// === impl WatchGauges ===

impl WatchGauges {
    fn each<M: EncodeMetric>(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (name, help, kind): (&str, &str, MetricType),
        value: impl Fn(&WatchState) -> Option<M>,
    ) -> Result<(), fmt::Error> {
        let mut family = encoder.encode_descriptor(name, help, None, kind)?;
        for state in &self.states {
            let labels = [("watch", state.name()), ("scope", state.scope())];
            if let Some(value) = value(state) {
                value.encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

impl Collector for WatchGauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let now = self.clock.now();
        let encoder = &mut encoder;
        let gauge = MetricType::Gauge;
        let age = "Time since the watch gave its last sign of life; quiet ones give one every 45 s";
        self.each(encoder, ("watch_age_seconds", age, gauge), |state| {
            // What the cluster lacks is not late.
            (!state.is_absent()).then(|| ConstGauge::new(seconds(state.age(now))))
        })?;
        let objects = "Objects that the watch told of";
        self.each(encoder, ("watch_objects", objects, gauge), |state| {
            let count = state.objects.load(Ordering::Relaxed);
            Some(ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX)))
        })?;
        let counter = MetricType::Counter;
        let failures = "Attempts to list or watch that failed";
        self.each(encoder, ("watch_failures", failures, counter), |state| {
            Some(ConstCounter::new(state.failures.load(Ordering::Relaxed)))
        })?;
        let lists =
            "Lists read to their end: one at the start, and one each time a watch could not go on";
        self.each(encoder, ("watch_lists", lists, counter), |state| {
            Some(ConstCounter::new(state.lists.load(Ordering::Relaxed)))
        })
    }
}

impl fmt::Debug for WatchGauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchGauges").finish_non_exhaustive()
    }
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}
