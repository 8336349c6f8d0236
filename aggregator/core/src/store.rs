//! Pods, their running totals and their history.
//!
//! Streams call `connect`, `apply` and `disconnect`; readers `read`, `inspect` and `counts`; the
//! binary `expire` once a second. All take `&self` and the time: pods are in a sharded map, so
//! writers contend only for the same shard, and no lock outlives a call.
//!
//! Invariants: a total is the highest value that any frame reported, so frames may be lost,
//! doubled, replayed or reordered; a refused report changes no total; only a newer report, not an
//! old frame, revives a pod that is gone.

mod callers;
mod counter;
mod instance;
mod inventory;
mod pod_record;
mod reading;
mod recent;
mod refused;
mod refused_peers;
mod tally;
#[cfg(test)]
mod tests;
mod validate;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use parking_lot::Mutex;

use crate::history::DEPTH;
use crate::lag::Lag;
use crate::limits::StoreLimits;
use crate::pod::PodKey;
use crate::query::{MetricQuery, Milli, NoValue, QueryResult, Reading, WINDOWS, WindowChoice};
use crate::report::{Hello, InstanceId, Report, StreamId};
use crate::status::RefusedReason;
use crate::store::callers::Callers;
use crate::store::pod_record::PodRecord;
use crate::store::reading::{PodWindows, Value};
use crate::window::{self, Profile};
use common_time::Monotonic;

pub use crate::store::recent::PodBrief;
pub use crate::store::refused::StoreRefusal;

/// How often history older than every window is dropped from a pod.
const TRIM_EVERY: Duration = DEPTH;

/// Shortest window that can be asked for.
const WINDOW_MIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Store {
    limits: StoreLimits,
    pods: DashMap<PodKey, PodRecord>,
    /// Length of `pods`; `DashMap::len` would lock every shard.
    pod_count: AtomicUsize,
    /// When `expire` has to check each pod again: one entry per pod. Locked only to push or pop.
    due: Mutex<BinaryHeap<Reverse<(Monotonic, PodKey)>>>,
    callers: Callers,
    refused_peers: refused_peers::RefusedPeers,
    builds: recent::KnownBuilds,
    lag: Lag,
    /// By position in [`RefusedReason::ALL`].
    refused: [AtomicU64; RefusedReason::ALL.len()],
}

/// Handle of a connected stream, passed with each of its reports.
#[derive(Debug, Eq, PartialEq)]
pub struct Link {
    pod: PodKey,
    instance: InstanceId,
    stream: StreamId,
}

#[derive(Debug, Eq, PartialEq)]
pub struct Connected {
    pub link: Link,
    /// The older stream of the same instance, which no longer counts.
    pub superseded: Option<StreamId>,
    /// Streams of an earlier pod with the same name; the caller closes them.
    pub replaced: Vec<StreamId>,
}

/// The effect of a report that was taken.
#[derive(Debug, Eq, PartialEq)]
pub struct Applied {
    /// Series beyond the limit; the rest was taken, and the pod has no value until a snapshot fits.
    pub series_refused: usize,
    /// Streams of instances that this one replaced; the caller closes them.
    pub replaced: Vec<StreamId>,
}

// === impl Store ===

impl Store {
    pub fn new(limits: StoreLimits) -> Self {
        Self {
            limits,
            pods: DashMap::new(),
            pod_count: AtomicUsize::new(0),
            due: Mutex::default(),
            callers: Callers::default(),
            refused_peers: refused_peers::RefusedPeers::default(),
            builds: recent::KnownBuilds::default(),
            lag: Lag::default(),
            refused: Default::default(),
        }
    }

    /// How far this replica is behind. Without ticks it is not.
    pub fn lag(&self) -> &Lag {
        &self.lag
    }

    /// Registers a stream. Its instance counts from its first report on.
    pub fn connect(
        &self,
        now: Monotonic,
        stream: StreamId,
        hello: &Hello,
    ) -> Result<Connected, StoreRefusal> {
        self.connect_late(now, stream, hello, Duration::ZERO)
    }

    /// The same, of a stream whose hello waited for so long before it was read.
    pub fn connect_late(
        &self,
        now: Monotonic,
        stream: StreamId,
        hello: &Hello,
        waited: Duration,
    ) -> Result<Connected, StoreRefusal> {
        let waited = self.lag.with(now, waited);
        let limits = &self.limits;
        let connected = match self.pods.entry(hello.pod.clone()) {
            Entry::Occupied(mut pod) => pod.get_mut().connect(now, stream, hello, limits, waited),
            Entry::Vacant(vacant) => self.reserve(&hello.pod).and_then(|()| {
                let mut pod = vacant.insert(PodRecord::new(now));
                self.schedule_check(now + TRIM_EVERY, hello.pod.clone());
                pod.connect(now, stream, hello, limits, waited)
            }),
        };
        connected.inspect_err(|refused| self.count(refused.reason(), 1))
    }

    /// Takes in a report: all of it but series beyond the limit, or nothing on an error.
    pub fn apply(
        &self,
        now: Monotonic,
        link: &Link,
        report: &Report,
    ) -> Result<Applied, StoreRefusal> {
        self.apply_late(now, link, report, Duration::ZERO)
    }

    /// The same, of a report that waited for so long before it was read.
    pub fn apply_late(
        &self,
        now: Monotonic,
        link: &Link,
        report: &Report,
        waited: Duration,
    ) -> Result<Applied, StoreRefusal> {
        let waited = self.lag.with(now, waited);
        let applied = match self.pods.get_mut(&link.pod) {
            Some(mut pod) => {
                let applied = pod.apply(now, link, report, &self.limits, waited);
                // Only a new series can add a called cluster; most reports skip the index's lock.
                if pod.take_new_series() {
                    self.index_callers(&link.pod, &pod);
                }
                applied
            }
            None => Err(StoreRefusal::UnknownStream {
                pod: link.pod.clone(),
            }),
        };
        match &applied {
            Ok(applied) => self.count(RefusedReason::SeriesPerPod, applied.series_refused),
            Err(refused) => self.count(refused.reason(), 1),
        }
        applied
    }

    /// Marks a stream as ended.
    pub fn disconnect(&self, now: Monotonic, link: &Link) {
        if let Some(mut pod) = self.pods.get_mut(&link.pod) {
            pod.disconnect(now, link);
        }
    }

    /// Removes pods that are gone for [`FORGET_AFTER`](crate::limits::FORGET_AFTER); returns them,
    /// so that a directory learnt from `Hello` can remove them too. Call it at least once a second
    /// or at [`Store::next_expiry`].
    pub fn expire(&self, now: Monotonic) -> Vec<PodKey> {
        let mut forgotten = Vec::new();
        while let Some(key) = self.pop_due(now) {
            // A report may have arrived since the check was scheduled: `remove_if` decides under
            // the shard's lock.
            let forget = |_: &PodKey, pod: &PodRecord| pod.forget_at().is_some_and(|at| at <= now);
            if self.pods.remove_if(&key, forget).is_some() {
                self.pod_count.fetch_sub(1, Ordering::Relaxed);
                self.callers.set(&key, &[]);
                // The pod may have connected again after `remove_if`; its entries were just
                // cleared.
                if let Some(pod) = self.pods.get(&key) {
                    self.index_callers(&key, &pod);
                }
                forgotten.push(key);
            } else if let Some(mut pod) = self.pods.get_mut(&key) {
                pod.trim(now);
                let next = now + TRIM_EVERY;
                let forget_at = pod.forget_at().unwrap_or(next);
                self.schedule_check(forget_at.min(next), key);
            }
        }
        forgotten
    }

    /// When [`Store::expire`] next has work.
    pub fn next_expiry(&self) -> Option<Monotonic> {
        self.due.lock().peek().map(|Reverse((at, _))| *at)
    }

    /// Reads `query` for each of `pods` as of `now`. Reads change no state: the same reports give
    /// the same result.
    pub fn read(&self, now: Monotonic, pods: &[PodKey], query: &MetricQuery) -> QueryResult {
        let longest = WINDOWS[WINDOWS.len() - 1];
        let fixed;
        let lengths: &[Duration] = match query.window {
            WindowChoice::Adaptive => &WINDOWS,
            WindowChoice::Fixed(length) => {
                fixed = [length.clamp(WINDOW_MIN, longest)];
                &fixed
            }
        };
        let mut profile = (query.window == WindowChoice::Adaptive).then(Profile::default);
        let mut result = QueryResult::default();
        let mut readable = Vec::with_capacity(pods.len());
        for key in pods {
            let read = match self.pods.get(key) {
                Some(pod) => reading::read(&pod, now, query, lengths, profile.as_mut()),
                None => Err(NoValue::NeverReported),
            };
            match read {
                Ok(windows) => readable.push((key, windows)),
                Err(missing) => result.missing.push((key.clone(), missing)),
            }
        }
        // One window for all pods: only their requests together tell how long it has to be.
        let chosen = profile.map_or(0, |profile| window::choose(&requests(&readable), profile));
        for (key, windows) in readable {
            match windows.value(chosen, query.metric) {
                Some(Value {
                    number,
                    events,
                    covered,
                }) => result.readings.push(Reading {
                    pod: key.clone(),
                    value: number,
                    events,
                    timestamp: windows.until,
                    interval: windows.newest.interval,
                    arrived: windows.newest.arrived,
                    window: covered,
                    held: windows.held,
                }),
                None => result.missing.push((key.clone(), NoValue::NoRequests)),
            }
        }
        result
    }

    /// The value in the window before that of `reading`, of the same length. `None` if reports do
    /// not cover it; histories reach back two minutes, twice the longest window.
    pub fn read_before(&self, reading: &Reading, query: &MetricQuery) -> Option<Milli> {
        let pod = self.pods.get(&reading.pod)?;
        let until = reading.timestamp.before(reading.window);
        reading::read_at(&pod, until, reading.window, query)
    }

    /// Upstream clusters that pods call, sorted; may include clusters no longer called.
    pub fn called_clusters(&self) -> Vec<Arc<str>> {
        self.callers.clusters()
    }

    /// Pods that call the upstream cluster, sorted; may include pods that no longer do.
    pub fn callers(&self, cluster: &str) -> Vec<PodKey> {
        self.callers.of(cluster)
    }

    fn index_callers(&self, key: &PodKey, pod: &PodRecord) {
        let refused = self.callers.set(key, &pod.called_clusters());
        self.count(RefusedReason::Callers, refused);
    }

    fn reserve(&self, pod: &PodKey) -> Result<(), StoreRefusal> {
        let max = self.limits.pods;
        let more = |len: usize| (len < max).then_some(len + 1);
        self.pod_count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .map(|_| ())
            .map_err(|_| StoreRefusal::Pods {
                pod: pod.clone(),
                max,
            })
    }

    fn count(&self, reason: RefusedReason, events: usize) {
        let position = RefusedReason::ALL.iter().position(|r| *r == reason);
        if let Some(counter) = position.and_then(|position| self.refused.get(position)) {
            counter.fetch_add(events as u64, Ordering::Relaxed);
        }
    }

    fn schedule_check(&self, at: Monotonic, key: PodKey) {
        self.due.lock().push(Reverse((at, key)));
    }

    fn pop_due(&self, now: Monotonic) -> Option<PodKey> {
        let mut due = self.due.lock();
        let Reverse((at, _)) = due.peek()?;
        if *at > now {
            return None;
        }
        due.pop().map(|Reverse((_, key))| key)
    }
}

/// Requests of all `pods` together in each of [`WINDOWS`].
fn requests(pods: &[(&PodKey, PodWindows)]) -> [f64; WINDOWS.len()] {
    let mut sums = [0.0; WINDOWS.len()];
    for (_, windows) in pods {
        for (sum, events) in sums.iter_mut().zip(windows.events()) {
            *sum += events;
        }
    }
    sums
}
