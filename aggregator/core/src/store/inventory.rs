//! Status of the store: `inspect` and `counts`.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use crate::pod::PodKey;
use crate::series::SeriesKey;
use crate::status::{Counts, PodState, PodStatus, RefusedReason, SeriesStatus};
use crate::store::Store;
use crate::store::counter::Counter;
use crate::store::pod_record::PodRecord;
use crate::store::tally::Tally;
use common_time::Monotonic;

// === impl Store ===

impl Store {
    /// Every pod as of `now`, sorted by key.
    pub fn inspect(&self, now: Monotonic) -> Vec<PodStatus> {
        let mut pods: Vec<_> = self
            .pods
            .iter()
            .map(|pod| status(pod.key(), pod.value(), now))
            .collect();
        pods.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        pods
    }

    /// True if the pod is live or held as of `now`.
    pub fn has_values(&self, now: Monotonic, key: &PodKey) -> bool {
        let state = self.pods.get(key).map(|pod| pod.state(now));
        matches!(state, Some(PodState::Live | PodState::Held))
    }

    /// Numbers of pods, streams, instances and series as of `now`.
    pub fn counts(&self, now: Monotonic) -> Counts {
        let refused = RefusedReason::ALL.iter().zip(&self.refused);
        let mut counts = Counts {
            refused: refused
                .map(|(reason, counter)| (*reason, counter.load(Ordering::Relaxed)))
                .collect(),
            ..Counts::default()
        };
        for pod in &self.pods {
            *match pod.state(now) {
                PodState::New => &mut counts.pods_new,
                PodState::Live => &mut counts.pods_live,
                PodState::Held => &mut counts.pods_held,
                PodState::Gone => &mut counts.pods_gone,
            } += 1;
            counts.instances += pod.instances.len();
            counts.streams += open_streams(&pod);
            counts.series += pod.instances.iter().map(|i| i.series.len()).sum::<usize>();
        }
        counts
    }
}

fn open_streams(pod: &PodRecord) -> usize {
    let open = pod.instances.iter().filter(|i| i.stream.is_some());
    open.count()
}

fn status(key: &PodKey, pod: &PodRecord, now: Monotonic) -> PodStatus {
    let mut instances: Vec<_> = pod.current().map(|instance| instance.id).collect();
    instances.sort_unstable();
    let newest = pod
        .current()
        .filter_map(|i| i.times)
        .map(|times| times.until);
    let mut series: BTreeMap<&SeriesKey, SeriesStatus> = BTreeMap::new();
    for (key, tally) in pod.current().flat_map(|instance| &instance.series) {
        let sum = series.entry(key).or_insert_with(|| SeriesStatus {
            key: key.clone(),
            requests: None,
            requests_at_completion: false,
            upstream_attempts: None,
            responses: Vec::new(),
            codes: Vec::new(),
            inflight: None,
            inflight_ns: None,
        });
        add(sum, tally);
    }
    PodStatus {
        key: key.clone(),
        uid: pod.uid.clone(),
        state: pod.state(now),
        streams: open_streams(pod),
        instances,
        started_at: pod.started_at(),
        last_report_age: newest.max().map(|newest| now.since(newest)),
        vms_expected: pod.vms.0,
        vms_live: pod.vms.1,
        series: series.into_values().collect(),
    }
}

fn add(sum: &mut SeriesStatus, tally: &Tally) {
    let total = |counter: &Option<Counter>| counter.as_ref().map(Counter::total);
    sum.requests = plus(sum.requests, total(&tally.requests));
    sum.requests_at_completion |= tally.requests_at_completion;
    sum.upstream_attempts = plus(sum.upstream_attempts, total(&tally.upstream_attempts));
    sum.inflight = plus(sum.inflight, tally.inflight.map(|(_, inflight)| inflight));
    sum.inflight_ns = plus(sum.inflight_ns, total(&tally.inflight_ns));
    for (class, counter) in tally.responses() {
        add_to(&mut sum.responses, class, counter.total());
    }
    for (code, total) in tally.codes() {
        add_to(&mut sum.codes, *code, *total);
    }
}

/// Adds `total` to the entry of `key`; entries are in ascending order.
fn add_to<K: Ord + Copy>(sums: &mut Vec<(K, u64)>, key: K, total: u64) {
    match sums.binary_search_by_key(&key, |(key, _)| *key) {
        Ok(index) => sums[index].1 = sums[index].1.saturating_add(total),
        Err(index) => sums.insert(index, (key, total)),
    }
}

/// The sum of the counted totals; `None` only if neither is counted.
fn plus(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.saturating_add(b)),
        (a, b) => a.or(b),
    }
}
