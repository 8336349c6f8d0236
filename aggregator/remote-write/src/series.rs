//! What is written of the store: running totals under the names that dashboards of Envoy already use.
//!
//! Pure: a flush is given the pods and the time, and gives blocks. A counter's first sample has a 0 before it, one
//! interval earlier, if the counter began while we looked, so that its first increase is seen by `rate()`; a counter
//! that was there before us has none, which would be a false reset. When the last sample of a series was written, a
//! staleness marker says so.

mod naming;
mod sums;

use std::collections::{BTreeMap, HashMap};

use aggregator_core::pod::PodKey;
use aggregator_core::report::InstanceId;
use aggregator_core::status::{PodState, PodStatus};
use aggregator_core::time::{Now, UnixMillis};

pub use naming::{About, Naming, Output, RATE, is_gauge, label_name};

use crate::block::{Block, Kind};
use crate::encoder::{Encoder, SeriesLabels};
use crate::sender::SHARDS;
use crate::series::naming::{Id, Owner, Part};
use crate::series::sums::Sums;
use crate::write_request::STALE;

#[cfg(test)]
mod tests;

/// Series that are known at once: 50,000 pods with 20 each.
const SERIES_MAX: usize = 1_000_000;

/// How long it is remembered that a pod was written, in milliseconds. A pod that began longer ago than this is not taken
/// for a new one.
const REMEMBERED_MS: i64 = 10 * 60 * 1000;

/// Makes flushes.
#[derive(Debug)]
pub struct Exporter {
    naming: Naming,
    /// When we began to look: what began later, began at 0.
    since: UnixMillis,
    /// Empty but for [`Output::Summed`].
    sums: Sums,
    /// Up to when another process may have written sums, in Unix milliseconds.
    silent_until: i64,
    last: Option<i64>,
    series: HashMap<Id, Known>,
    /// Pods that were written lately.
    pods: HashMap<PodKey, Written>,
    flush: u64,
    refused: u64,
}

#[derive(Debug)]
struct Known {
    labels: SeriesLabels,
    about: About,
    /// The last flush it was in.
    flush: u64,
}

/// What a flush is made of.
pub struct Flush<'a> {
    /// When it is made: the moments of `pods` on the wall clock.
    pub now: Now,
    /// Its time, in Unix milliseconds.
    pub timestamp: i64,
    /// Time between flushes, in milliseconds.
    pub interval: i64,
    /// Every pod of the store.
    pub pods: &'a [PodStatus],
    /// What is known of a pod besides.
    pub about: &'a dyn Fn(&PodKey) -> About,
    /// Requests per second of a pod, `None` if that is not known.
    pub rate: &'a dyn Fn(&PodKey) -> Option<f64>,
}

/// What whoever begins to write goes on with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Succession {
    /// Nobody is known to have written before.
    First,
    /// What was written before.
    Continued,
    /// Sums begin at 0: what was written before is not known.
    Anew,
}

/// What was last written of a pod.
#[derive(Debug)]
struct Written {
    instances: Vec<InstanceId>,
    /// Timestamp of the flush.
    at: i64,
}

/// The encoders of one flush.
struct Encoders {
    marks: Vec<Encoder>,
    plain: Vec<Encoder>,
}

/// Of which flush a checkpoint of [`Exporter::checkpoint`] is, in Unix milliseconds; `None` if it is not whole.
pub fn flush_of(checkpoint: &[u8]) -> Option<i64> {
    Sums::flush_of(checkpoint)
}

// === impl Succession ===

impl Succession {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::First, Self::Continued, Self::Anew];

    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Continued => "continued",
            Self::Anew => "anew",
        }
    }
}

// === impl Flush ===

impl std::fmt::Debug for Flush<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flush").finish_non_exhaustive()
    }
}

// === impl Exporter ===

impl Exporter {
    /// One that looks since `since`: when it was made, or when the last flush was made durable by the one before it.
    pub fn new(naming: Naming, since: UnixMillis) -> Self {
        Self {
            naming,
            since,
            sums: Sums::new(since),
            silent_until: signed(since),
            last: None,
            series: HashMap::new(),
            pods: HashMap::new(),
            flush: 0,
            refused: 0,
        }
    }

    /// Series that were not written so far: no receiver would take their labels, or there are too many.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The blocks of the flush at `timestamp`, which is `interval` milliseconds after the one before.
    pub fn flush(&mut self, flush: &Flush<'_>) -> Vec<Block> {
        self.flush += 1;
        let mut encoders = Encoders::new(flush.timestamp);
        match self.naming.output {
            Output::PerPod => self.write_pods(&mut encoders, flush),
            Output::Summed => self.write_sums(&mut encoders, flush),
        }
        self.end_stale(&mut encoders);
        self.last = Some(flush.timestamp);
        encoders.finish()
    }

    /// What another exporter goes on with, after a restart or in another replica, for [`Exporter::restore`]; nothing
    /// unless totals are summed. It has to be durable before the blocks of the flush are.
    pub fn checkpoint(&self) -> Option<Vec<u8>> {
        let summed = self.naming.output == Output::Summed;
        summed.then(|| self.sums.checkpoint()).flatten()
    }

    /// Goes on with a checkpoint, unless it is older than what is known; false if it is not whole.
    pub fn restore(&mut self, checkpoint: &[u8]) -> bool {
        let Some(at) = flush_of(checkpoint) else {
            return false;
        };
        if self.sums.at() < Some(at) {
            let Some(sums) = Sums::restore(checkpoint) else {
                return false;
            };
            self.sums = sums;
        }
        true
    }

    /// Another replica writes: what this one added up is not what is written any more.
    pub fn give_up(&mut self) {
        self.sums = Sums::new(self.since);
    }

    /// This process writes from `now` on, after one that may have sent every flush up to `told` (Unix milliseconds).
    /// Sums that do not hold all of that begin anew: one that is told lower than before would be taken for a reset, and
    /// all of it counted twice.
    pub fn lead(&mut self, told: Option<i64>, now: UnixMillis) -> Succession {
        let Some(told) = told else {
            return Succession::First;
        };
        self.silent_until = self.silent_until.max(told);
        if self.naming.output == Output::PerPod || self.sums.at() >= Some(told) {
            return Succession::Continued;
        }
        self.sums = Sums::new(now);
        self.silent_until = self.silent_until.max(signed(now));
        Succession::Anew
    }

    fn write_pods(&mut self, encoders: &mut Encoders, flush: &Flush<'_>) {
        let (at, before) = (flush.timestamp, self.before(flush));
        let written: Vec<_> = flush
            .pods
            .iter()
            .filter(|pod| self.is_written(pod))
            .collect();
        for pod in written {
            let began = self.counts_from_zero(flush.now, pod, at);
            let about = (flush.about)(&pod.key);
            let owner = Owner::Pod(pod.key.clone());
            for series in &pod.series {
                let id = |part| Id {
                    owner: owner.clone(),
                    key: Some(series.key.clone()),
                    part,
                };
                for (part, total) in Naming::totals(series) {
                    self.write(
                        encoders,
                        id(part),
                        &about,
                        real(total),
                        began.then_some(before),
                    );
                }
                // A gauge does not begin at 0.
                if let Some(inflight) = series.inflight.filter(|_| self.naming.inflight) {
                    self.write(encoders, id(Part::Active), &about, real(inflight), None);
                }
            }
            if let Some(rate) = self.rate(flush, &pod.key) {
                let (key, part) = (None, Part::Rate);
                self.write(encoders, Id { owner, key, part }, &about, rate, None);
            }
            let instances = pod.instances.clone();
            self.pods.insert(pod.key.clone(), Written { instances, at });
        }
        self.pods
            .retain(|_, written| at - written.at < REMEMBERED_MS);
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
            let about = (flush.about)(&pod.key);
            let namespace = pod.key.namespace.to_string();
            let owner = Owner::Group { namespace, about };
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
                let part = Part::Active;
                let sum = gauges.entry(Id { owner, key, part }).or_default();
                *sum += real(inflight);
            }
            if let Some(rate) = self.rate(flush, &pod.key) {
                let (key, part) = (None, Part::Rate);
                *gauges.entry(Id { owner, key, part }).or_default() += rate;
            }
        }
        self.sums.end_flush(at);
        // A sum begins at 0, but not at a time that a replica before us may have written.
        let zero = before.max(self.silent_until.saturating_add(1));
        let sums = self.sums.of_flush(at);
        let sums = sums.map(|(id, sum, new)| (id.clone(), real(sum), new && zero < at));
        let gauges = gauges.into_iter().map(|(id, value)| (id, value, false));
        let all: Vec<_> = sums.chain(gauges).collect();
        for (id, value, begins) in all {
            let about = match &id.owner {
                Owner::Group { about, .. } => about.clone(),
                Owner::Pod(_) => About::default(),
            };
            self.write(encoders, id, &about, value, begins.then_some(zero));
        }
    }

    fn before(&self, flush: &Flush<'_>) -> i64 {
        self.last.unwrap_or(flush.timestamp - flush.interval)
    }

    fn rate(&self, flush: &Flush<'_>, pod: &PodKey) -> Option<f64> {
        self.naming.rate.then(|| (flush.rate)(pod)).flatten()
    }

    /// True if a series of the pod that was not written before began at 0 since the flush before: the pod is new and
    /// began while we looked, or was in that flush with the same counters. One that was away, or restarted, and is back
    /// did not begin: a 0 for it would be a false reset.
    fn counts_from_zero(&self, now: Now, pod: &PodStatus, timestamp: i64) -> bool {
        match self.pods.get(&pod.key) {
            Some(written) => Some(written.at) == self.last && written.instances == pod.instances,
            None => pod.started_at.is_some_and(|at| {
                let at = now.wall_of(at);
                let age = timestamp.saturating_sub_unsigned(at.0);
                at > self.since && age < REMEMBERED_MS
            }),
        }
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
        about: &About,
        value: f64,
        zero: Option<i64>,
    ) {
        let room = self.series.len() < SERIES_MAX;
        let flush = self.flush;
        if let Some(known) = self.series.get_mut(&id)
            && known.about == *about
        {
            known.flush = flush;
            encoders.plain(&known.labels, value);
            return;
        }
        // New, or under other labels from now on: the old ones end, and the new ones do not begin at 0.
        let old = self.series.remove(&id);
        let zero = zero.filter(|_| old.is_none());
        if let Some(old) = old {
            encoders.mark(&old.labels, STALE, None);
        }
        let labels = self.naming.labels(&id, about).filter(|_| room);
        let Some(labels) = labels else {
            self.refused += 1;
            return;
        };
        if let Some(at) = zero {
            encoders.mark(&labels, 0.0, Some(at));
        }
        encoders.plain(&labels, value);
        let known = Known {
            labels,
            about: about.clone(),
            flush,
        };
        self.series.insert(id, known);
    }

    /// Ends the series that were not in this flush.
    fn end_stale(&mut self, encoders: &mut Encoders) {
        let flush = self.flush;
        self.series.retain(|_, known| {
            let stays = known.flush == flush;
            if !stays {
                encoders.mark(&known.labels, STALE, None);
            }
            stays
        });
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "samples are doubles: exact up to 2^53"
)]
fn real(total: u64) -> f64 {
    total as f64
}

// === impl Encoders ===

impl Encoders {
    fn new(timestamp: i64) -> Self {
        let of = |kind| {
            let shards = 0..SHARDS;
            shards
                .map(move |shard| Encoder::new(shard, kind, timestamp))
                .collect()
        };
        Self {
            marks: of(Kind::Marks),
            plain: of(Kind::Plain),
        }
    }

    fn plain(&mut self, labels: &SeriesLabels, value: f64) {
        if let Some(encoder) = self.plain.get_mut(usize::from(labels.shard(SHARDS))) {
            logged(encoder.push(labels, value));
        }
    }

    /// At the flush's time, or at another.
    fn mark(&mut self, labels: &SeriesLabels, value: f64, at: Option<i64>) {
        if let Some(encoder) = self.marks.get_mut(usize::from(labels.shard(SHARDS))) {
            logged(match at {
                None => encoder.push(labels, value),
                Some(at) => encoder.push_at(labels, value, at),
            });
        }
    }

    /// Marks first: the 0 of a counter comes before its first sample.
    fn finish(self) -> Vec<Block> {
        let all = self.marks.into_iter().chain(self.plain);
        all.filter_map(|encoder| logged(encoder.finish()))
            .flatten()
            .collect()
    }
}

/// Snappy fails only for blocks far beyond ours.
fn logged<T>(encoded: Result<T, snap::Error>) -> Option<T> {
    encoded
        .inspect_err(|error| tracing::error!(%error, "remote write: a block was not compressed"))
        .ok()
}

fn signed(time: UnixMillis) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}
