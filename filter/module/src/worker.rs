//! Counting on the threads that serve requests: a table for each, behind a lock that only the main
//! thread asks for too, ten times a second and for a microsecond.

use filter_core::config::CLUSTER_BYTES_MAX;
use filter_core::counter::{Counters, SeriesIndex};
use filter_core::series::{OTHER, Role};
use parking_lot::{Mutex, MutexGuard};

use crate::clock;
use crate::plugin::Plugin;

/// The counters of one thread.
#[derive(Debug, Default)]
pub(crate) struct Worker {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) counters: Counters,
    /// The last series: most requests of a worker are of one.
    guess: Option<SeriesIndex>,
}

/// One request on its way through one filter, and the series that it is in flight in.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    worker: &'a Worker,
    open: Option<SeriesIndex>,
}

/// What a request tells about itself.
pub(crate) trait Exchange {
    /// Calls `look` with Envoy's name of the upstream cluster, if the route leads to one.
    fn with_cluster<T>(&self, look: impl FnOnce(Option<&[u8]>) -> T) -> T;

    /// Status of the response, if there is one.
    fn status(&self) -> Option<u16>;
}

// === impl Worker ===

impl Worker {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

// === impl Request ===

impl<'a> Request<'a> {
    pub(crate) fn new(worker: &'a Worker) -> Self {
        Self { worker, open: None }
    }

    /// The request headers have come. A request that comes again is counted once.
    pub(crate) fn begin(&mut self, plugin: &Plugin, exchange: &impl Exchange) {
        if self.open.is_some() {
            return;
        }
        let mut state = self.worker.lock();
        let Some(series) = state.series(plugin, exchange) else {
            return;
        };
        // The clock under the lock: the main thread may have advanced the integral meanwhile.
        state.counters.event(series);
        state.counters.enter(series, clock::now());
        self.open = Some(series);
    }

    /// The exchange is over, with whatever response.
    pub(crate) fn complete(&mut self, exchange: &impl Exchange) {
        if let Some(series) = self.open.take() {
            let mut state = self.worker.lock();
            state.counters.leave(series, clock::now());
            state.counters.respond(series, || exchange.status());
        }
    }

    /// The filter goes; its request may not have been completed.
    pub(crate) fn end(&mut self) {
        if let Some(series) = self.open.take() {
            let mut state = self.worker.lock();
            state.counters.leave(series, clock::now());
        }
    }
}

// === impl State ===

impl State {
    fn series(&mut self, plugin: &Plugin, exchange: &impl Exchange) -> Option<SeriesIndex> {
        if !plugin.config.by_cluster {
            return self.resolve(plugin, &plugin.config.cluster);
        }
        exchange.with_cluster(|cluster| {
            let cluster = cluster.unwrap_or_default();
            let cluster = match str::from_utf8(cluster) {
                Ok(name) if name.len() <= CLUSTER_BYTES_MAX => name,
                _ => OTHER,
            };
            self.resolve(plugin, cluster)
        })
    }

    fn resolve(&mut self, plugin: &Plugin, cluster: &str) -> Option<SeriesIndex> {
        let (role, direction) = (Role::Filter, plugin.direction);
        if let Some(guess) = self.guess
            && self.counters.is_series(guess, role, direction, cluster)
        {
            return Some(guess);
        }
        let config = &plugin.config;
        let (series, overflow) = self.counters.resolve(
            role,
            direction,
            cluster,
            config.responses,
            config.max_series,
        )?;
        if overflow {
            self.counters.overflowed();
        }
        self.guess = Some(series);
        Some(series)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use filter_core::host::RootId;
    use filter_core::series::{Counter, Direction, Outcome};

    use super::*;

    /// A request to a cluster with a status.
    #[derive(Clone, Copy, Debug, Default)]
    pub(crate) struct Fake {
        pub(crate) cluster: Option<&'static str>,
        pub(crate) status: Option<u16>,
    }

    impl Exchange for Fake {
        fn with_cluster<T>(&self, look: impl FnOnce(Option<&[u8]>) -> T) -> T {
            look(self.cluster.map(str::as_bytes))
        }

        fn status(&self) -> Option<u16> {
            self.status
        }
    }

    pub(crate) fn plugin(text: &str) -> Plugin {
        Plugin::parse(RootId(1), text.as_bytes()).unwrap()
    }

    fn value(worker: &Worker, cluster: &str, counter: Counter) -> u64 {
        let state = worker.lock();
        let found = state
            .counters
            .iter()
            .find(|series| series.key.meets(Direction::Inbound, cluster));
        found.map_or(0, |series| series.value(counter))
    }

    /// A request is counted when its headers come, and its response when it is complete, once each;
    /// a filter that never saw headers counts nothing.
    #[test]
    fn a_request_counts_once() {
        let (worker, plugin) = (
            Worker::default(),
            plugin(r#"{"direction":"inbound","responses":"code"}"#),
        );
        let mut request = Request::new(&worker);
        let exchange = Fake {
            status: Some(404),
            ..Fake::default()
        };
        request.complete(&exchange);
        request.end();
        assert_eq!(value(&worker, "", Counter::Events), 0);
        request.begin(&plugin, &exchange);
        request.begin(&plugin, &exchange);
        assert_eq!(value(&worker, "", Counter::Inflight), 1);
        request.complete(&exchange);
        request.complete(&exchange);
        request.end();
        assert_eq!(value(&worker, "", Counter::Events), 1);
        assert_eq!(value(&worker, "", Counter::Inflight), 0);
        assert_eq!(value(&worker, "", Counter::Responses(Outcome(404))), 1);
    }

    /// A filter that is destroyed in the middle takes its request out of those in flight, without a
    /// response.
    #[test]
    fn an_abandoned_request_is_no_longer_in_flight() {
        let (worker, plugin) = (Worker::default(), plugin(r#"{"direction":"inbound"}"#));
        let mut request = Request::new(&worker);
        request.begin(&plugin, &Fake::default());
        request.end();
        assert_eq!(value(&worker, "", Counter::Events), 1);
        assert_eq!(value(&worker, "", Counter::Inflight), 0);
        for class in 0..Outcome::CLASSES {
            assert_eq!(value(&worker, "", Counter::Responses(Outcome(class))), 0);
        }
    }

    /// With `dimensions` each cluster has a series; beyond the limit they are "other", and counted
    /// as such.
    #[test]
    fn clusters_have_a_limit() {
        let text = r#"{"direction":"inbound","dimensions":["cluster"],"max_series":2}"#;
        let (worker, plugin) = (Worker::default(), plugin(text));
        for cluster in ["a", "b", "c", "a", "c", "d"] {
            let exchange = Fake {
                cluster: Some(cluster),
                status: None,
            };
            Request::new(&worker).begin(&plugin, &exchange);
        }
        let counts = ["a", "b", OTHER].map(|cluster| value(&worker, cluster, Counter::Events));
        assert_eq!(counts, [2, 1, 3]);
        assert_eq!(worker.lock().counters.refused.series_overflow.value, 3);
    }
}
