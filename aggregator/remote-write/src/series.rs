//! Series of the store's running totals, under the names that dashboards of Envoy already use.
//!
//! Pure: a flush takes the pods and the time, and returns batches. A counter's first sample is
//! preceded by a 0 if the counter is known to have been 0 then, so that `rate()` sees its first
//! increase: at the last flush of its pod without it, or one interval earlier if the pod started
//! after us. A counter that is older than this process gets none: it would be a false reset. A
//! staleness marker follows the last sample of a series.

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
use crate::series::written::{PreviousRun, REMEMBERED_MS, WrittenPods};
use crate::write_request::STALE;

#[cfg(test)]
mod tests;

/// Series at once: 50,000 pods with 20 each, or 150,000 with 6.
const SERIES_MAX: usize = 1_000_000;

#[derive(Debug)]
pub struct Exporter {
    naming: Naming,
    /// Counters that began later are known to have begun at 0.
    since: UnixMillis,
    /// Empty unless the output is [`Output::Summed`].
    sums: Sums,
    /// Until when the previous process may have written sums, in Unix milliseconds.
    previous_until: i64,
    last: Option<i64>,
    series: HashMap<Id, KnownSeries>,
    pods: WrittenPods,
    previous_run: PreviousRun,
    /// True if the list of series changed since the last [`Exporter::written`].
    changed: bool,
    flush: u64,
    refused: u64,
}

/// A series written lately.
#[derive(Debug)]
struct KnownSeries {
    labels: SeriesLabels,
    metadata: SeriesMetadata,
    /// Number of the last flush with it.
    flush: u64,
    /// Timestamp of the first flush with it.
    since: i64,
    /// Timestamp of the last flush with it.
    at: i64,
    /// True once its staleness marker was written.
    ended: bool,
}

/// Input of a flush.
pub struct Flush<'a> {
    /// Maps the times of `pods` to the wall clock.
    pub now: Now,
    /// In Unix milliseconds.
    pub timestamp: i64,
    /// Time between flushes, in milliseconds.
    pub interval: i64,
    /// True to use several shards.
    pub parallel: bool,
    /// Every pod of the store.
    pub pods: &'a [PodStatus],
    pub metadata: &'a dyn Fn(&PodKey) -> SeriesMetadata,
    /// Requests per second of a pod; `None` if unknown.
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
    /// `since` is the start of this process, or the last durable flush of the previous one.
    pub fn new(naming: Naming, since: UnixMillis) -> Self {
        Self {
            naming,
            since,
            sums: Sums::new(since),
            previous_until: signed(since),
            last: None,
            series: HashMap::new(),
            pods: WrittenPods::default(),
            previous_run: PreviousRun::default(),
            changed: true,
            flush: 0,
            refused: 0,
        }
    }

    /// Series not written so far: no receiver accepts their labels, or there are too many.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The batches of a flush.
    pub fn flush(&mut self, flush: &Flush<'_>) -> Vec<Batch> {
        self.flush += 1;
        let at = flush.timestamp;
        if self.last.is_some_and(|last| at <= last) {
            // The clock was set back: pods that start from now on have an earlier time than
            // `since`.
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
        self.previous_run.forget(at);
        self.last = Some(at);
        encoders.finish()
    }

    /// The list of series written, for [`Exporter::resume`] after a restart; `None` if it did not
    /// change since the last call, or totals are summed. It must be durable before the batches of
    /// the flush are.
    pub fn written(&mut self) -> Option<Vec<u8>> {
        let per_pod = self.naming.output == Output::PerPod;
        let at = self.last.filter(|_| per_pod && self.changed)?;
        self.changed = false;
        let series = self.series.iter().map(|(id, entry)| (id, entry.since));
        Some(written::save(at, &self.pods, &self.previous_run, series))
    }

    /// Resumes with the list of the previous process, whose last durable flush was at `last`; false
    /// if the list is damaged.
    pub fn resume(&mut self, written: &[u8], last: i64) -> bool {
        let Some(before) = PreviousRun::open(written, last) else {
            return false;
        };
        self.pods = before.pods.clone();
        self.previous_run = before;
        self.last = Some(last);
        true
    }

    /// A checkpoint for [`Exporter::restore`] in the next process; `None` unless totals are summed.
    /// It must be durable before the batches of the flush are.
    pub fn checkpoint(&self) -> Option<Vec<u8>> {
        let summed = self.naming.output == Output::Summed;
        summed.then(|| self.sums.checkpoint()).flatten()
    }

    /// Resumes from a checkpoint; false if it is damaged.
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
                // A gauge has no increase for `rate()`, so no 0 precedes it.
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
            self.changed |= self.pods.update(&pod.key, &pod.instances, at, self.last);
        }
    }

    fn write_sums(&mut self, encoders: &mut Encoders, flush: &Flush<'_>) {
        let (at, before) = (flush.timestamp, self.previous_flush(flush));
        let mut gauges: BTreeMap<Id, f64> = BTreeMap::new();
        let written: Vec<_> = flush
            .pods
            .iter()
            .filter(|pod| self.is_written(pod))
            .collect();
        for pod in written {
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
                // `None` means not counted, which is not 0.
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
        // A new sum begins at 0, but the previous process may have written it until then.
        let zero = before.max(self.previous_until.saturating_add(1));
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

    /// Timestamp of the previous flush; an interval ago if there was none, or the clock was set.
    fn previous_flush(&self, flush: &Flush<'_>) -> i64 {
        let interval_ago = flush.timestamp - flush.interval;
        let last = self.last.filter(|last| *last < flush.timestamp);
        last.map_or(interval_ago, |last| last.max(interval_ago))
    }

    fn rate(&self, flush: &Flush<'_>, pod: &PodKey) -> Option<f64> {
        self.naming.rate.then(|| (flush.rate)(pod)).flatten()
    }

    /// When a new series of the pod was 0: at the last flush with the pod, or before the pod
    /// started, if that was after us. `None` if unknown.
    fn zero(&self, pod: &PodStatus, flush: &Flush<'_>) -> Option<i64> {
        let before = self.previous_flush(flush);
        let Some(written) = self.pods.get(&pod.key) else {
            let began = pod.started_at.is_some_and(|began| {
                let began = flush.now.wall_of(began);
                let age = flush.timestamp.saturating_sub_unsigned(began.0);
                began > self.since && age < REMEMBERED_MS
            });
            return began.then_some(before);
        };
        // Another replica may have written the pod meanwhile, unless it was in the previous flush
        // with the same counters: a 0 later than its samples would be a false reset.
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
        if let Some(entry) = self.series.get_mut(&id)
            && entry.metadata == *metadata
        {
            self.changed |= entry.ended;
            (entry.flush, entry.at, entry.ended) = (flush, at, false);
            encoders.plain(&entry.labels, value);
            return;
        }
        // A new series, or one whose labels changed: the old one ends, and the new one does not
        // begin at 0.
        let old = self.series.remove(&id);
        let written = old.is_some() || self.previous_run.wrote(&id);
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
        let entry = KnownSeries {
            labels,
            metadata: metadata.clone(),
            flush,
            since,
            at,
            ended: false,
        };
        self.series.insert(id, entry);
        self.changed = true;
    }

    /// Writes staleness markers for series without a sample in this flush, and removes those that
    /// ended long ago; all ended ones if there are too many.
    fn end_stale(&mut self, encoders: &mut Encoders, at: i64) {
        let flush = self.flush;
        let full = self.series.len() >= SERIES_MAX;
        let mut changed = false;
        self.series.retain(|_, entry| {
            if entry.flush == flush {
                return true;
            }
            if !entry.ended {
                encoders.mark(&entry.labels, STALE, None);
                entry.ended = true;
                changed = true;
            }
            !full && at - entry.at < REMEMBERED_MS
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
