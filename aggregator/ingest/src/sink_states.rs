//! What Envoys last told through their own metrics service, over all streams: totals that fall tell
//! of a restart.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use aggregator_core::pod::PodKey;
use aggregator_core::report::SeriesTotals;
use aggregator_core::series::SeriesKey;
use common_time::UnixMillis;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

/// Sidecars whose last totals are remembered, to tell a restart from a new stream.
const REMEMBERED_MAX: usize = aggregator_core::limits::PODS_MAX;
/// Envoy's default time between messages.
pub(crate) const FLUSH_DEFAULT: Duration = Duration::from_secs(5);

/// What all streams of metrics services share.
#[derive(Debug)]
pub(crate) struct SinkStates {
    /// What was last told by each pod, so that a lower total is known for a restart.
    pods: Mutex<HashMap<PodKey, SinkState>>,
    /// Held while a large message is decoded and told.
    pub(crate) decoding: Semaphore,
}

/// What one pod last told.
#[derive(Clone, Debug)]
pub(crate) struct SinkState {
    uid: String,
    pub(crate) generation: u64,
    /// When this generation was first seen to begin; 0 if it was there before us.
    pub(crate) started_at: UnixMillis,
    requests: u64,
    attempts: u64,
}

// === impl Remembered ===

impl Default for SinkStates {
    fn default() -> Self {
        Self {
            pods: Mutex::default(),
            decoding: Semaphore::new(1),
        }
    }
}

impl SinkStates {
    /// Notes what a pod told at `at`; returns the generation of its counters.
    pub(crate) fn note(
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
        if pods.len() >= REMEMBERED_MAX && !pods.contains_key(pod) {
            // Whichever goes: should it restart just when its stream breaks, its totals stand still
            // until they are higher than they were.
            if let Some(any) = pods.keys().next().cloned() {
                pods.remove(&any);
            }
        }
        let known = pods.entry(pod.clone()).or_insert_with(|| SinkState {
            uid: uid.to_owned(),
            generation: 0,
            started_at: UnixMillis(0),
            requests,
            attempts,
        });
        if requests < known.requests || attempts < known.attempts || known.uid != uid {
            known.generation += 1;
            known.started_at = at.before(FLUSH_DEFAULT);
            uid.clone_into(&mut known.uid);
        }
        (known.requests, known.attempts) = (requests, attempts);
        known.clone()
    }
}
