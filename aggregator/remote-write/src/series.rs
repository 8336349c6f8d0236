//! What is written of the store: running totals under the names that dashboards of Envoy already
//! use.
//!
//! Pure: a flush is given the pods and the time, and gives batches. A counter's first sample has a
//! 0 before it if it is known that the counter was 0 then, so that its first increase is seen by
//! `rate()`: at the flush that its pod was last in without it, or one interval earlier if the pod
//! began while we looked. A counter that was there before us has none, which would be a false
//! reset. When the last sample of a series was written, a staleness marker says so.

mod encoders;
mod naming;
mod sums;
mod written;

use std::collections::{BTreeMap, HashMap};

use aggregator_core::pod::PodKey;
use aggregator_core::status::{PodState, PodStatus};
use common_time::{Now, UnixMillis};

pub use naming::{Naming, Output, SeriesMetadata, label_name};

use crate::batch::Batch;
use crate::encoder::SeriesLabels;
use crate::series::encoders::Encoders;
use crate::series::naming::{Id, Owner, Part};
use crate::series::sums::Sums;
use crate::series::written::{Before, REMEMBERED_MS, WrittenPods};
use crate::write_request::STALE;

#[cfg(test)]
mod tests;

/// Series that are known at once: 50,000 pods with 20 each.
const SERIES_MAX: usize = 1_000_000;

#[derive(Debug)]
pub struct Exporter {
    naming: Naming,
    /// When we began to look: what began later, began at 0.
    since: UnixMillis,
    /// Empty but for [`Output::Summed`].
    sums: Sums,
    /// Up to when the process before this one may have written sums, in Unix milliseconds.
    silent_until: i64,
    last: Option<i64>,
    series: HashMap<Id, KnownSeries>,
    /// Pods that were written lately.
    pods: WrittenPods,
    /// What the process before this one wrote.
    before: Before,
    /// What was written is not what [`Exporter::written`] told last.
    changed: bool,
    flush: u64,
    refused: u64,
}

/// A series that was written lately.
#[derive(Debug)]
struct KnownSeries {
    labels: SeriesLabels,
    metadata: SeriesMetadata,
    /// The last flush it was in, by number.
    flush: u64,
    /// The first flush it was in, and the last, by their timestamps.
    since: i64,
    at: i64,
    ended: bool,
}

/// What a flush is made of.
pub struct Flush<'a> {
    /// When it is made: the moments of `pods` on the wall clock.
    pub now: Now,
    /// Its time, in Unix milliseconds.
    pub timestamp: i64,
    /// Time between flushes, in milliseconds.
    pub interval: i64,
    /// Whether it goes out over several shards at once.
    pub parallel: bool,
    /// Every pod of the store.
    pub pods: &'a [PodStatus],
    /// What is known of a pod besides.
    pub metadata: &'a dyn Fn(&PodKey) -> SeriesMetadata,
    /// Requests per second of a pod, `None` if that is not known.
    pub rate: &'a dyn Fn(&PodKey) -> Option<f64>,
}

// === impl Flush ===

impl std::fmt::Debug for Flush<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flush").finish_non_exhaustive()
    }
}

// === impl Exporter ===

impl Exporter {
    /// One that looks since `since`: when it was made, or when the last flush was made durable by
    /// the one before it.
    pub fn new(naming: Naming, since: UnixMillis) -> Self {
        Self {
            naming,
            since,
            sums: Sums::new(since),
            silent_until: signed(since),
            last: None,
            series: HashMap::new(),
            pods: WrittenPods::default(),
            before: Before::default(),
            changed: true,
            flush: 0,
            refused: 0,
        }
    }

    /// Series that were not written so far: no receiver would take their labels, or there are too
    /// many.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The batches of the flush at `timestamp`, which is `interval` milliseconds after the one
    /// before.
    pub fn flush(&mut self, flush: &Flush<'_>) -> Vec<Batch> {
        self.flush += 1;
        let at = flush.timestamp;
        if self.last.is_some_and(|last| at <= last) {
            // The clock was set back: what began since then is later than this.
            let since = u64::try_from(at - flush.interval).unwrap_or(0);
            self.since = self.since.min(UnixMillis(since));
        }
        let mut encoders = Encoders::new(flush.timestamp, flush.parallel);
        match self.naming.output {
            Output::PerPod => self.write_pods(&mut encoders, flush),
            Output::Summed => self.write_sums(&mut encoders, flush),
        }
        self.end_stale(&mut encoders, at);
        self.pods.forget(at);
        self.before.forget(at);
        self.last = Some(at);
        encoders.finish()
    }

    /// What was written, for [`Exporter::go_on`] after a restart, if that changed since this was
    /// last asked. It has to be durable before the batches of the flush are. Nothing if totals are
    /// summed.
    pub fn written(&mut self) -> Option<Vec<u8>> {
        let per_pod = self.naming.output == Output::PerPod;
        let at = self.last.filter(|_| per_pod && self.changed)?;
        self.changed = false;
        let series = self.series.iter().map(|(id, known)| (id, known.since));
        Some(written::save(at, &self.pods, &self.before, series))
    }

    /// Goes on after the process that told `written`, whose last durable flush was that of `last`;
    /// false if what it told is damaged.
    pub fn go_on(&mut self, written: &[u8], last: i64) -> bool {
        let Some(before) = Before::open(written, last) else {
            return false;
        };
        self.pods = before.pods.clone();
        self.before = before;
        self.last = Some(last);
        true
    }

    /// What the exporter of the next process goes on with, for [`Exporter::restore`]; nothing
    /// unless totals are summed. It has to be durable before the batches of the flush are.
    pub fn checkpoint(&self) -> Option<Vec<u8>> {
        let summed = self.naming.output == Output::Summed;
        summed.then(|| self.sums.checkpoint()).flatten()
    }

    /// Goes on with a checkpoint; false if it is not whole.
    pub fn restore(&mut self, checkpoint: &[u8]) -> bool {
        let restored = Sums::restore(checkpoint).map(|sums| self.sums = sums);
        restored.is_some()
    }

    fn write_pods(&mut self, encoders: &mut Encoders, flush: &Flush<'_>) {
        let at = flush.timestamp;
        let written: Vec<_> = flush
            .pods
            .iter()
            .filter(|pod| self.is_written(pod))
            .collect();
        for pod in written {
            let zero = self.zero(pod, flush);
            let metadata = (flush.metadata)(&pod.key);
            let owner = Owner::Pod(pod.key.clone());
            for series in &pod.series {
                let id = |part| Id {
                    owner: owner.clone(),
                    key: Some(series.key.clone()),
                    part,
                };
                for (part, total) in Naming::totals(series) {
                    self.write(encoders, id(part), &metadata, real(total), zero);
                }
                // A gauge does not begin at 0.
                if let Some(inflight) = series.inflight.filter(|_| self.naming.inflight) {
                    self.write(
                        encoders,
                        id(Part::InFlight),
                        &metadata,
                        real(inflight),
                        None,
                    );
                }
            }
            if let Some(rate) = self.rate(flush, &pod.key) {
                let (key, part) = (None, Part::Rate);
                self.write(encoders, Id { owner, key, part }, &metadata, rate, None);
            }
            self.changed |= self.pods.note(&pod.key, &pod.instances, at, self.last);
        }
    }

    fn write_sums(&mut self, encoders: &mut Encoders, flush: &Flush<'_>) {
        let (at, before) = (flush.timestamp, self.before(flush));
        let mut gauges: BTreeMap<Id, f64> = BTreeMap::new();
        let known: Vec<_> = flush
            .pods
            .iter()
            .filter(|pod| self.is_written(pod))
            .collect();
        for pod in known {
            let metadata = (flush.metadata)(&pod.key);
            let namespace = pod.key.namespace.to_string();
            let owner = Owner::Group {
                namespace,
                metadata,
            };
            let totals = pod.series.iter().flat_map(|series| {
                Naming::totals(series).map(|(part, total)| (series.key.clone(), part, total))
            });
            let began = pod.started_at.map(|began| flush.now.wall_of(began));
            self.sums.add(at, pod, began, &owner, totals);
            for series in pod.series.iter().filter(|_| self.naming.inflight) {
                // What is not counted is not 0.
                let Some(inflight) = series.inflight else {
                    continue;
                };
                let (owner, key) = (owner.clone(), Some(series.key.clone()));
                let part = Part::InFlight;
                let sum = gauges.entry(Id { owner, key, part }).or_default();
                *sum += real(inflight);
            }
            if let Some(rate) = self.rate(flush, &pod.key) {
                let (key, part) = (None, Part::Rate);
                *gauges.entry(Id { owner, key, part }).or_default() += rate;
            }
        }
        self.sums.end_flush(at);
        // A sum begins at 0, but not at a time that the process before us may have written.
        let zero = before.max(self.silent_until.saturating_add(1));
        let sums = self.sums.of_flush(at);
        let sums = sums.map(|(id, sum, new)| (id.clone(), real(sum), new && zero < at));
        let gauges = gauges.into_iter().map(|(id, value)| (id, value, false));
        let all: Vec<_> = sums.chain(gauges).collect();
        for (id, value, begins) in all {
            let metadata = match &id.owner {
                Owner::Group { metadata, .. } => metadata.clone(),
                Owner::Pod(_) => SeriesMetadata::default(),
            };
            self.write(encoders, id, &metadata, value, begins.then_some(zero));
        }
    }

    /// The flush before this one, by the clock: an interval ago if there was none, or the clock was
    /// set.
    fn before(&self, flush: &Flush<'_>) -> i64 {
        let interval_ago = flush.timestamp - flush.interval;
        let last = self.last.filter(|last| *last < flush.timestamp);
        last.map_or(interval_ago, |last| last.max(interval_ago))
    }

    fn rate(&self, flush: &Flush<'_>, pod: &PodKey) -> Option<f64> {
        self.naming.rate.then(|| (flush.rate)(pod)).flatten()
    }

    /// When a series of the pod that was never written was 0, if that is known: in the last flush
    /// that the pod was in, or before the pod began, if that was while we looked.
    ///
    /// Where another replica may have written the pod meanwhile, only in the flush before this one,
    /// with the same counters: a 0 later than its samples would be a false reset.
    fn zero(&self, pod: &PodStatus, flush: &Flush<'_>) -> Option<i64> {
        let before = self.before(flush);
        let Some(written) = self.pods.get(&pod.key) else {
            let began = pod.started_at.is_some_and(|began| {
                let began = flush.now.wall_of(began);
                let age = flush.timestamp.saturating_sub_unsigned(began.0);
                began > self.since && age < REMEMBERED_MS
            });
            return began.then_some(before);
        };
        if self.naming.live_only {
            let same = written.instances == written::hash_of_instances(&pod.instances);
            return (same && Some(written.at) == self.last).then_some(before);
        }
        Some(if written.at < flush.timestamp {
            written.at
        } else {
            before
        })
    }

    fn is_written(&self, pod: &PodStatus) -> bool {
        match pod.state {
            PodState::Live => true,
            PodState::New | PodState::Held => !self.naming.live_only,
            PodState::Gone => false,
        }
    }

    fn write(
        &mut self,
        encoders: &mut Encoders,
        id: Id,
        metadata: &SeriesMetadata,
        value: f64,
        zero: Option<i64>,
    ) {
        let at = encoders.timestamp;
        let flush = self.flush;
        if let Some(known) = self.series.get_mut(&id)
            && known.metadata == *metadata
        {
            self.changed |= known.ended;
            (known.flush, known.at, known.ended) = (flush, at, false);
            encoders.plain(&known.labels, value);
            return;
        }
        // New, or under other labels from now on: the old ones end, and the new ones do not begin
        // at 0.
        let old = self.series.remove(&id);
        let written = old.is_some() || self.before.wrote(&id);
        let since = old.as_ref().map_or(at, |old| old.since);
        if let Some(old) = old.filter(|old| !old.ended) {
            encoders.mark(&old.labels, STALE, None);
        }
        let room = self.series.len() < SERIES_MAX;
        let labels = self.naming.labels(&id, metadata).filter(|_| room);
        let Some(labels) = labels else {
            self.refused += 1;
            return;
        };
        if let Some(zero) = zero.filter(|_| !written) {
            encoders.mark(&labels, 0.0, Some(zero));
        }
        encoders.plain(&labels, value);
        let known = KnownSeries {
            labels,
            metadata: metadata.clone(),
            flush,
            since,
            at,
            ended: false,
        };
        self.series.insert(id, known);
        self.changed = true;
    }

    /// Ends the series that were not in this flush, and forgets those that ended long ago; all of
    /// them if there are too many.
    fn end_stale(&mut self, encoders: &mut Encoders, at: i64) {
        let flush = self.flush;
        let full = self.series.len() >= SERIES_MAX;
        let mut changed = false;
        self.series.retain(|_, known| {
            if known.flush == flush {
                return true;
            }
            if !known.ended {
                encoders.mark(&known.labels, STALE, None);
                known.ended = true;
                changed = true;
            }
            !full && at - known.at < REMEMBERED_MS
        });
        self.changed |= changed;
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "samples are doubles: exact up to 2^53"
)]
fn real(total: u64) -> f64 {
    total as f64
}

fn signed(time: UnixMillis) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}
