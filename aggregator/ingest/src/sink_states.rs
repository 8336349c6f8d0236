//! Last totals of each Envoy with a native sink, across streams: lower totals mean a restart.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use aggregator_core::pod::PodKey;
use aggregator_core::report::SeriesTotals;
use aggregator_core::series::SeriesKey;
use common_time::UnixMillis;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

/// Pods whose last totals are kept, to distinguish a restart from a new stream.
const STATES_MAX: usize = aggregator_core::limits::PODS_MAX;
/// Envoy's default time between messages.
pub(crate) const FLUSH_DEFAULT: Duration = Duration::from_secs(5);

/// State that all streams of native sinks share.
#[derive(Debug)]
pub(crate) struct SinkStates {
    /// Locked for one update.
    pods: Mutex<HashMap<PodKey, SinkState>>,
    /// One permit, taken to decode and apply a large message.
    pub(crate) decoding: Semaphore,
}

/// Last totals of one pod.
#[derive(Clone, Debug)]
pub(crate) struct SinkState {
    uid: String,
    pub(crate) generation: u64,
    /// When this generation began; 0 if it was running before our first message.
    pub(crate) started_at: UnixMillis,
    requests: u64,
    attempts: u64,
}

// === impl SinkStates ===

impl Default for SinkStates {
    fn default() -> Self {
        Self {
            pods: Mutex::default(),
            decoding: Semaphore::new(1),
        }
    }
}

impl SinkStates {
    /// Stores the totals of a pod at `at`; returns its state with the generation of its counters.
    pub(crate) fn update(
        &self,
        pod: &PodKey,
        uid: &str,
        at: UnixMillis,
        series: &BTreeMap<SeriesKey, SeriesTotals>,
    ) -> SinkState {
        let sum = |part: fn(&SeriesTotals) -> Option<u64>| series.values().filter_map(part).sum();
        let requests: u64 = sum(|totals| totals.requests);
        let attempts: u64 = sum(|totals| totals.upstream_attempts);
        let mut pods = self.pods.lock();
        if pods.len() >= STATES_MAX && !pods.contains_key(pod) {
            // Any one will do. Should it restart just while its stream is broken, the restart goes
            // unnoticed, and its totals stand still until they exceed the old ones.
            if let Some(any) = pods.keys().next().cloned() {
                pods.remove(&any);
            }
        }
        let state = pods.entry(pod.clone()).or_insert_with(|| SinkState {
            uid: uid.to_owned(),
            generation: 0,
            started_at: UnixMillis(0),
            requests,
            attempts,
        });
        if requests < state.requests || attempts < state.attempts || state.uid != uid {
            state.generation += 1;
            state.started_at = at.before(FLUSH_DEFAULT);
            uid.clone_into(&mut state.uid);
        }
        (state.requests, state.attempts) = (requests, attempts);
        state.clone()
    }
}
