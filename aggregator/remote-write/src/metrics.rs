//! Metrics of remote write. Names follow Prometheus' own (`prometheus_remote_storage_*`), so that
//! alerts can be adapted.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;

use crate::queue::DropReason;
use crate::write_response::Class;

/// Cheap to clone; clones share their counters.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) samples: Family<ResultLabel, Counter>,
    pub(crate) requests: Family<CodeLabel, Counter>,
    pub(crate) retries: Family<ResultLabel, Counter>,
    pub(crate) dropped: Family<ReasonLabel, Counter>,
    pub(crate) seconds: Histogram,
    pub(crate) flushes: Counter,
    pub(crate) pushed: Counter,
    pub(crate) series_refused: Counter,
    pub(crate) series_aside: Gauge,
    pub(crate) aside_overflowed: Counter,
    pub(crate) pending_samples: Gauge,
    pub(crate) pending_bytes: Gauge,
    pub(crate) highest_sent: Gauge<f64, AtomicU64>,
    pub(crate) highest_pushed: Gauge<f64, AtomicU64>,
    pub(crate) oldest_pending: Gauge<f64, AtomicU64>,
    pub(crate) blocked: Gauge,
    pub(crate) lag: Gauge<f64, AtomicU64>,
    pub(crate) skew: Gauge<f64, AtomicU64>,
    pub(crate) disk_errors: Counter,
    pub(crate) damaged: Counter,
}

/// Outcome of samples or requests; one of a fixed set.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct ResultLabel {
    pub(crate) result: &'static str,
}

/// HTTP status, `none` without a response.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct CodeLabel {
    pub(crate) code: String,
}

/// Why samples were dropped; one of a fixed set.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct ReasonLabel {
    pub(crate) reason: &'static str,
}

common_names::named! {
    /// Final outcome of samples.
    pub(crate) enum Outcome {
        Stored = "stored",
        Deduplicated = "deduplicated",
        Rejected = "rejected",
        TooLarge = "too_large",
        ClockStep = "clock_step",
        SeriesLimit = "series_limit",
        Failing = "failing",
    }
}

// === impl Metrics ===

impl Default for Metrics {
    fn default() -> Self {
        Self {
            samples: Family::default(),
            requests: Family::default(),
            retries: Family::default(),
            dropped: Family::default(),
            seconds: Histogram::new(exponential_buckets(0.005, 2.0, 14)),
            flushes: Counter::default(),
            pushed: Counter::default(),
            series_refused: Counter::default(),
            series_aside: Gauge::default(),
            aside_overflowed: Counter::default(),
            pending_samples: Gauge::default(),
            pending_bytes: Gauge::default(),
            highest_sent: Gauge::default(),
            highest_pushed: Gauge::default(),
            oldest_pending: Gauge::default(),
            blocked: Gauge::default(),
            lag: Gauge::default(),
            skew: Gauge::default(),
            disk_errors: Counter::default(),
            damaged: Counter::default(),
        }
    }
}

impl Metrics {
    /// Registers the metrics with the prefix `remote_write`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("remote_write");
        metrics.register_work(registry);
        metrics.register_queue(registry);
        metrics.begin();
        metrics
    }

    fn begin(&self) {
        // Prometheus sees no increase when a series appears, and a family without series is not
        // exposed at all, so every label value starts with 0; of HTTP statuses only `none`.
        let code = "none".to_owned();
        drop(self.requests.get_or_create(&CodeLabel { code }));
        for result in Outcome::ALL.map(Outcome::as_str) {
            drop(self.samples.get_or_create(&ResultLabel { result }));
        }
        for result in Class::RETRIED.map(Class::as_str) {
            drop(self.retries.get_or_create(&ResultLabel { result }));
        }
        for reason in DropReason::ALL.map(DropReason::as_str) {
            drop(self.dropped.get_or_create(&ReasonLabel { reason }));
        }
    }

    pub fn count_refused(&self, series: u64) {
        self.series_refused.inc_by(series);
    }

    fn register_work(&self, registry: &mut Registry) {
        registry.register(
            "flushes",
            "Flushes of the store into the queue",
            self.flushes.clone(),
        );
        let help = "Samples that flushes put into the queue";
        registry.register("samples_pushed", help, self.pushed.clone());
        let help = "Samples answered for good, by result: stored, deduplicated, rejected, too_large, clock_step (our clock was set, and the receiver has later samples or is behind), series_limit and failing (set aside, while others are stored)";
        registry.register("samples", help, self.samples.clone());
        let help = "Samples dropped unsent, by reason";
        registry.register("samples_dropped", help, self.dropped.clone());
        let help = "Series that were not written: no receiver would take their labels, or there are too many";
        registry.register("series_refused", help, self.series_refused.clone());
        let help = "Series set aside for some minutes: the receiver has reached its limit of series, or fails on them alone";
        registry.register("series_aside", help, self.series_aside.clone());
        let help = "Series that were refused and could not be remembered: they are found anew in each batch";
        registry.register(
            "series_aside_overflowed",
            help,
            self.aside_overflowed.clone(),
        );
        let help = "Requests, by HTTP status of the answer; none without one";
        registry.register("requests", help, self.requests.clone());
        let help = "Requests to be sent again, by what the answer meant";
        registry.register("retries", help, self.retries.clone());
        let help = "Time from sending a request to its answer";
        registry.register_with_unit("request", help, Unit::Seconds, self.seconds.clone());
        let help =
            "Shards whose batch is held for credentials or address (401, 403, 404 and the like)";
        registry.register("shards_blocked", help, self.blocked.clone());
    }

    fn register_queue(&self, registry: &mut Registry) {
        let help = "Samples in the queue";
        registry.register("samples_pending", help, self.pending_samples.clone());
        let help = "Size of the queue";
        registry.register_with_unit("queue", help, Unit::Bytes, self.pending_bytes.clone());
        let help = "Unix time of the newest sample in the queue or sent";
        registry.register_with_unit(
            "highest_timestamp",
            help,
            Unit::Seconds,
            self.highest_pushed.clone(),
        );
        let help = "Unix time of the newest sample answered for good; the lag is highest_timestamp minus this";
        registry.register_with_unit(
            "highest_sent_timestamp",
            help,
            Unit::Seconds,
            self.highest_sent.clone(),
        );
        let help = "Unix time of the oldest sample in the queue, 0 if it is empty";
        registry.register_with_unit(
            "oldest_pending_timestamp",
            help,
            Unit::Seconds,
            self.oldest_pending.clone(),
        );
        let help = "How long the oldest sample in the queue has waited; while the receiver refuses all samples for their time, how long ago it stored one. 0 if nothing waits or is refused";
        registry.register_with_unit("lag", help, Unit::Seconds, self.lag.clone());
        let help = "The receiver's clock minus ours; beyond 300 signatures are made for its time";
        registry.register_with_unit("clock_skew", help, Unit::Seconds, self.skew.clone());
        let help = "Writes that the disk did not take; samples wait in memory then";
        registry.register("disk_errors", help, self.disk_errors.clone());
        let help = "Bytes on disk that were no records when the queue was opened, and were skipped";
        registry.register_with_unit("damaged", help, Unit::Bytes, self.damaged.clone());
    }
}
