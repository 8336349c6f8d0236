//! A sidecar as the store sees it, and short ways to ask.

use std::time::Duration;

use crate::limits::StoreLimits;
use crate::pod::{Labels, PodKey};
use crate::query::{Metric, MetricQuery, NoValue, QueryResult, Reading, WindowChoice};
use crate::report::{CounterScope, Hello, InstanceId, ProcessId, Report, SeriesTotals, StreamId};
use crate::series::{Direction, SeriesKey};
use crate::status::{PodState, PodStatus, RefusedReason};
use crate::store::{Applied, Connected, Link, Store, StoreRefusal};
use common_time::{Monotonic, UnixMillis};

/// Where the tests begin, on the aggregator's clock.
pub(super) const START: Monotonic = Monotonic(1_800_000_000_000);

/// `ms` after the start.
pub(super) fn at(ms: u64) -> Monotonic {
    Monotonic(START.0 + ms)
}

/// An instance of the sidecar of a pod, whose clock is the aggregator's plus `skew_ms`.
#[derive(Clone)]
pub(super) struct Sidecar {
    pub(super) hello: Hello,
    pub(super) skew_ms: i64,
    pub(super) next_report_within: Duration,
}

// === impl Sidecar ===

impl Sidecar {
    /// An instance that began at the start.
    pub(super) fn new(name: &str, instance: u64) -> Self {
        Self {
            hello: Hello {
                pod: PodKey::new("prod", name),
                uid: "".into(),
                node: "".into(),
                labels: Labels::default(),
                instance: InstanceId(instance),
                process: ProcessId(instance),
                scope: CounterScope::Process,
                started_at: UnixMillis(START.0),
                clock: UnixMillis(START.0),
                hot_restart: false,
            },
            skew_ms: 0,
            next_report_within: Duration::from_secs(1),
        }
    }

    /// Its counters began at `at`.
    pub(super) fn started(mut self, at: Monotonic) -> Self {
        self.hello.started_at = self.theirs(at);
        self
    }

    pub(super) fn skewed(mut self, skew_ms: i64) -> Self {
        self.skew_ms = skew_ms;
        let started_at = Monotonic(self.hello.started_at.0);
        self.hello.started_at = self.theirs(started_at);
        self
    }

    pub(super) fn theirs(&self, ours: Monotonic) -> UnixMillis {
        UnixMillis(ours.0.checked_add_signed(self.skew_ms).unwrap())
    }

    pub(super) fn try_connect(
        &self,
        store: &Store,
        now: Monotonic,
        stream: u64,
    ) -> Result<Connected, StoreRefusal> {
        let hello = Hello {
            clock: self.theirs(now),
            ..self.hello.clone()
        };
        store.connect(now, StreamId(stream), &hello)
    }

    pub(super) fn connect(&self, store: &Store, now: Monotonic, stream: u64) -> Link {
        self.try_connect(store, now, stream).unwrap().link
    }

    /// A report of the second before `end`.
    pub(super) fn report(&self, end: Monotonic, series: Vec<(SeriesKey, SeriesTotals)>) -> Report {
        Report {
            seq: end.since(START).as_secs().max(1),
            interval_end: self.theirs(end),
            interval: Duration::from_secs(1),
            series,
            vms_expected: 1,
            vms_live: 1,
            next_report_within: self.next_report_within,
            snapshot: true,
            is_final: false,
        }
    }

    /// Reports at `now` that inbound requests are `requests`.
    pub(super) fn says(&self, store: &Store, now: Monotonic, link: &Link, requests: u64) {
        let report = self.report(now, vec![inbound(requests)]);
        store.apply(now, link, &report).unwrap();
    }

    pub(super) fn try_say(
        &self,
        store: &Store,
        now: Monotonic,
        link: &Link,
        requests: u64,
    ) -> Result<Applied, StoreRefusal> {
        let report = self.report(now, vec![inbound(requests)]);
        store.apply(now, link, &report)
    }
}

pub(super) fn store() -> Store {
    Store::new(StoreLimits::default())
}

pub(super) fn key(direction: Direction, cluster: &str) -> SeriesKey {
    SeriesKey {
        direction,
        cluster: cluster.into(),
    }
}

pub(super) fn requests(total: u64) -> SeriesTotals {
    SeriesTotals {
        requests: Some(total),
        ..SeriesTotals::default()
    }
}

pub(super) fn inbound(total: u64) -> (SeriesKey, SeriesTotals) {
    (key(Direction::Inbound, ""), requests(total))
}

/// The metric in a window of exactly `seconds`.
pub(super) fn fixed(metric: Metric, seconds: u64) -> MetricQuery {
    MetricQuery {
        metric,
        direction: None,
        cluster: None,
        code_class: None,
        window: WindowChoice::Fixed(Duration::from_secs(seconds)),
    }
}

/// Requests per second in a window of exactly `seconds`.
pub(super) fn rate(seconds: u64) -> MetricQuery {
    fixed(Metric::RequestsPerSecond, seconds)
}

/// What the store says of pod `name`.
pub(super) fn read(
    store: &Store,
    now: Monotonic,
    name: &str,
    query: &MetricQuery,
) -> Result<Reading, NoValue> {
    let pods = [PodKey::new("prod", name)];
    let QueryResult {
        mut readings,
        mut missing,
    } = store.read(now, &pods, query);
    assert_eq!(readings.len() + missing.len(), 1, "in one of the two lists");
    readings
        .pop()
        .ok_or_else(|| missing.pop().map(|(_, why)| why).unwrap())
}

/// The value in thousandths and the length of its window in milliseconds.
pub(super) fn value(reading: Result<Reading, NoValue>) -> Result<(u64, u128), NoValue> {
    reading.map(|reading| (reading.value.0, reading.window.as_millis()))
}

pub(super) fn status(store: &Store, now: Monotonic, name: &str) -> PodStatus {
    let key = PodKey::new("prod", name);
    let mut pods = store.inspect(now).into_iter();
    pods.find(|pod| pod.key == key).unwrap()
}

pub(super) fn state(store: &Store, now: Monotonic, name: &str) -> PodState {
    status(store, now, name).state
}

/// Inbound requests of the pod, as the sidecar counts them.
pub(super) fn total(store: &Store, now: Monotonic, name: &str) -> Option<u64> {
    status(store, now, name).series.first()?.requests
}

pub(super) fn refused(store: &Store, reason: RefusedReason) -> u64 {
    let refused = store.counts(START).refused;
    let found = refused.iter().find(|(r, _)| *r == reason);
    found.map(|(_, count)| *count).unwrap()
}
