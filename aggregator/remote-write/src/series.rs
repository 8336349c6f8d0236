//! What is written of the store: running totals under the names that dashboards of Envoy already use.
//!
//! Pure: a flush is given the pods and the time, and gives blocks. A counter's first sample has a 0 before it, one
//! interval earlier, if the counter began while we looked, so that its first increase is seen by `rate()`; a counter
//! that was there before us has none, which would be a false reset. When the last sample of a series was written, a
//! staleness marker says so.

use std::collections::HashMap;

use aggregator_core::pod::PodKey;
use aggregator_core::report::InstanceId;
use aggregator_core::series::{CodeClass, SeriesKey};
use aggregator_core::status::{PodState, PodStatus, SeriesStatus};
use aggregator_core::time::UnixMillis;

use crate::block::{Block, Kind};
use crate::encoder::{Encoder, SeriesLabels};
use crate::sender::SHARDS;
use crate::write_request::STALE;

#[cfg(test)]
mod tests;

/// Series that are known at once: 50,000 pods with 20 each.
const SERIES_MAX: usize = 1_000_000;

/// How long it is remembered that a pod was written, in milliseconds. A pod that began longer ago than this is not taken
/// for a new one.
const REMEMBERED_MS: i64 = 10 * 60 * 1000;

/// Names and labels.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Naming {
    /// What the names of all metrics begin with.
    pub prefix: String,
    /// Labels of every series, such as `cluster` and `__replica__`.
    pub external_labels: Vec<(String, String)>,
    /// Labels of the pod that become labels of its series, under names that Prometheus allows.
    pub pod_labels: Vec<String>,
    /// Only series of pods that report to this replica at this moment: another replica may write the others, and
    /// the receiver takes the samples of one replica at a time.
    pub live_only: bool,
}

/// What is known of a pod besides its totals.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct About {
    /// The service that leads to it; of several the first by name.
    pub service: String,
    /// The values of [`Naming::pod_labels`], in their order; empty where there is none.
    pub labels: Vec<String>,
}

/// Makes flushes.
#[derive(Debug)]
pub struct Exporter {
    naming: Naming,
    /// When we began to look.
    since: UnixMillis,
    last: Option<i64>,
    series: HashMap<Id, Known>,
    /// Pods that were written lately.
    pods: HashMap<PodKey, Written>,
    flush: u64,
    refused: u64,
}

/// What makes a series of ours.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Id {
    pod: PodKey,
    key: SeriesKey,
    part: Part,
}

/// Which number of a series of the store.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Part {
    Total,
    Class(CodeClass),
    Code(u16),
    Active,
}

#[derive(Debug)]
struct Known {
    labels: SeriesLabels,
    about: About,
    /// The last flush it was in.
    flush: u64,
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

// === impl Naming ===

impl Default for Naming {
    fn default() -> Self {
        Self {
            prefix: "envoy_cluster_".to_owned(),
            external_labels: Vec::new(),
            pod_labels: Vec::new(),
            live_only: false,
        }
    }
}

impl Naming {
    fn labels(&self, id: &Id, about: &About) -> Option<SeriesLabels> {
        let prefix = &self.prefix;
        let (name, own) = match id.part {
            Part::Total => (format!("{prefix}upstream_rq_total"), None),
            Part::Active => (format!("{prefix}upstream_rq_active"), None),
            Part::Class(class) => {
                let digit = class.as_str().trim_end_matches('x').to_owned();
                let own = ("envoy_response_code_class", digit);
                (format!("{prefix}upstream_rq_xx"), Some(own))
            }
            Part::Code(code) => {
                let own = ("envoy_response_code", code.to_string());
                (format!("{prefix}upstream_rq"), Some(own))
            }
        };
        let fixed = [
            ("namespace", &*id.pod.namespace),
            ("kubernetes_pod_name", &*id.pod.name),
            ("service", about.service.as_str()),
            ("envoy_cluster_name", &*id.key.cluster),
            ("traffic_direction", id.key.direction.as_str()),
        ];
        let allowed: Vec<String> = self.pod_labels.iter().map(|key| label_name(key)).collect();
        let of_pod = allowed.iter().map(String::as_str);
        let of_pod = of_pod.zip(about.labels.iter().map(String::as_str));
        let external = self.external_labels.iter();
        let external = external.map(|(name, value)| (name.as_str(), value.as_str()));
        let own = own.as_ref().map(|(name, value)| (*name, value.as_str()));
        let all = fixed.into_iter().chain(own).chain(of_pod).chain(external);
        SeriesLabels::new(&name, all).ok()
    }
}

/// A label key of Kubernetes as a label name of Prometheus, as its service discovery does it.
pub fn label_name(key: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    key.chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .collect()
}

// === impl Exporter ===

impl Exporter {
    /// One that begins to look at `since`.
    pub fn new(naming: Naming, since: UnixMillis) -> Self {
        Self {
            naming,
            since,
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
    pub fn flush(
        &mut self,
        timestamp: i64,
        interval: i64,
        pods: &[PodStatus],
        about: impl Fn(&PodKey) -> About,
    ) -> Vec<Block> {
        self.flush += 1;
        let mut encoders = Encoders::new(timestamp);
        let before = self.last.unwrap_or(timestamp - interval);
        let written: Vec<_> = pods.iter().filter(|pod| self.is_written(pod)).collect();
        for pod in written {
            let began = self.counts_from_zero(pod, timestamp);
            let about = about(&pod.key);
            for series in &pod.series {
                for (part, value) in parts(series) {
                    let id = Id {
                        pod: pod.key.clone(),
                        key: series.key.clone(),
                        part,
                    };
                    // A gauge does not begin at 0.
                    let zero = (part != Part::Active && began).then_some(before);
                    self.write(&mut encoders, id, &about, value, zero);
                }
            }
            let instances = pod.instances.clone();
            let at = timestamp;
            self.pods.insert(pod.key.clone(), Written { instances, at });
        }
        self.pods
            .retain(|_, written| timestamp - written.at < REMEMBERED_MS);
        self.end_stale(&mut encoders);
        self.last = Some(timestamp);
        encoders.finish()
    }

    /// True if a series of the pod that was not written before began at 0 since the flush before: the pod is new and
    /// began while we looked, or was in that flush with the same counters. One that was away, or restarted, and is back
    /// did not begin: a 0 for it would be a false reset.
    fn counts_from_zero(&self, pod: &PodStatus, timestamp: i64) -> bool {
        match self.pods.get(&pod.key) {
            Some(written) => Some(written.at) == self.last && written.instances == pod.instances,
            None => pod.started_at.is_some_and(|at| {
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

/// The numbers of a series that are counted. Without attempts, requests stand in for them.
fn parts(series: &SeriesStatus) -> impl Iterator<Item = (Part, f64)> {
    let total = series.upstream_attempts.or(series.requests);
    let total = total.map(|total| (Part::Total, real(total)));
    let active = series.inflight.map(|count| (Part::Active, real(count)));
    // Envoy has no class for what got no response.
    let classes = series.responses.iter();
    let classes = classes.filter(|(class, _)| *class != CodeClass::None);
    let classes = classes.map(|(class, total)| (Part::Class(*class), real(*total)));
    let codes = series.codes.iter();
    let codes = codes.filter_map(|(code, total)| Some((Part::Code(code.exact()?), real(*total))));
    total.into_iter().chain(active).chain(classes).chain(codes)
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
