//! Pods, their running totals and their recent past.
//!
//! Streams `connect`, `apply` what they report and `disconnect`; readers `read`, `inspect` and
//! `counts`; someone calls `expire` now and then. All take `&self` and the time: pods lie in a
//! sharded map, so writers meet only where they touch the same shard, and no lock outlives a call.
//!
//! Invariants: a total is the highest value any frame told of it, so frames may be lost, doubled,
//! replayed or reordered; a refused report changes no total; a pod that is gone comes back only by
//! news, not by old frames.

mod callers;
mod counter;
mod handshakes;
mod instance;
mod inventory;
mod pod_record;
mod reading;
mod refused;
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

pub use crate::store::refused::StoreRefusal;

/// How often what is out of reach of every window is dropped from a pod.
const TRIM_EVERY: Duration = DEPTH;

/// Shortest window that can be asked for.
const WINDOW_MIN: Duration = Duration::from_secs(1);

/// Everything that sidecars reported and that is still of use. Writers and readers share it by
/// reference.
#[derive(Debug)]
pub struct Store {
    limits: StoreLimits,
    pods: DashMap<PodKey, PodRecord>,
    /// Pods in the map, which would have to lock every shard to tell.
    len: AtomicUsize,
    /// When to look at each pod again: one entry per pod, popped when due. Held only to push or
    /// pop.
    due: Mutex<BinaryHeap<Reverse<(Monotonic, PodKey)>>>,
    callers: Callers,
    handshakes: handshakes::FailedHandshakes,
    /// By position in [`RefusedReason::ALL`].
    refused: [AtomicU64; RefusedReason::ALL.len()],
}

/// What a stream was given when it connected and shows with each report.
#[derive(Debug, Eq, PartialEq)]
pub struct Link {
    pod: PodKey,
    instance: InstanceId,
    stream: StreamId,
}

#[derive(Debug, Eq, PartialEq)]
pub struct Connected {
    /// For the stream to keep.
    pub link: Link,
    /// The older stream of the same instance, which no longer counts.
    pub superseded: Option<StreamId>,
    /// Streams of another pod that had the same name; they have nothing to say any more.
    pub replaced: Vec<StreamId>,
}

/// A report is in the store.
#[derive(Debug, Eq, PartialEq)]
pub struct Applied {
    /// Series that had no room; the rest was taken, and sums over the pod's series are unknown
    /// until a snapshot fits.
    pub series_refused: usize,
    /// Streams of instances that this one replaced; they have nothing to say any more.
    pub replaced: Vec<StreamId>,
}

// === impl Store ===

impl Store {
    /// An empty store.
    pub fn new(limits: StoreLimits) -> Self {
        Self {
            limits,
            pods: DashMap::new(),
            len: AtomicUsize::new(0),
            due: Mutex::default(),
            callers: Callers::default(),
            handshakes: handshakes::FailedHandshakes::default(),
            refused: Default::default(),
        }
    }

    /// A stream said hello. Its instance counts from its first report on.
    pub fn connect(
        &self,
        now: Monotonic,
        stream: StreamId,
        hello: &Hello,
    ) -> Result<Connected, StoreRefusal> {
        let connected = match self.pods.entry(hello.pod.clone()) {
            Entry::Occupied(mut pod) => pod.get_mut().connect(now, stream, hello, &self.limits),
            Entry::Vacant(vacant) => self.reserve(&hello.pod).and_then(|()| {
                let mut pod = vacant.insert(PodRecord::new(now));
                self.look_again(now + TRIM_EVERY, hello.pod.clone());
                pod.connect(now, stream, hello, &self.limits)
            }),
        };
        connected.inspect_err(|refused| self.count(refused.reason(), 1))
    }

    /// Takes in a report, all of it but series that have no room, or nothing.
    pub fn apply(
        &self,
        now: Monotonic,
        link: &Link,
        report: &Report,
    ) -> Result<Applied, StoreRefusal> {
        let applied = match self.pods.get_mut(&link.pod) {
            Some(mut pod) => {
                let applied = pod.apply(now, link, report, &self.limits);
                if pod.take_grown() {
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

    /// A stream ended, in whatever way.
    pub fn disconnect(&self, now: Monotonic, link: &Link) {
        if let Some(mut pod) = self.pods.get_mut(&link.pod) {
            pod.disconnect(now, link);
        }
    }

    /// Forgets pods that have been gone for a while; returns them, so that a directory learnt from
    /// `Hello` can forget them too. Call it at least once a second or when [`Store::next_expiry`]
    /// says.
    pub fn expire(&self, now: Monotonic) -> Vec<PodKey> {
        let mut forgotten = Vec::new();
        while let Some(key) = self.pop_due(now) {
            let forget = |_: &PodKey, pod: &PodRecord| pod.forget_at().is_some_and(|at| at <= now);
            if self.pods.remove_if(&key, forget).is_some() {
                self.len.fetch_sub(1, Ordering::Relaxed);
                self.callers.set(&key, &[]);
                // It may have come back in between.
                if let Some(pod) = self.pods.get(&key) {
                    self.index_callers(&key, &pod);
                }
                forgotten.push(key);
            } else if let Some(mut pod) = self.pods.get_mut(&key) {
                pod.trim(now);
                let next = now + TRIM_EVERY;
                let forget_at = pod.forget_at().unwrap_or(next);
                self.look_again(forget_at.min(next), key);
            }
        }
        forgotten
    }

    /// When [`Store::expire`] next has work.
    pub fn next_expiry(&self) -> Option<Monotonic> {
        self.due.lock().peek().map(|Reverse((at, _))| *at)
    }

    /// Reads `query` for each of `pods` as of `now`. Nothing is remembered of it: the same reports
    /// give the same answer.
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
        let mut answer = QueryResult::default();
        let mut readable = Vec::with_capacity(pods.len());
        for key in pods {
            let read = match self.pods.get(key) {
                Some(pod) => reading::read(&pod, now, query, lengths, profile.as_mut()),
                None => Err(NoValue::NeverReported),
            };
            match read {
                Ok(windows) => readable.push((key, windows)),
                Err(missing) => answer.missing.push((key.clone(), missing)),
            }
        }
        let chosen = profile.map_or(0, |profile| window::choose(&requests(&readable), profile));
        for (key, windows) in readable {
            match windows.value(chosen, query.metric) {
                Some(Value {
                    number,
                    events,
                    covered,
                }) => answer.readings.push(Reading {
                    pod: key.clone(),
                    value: number,
                    events,
                    timestamp: windows.until,
                    interval: windows.newest.interval,
                    arrived: windows.newest.arrived,
                    window: covered,
                    held: windows.held,
                }),
                None => answer.missing.push((key.clone(), NoValue::NoRequests)),
            }
        }
        answer
    }

    /// The value of the window before the one of `reading`, of the same length, for comparison.
    /// `None` if the pod is not known for so long. The store goes back two minutes, two of the
    /// longest windows.
    pub fn read_before(&self, reading: &Reading, query: &MetricQuery) -> Option<Milli> {
        let pod = self.pods.get(&reading.pod)?;
        let until = reading.timestamp.before(reading.window);
        reading::read_at(&pod, until, reading.window, query)
    }

    /// Upstream clusters that pods call, sorted. One may be named that nobody calls any more.
    pub fn called_clusters(&self) -> Vec<Arc<str>> {
        self.callers.clusters()
    }

    /// Pods that called the upstream cluster, sorted. One may be named that does not call it any
    /// more.
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
        self.len
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

    fn look_again(&self, at: Monotonic, key: PodKey) {
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

/// What each of [`WINDOWS`] holds of all of `pods` together.
fn requests(pods: &[(&PodKey, PodWindows)]) -> [f64; WINDOWS.len()] {
    let mut sums = [0.0; WINDOWS.len()];
    for (_, windows) in pods {
        for (sum, events) in sums.iter_mut().zip(windows.events()) {
            *sum += events;
        }
    }
    sums
}
