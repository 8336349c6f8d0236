//! Metrics of the ingest: names, units and labels.

use std::sync::atomic::AtomicU64;

use aggregator_core::status::RefusedReason;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::builds::Builds;
use crate::close_reason::Refusal;

/// Cheap to clone; clones share their counters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    streams: Gauge,
    streams_opened: Counter,
    plain: Gauge,
    plain_opened: Counter,
    pub(crate) waiting: Gauge,
    pub(crate) lag: Gauge<f64, AtomicU64>,
    pub(crate) flush_interval: Gauge<f64, AtomicU64>,
    pub(crate) superseded: Counter,
    pub(crate) replaced: Counter,
    pub(crate) reports: Counter,
    pub(crate) frames: Family<KindLabel, Counter>,
    pub(crate) received: Counter,
    pub(crate) refused: Family<ReasonLabel, Counter>,
    pub(crate) series_refused: Counter,
    token_reviews: Family<OutcomeLabel, Counter>,
    pub(crate) builds: Builds,
}

/// Counts an open stream until it is dropped.
#[derive(Debug)]
pub(crate) struct StreamGuard {
    streams: Gauge,
    plain: Option<Gauge>,
}

/// Outcome of a token review; one of a fixed set.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// `hello` or `report`.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct KindLabel {
    pub(crate) kind: &'static str,
}

/// Why a stream was refused; one of a fixed set.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct ReasonLabel {
    pub(crate) reason: &'static str,
}

// === impl Metrics ===

impl Metrics {
    /// Registers the metrics with the prefix `ingest`.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("ingest");
        registry.register(
            "streams",
            "Streams of sidecars that are open",
            metrics.streams.clone(),
        );
        registry.register(
            "streams_opened",
            "Streams of sidecars opened so far",
            metrics.streams_opened.clone(),
        );
        registry.register(
            "streams_plain",
            "Streams of sidecars that are open without TLS",
            metrics.plain.clone(),
        );
        registry.register(
            "streams_plain_opened",
            "Streams of sidecars opened without TLS so far",
            metrics.plain_opened.clone(),
        );
        registry.register(
            "streams_superseded",
            "Streams ended by a newer stream of the same instance",
            metrics.superseded.clone(),
        );
        registry.register(
            "streams_replaced",
            "Streams ended by a newer instance of the pod's sidecar",
            metrics.replaced.clone(),
        );
        registry.register(
            "reports",
            "Reports that are in the store",
            metrics.reports.clone(),
        );
        registry.register(
            "frames",
            "Frames received, by kind; one that cannot be decoded is in ingest_refused only",
            metrics.frames.clone(),
        );
        registry.register_with_unit(
            "received",
            "Size of the frames received, without framing",
            Unit::Bytes,
            metrics.received.clone(),
        );
        metrics.register_load(registry);
        metrics.register_refused(registry);
        registry.register_collector(Box::new(metrics.builds.clone()));
        metrics.begin();
        metrics
    }

    fn register_load(&self, registry: &mut Registry) {
        registry.register(
            "waiting",
            "Streams that wait until others have begun",
            self.waiting.clone(),
        );
        registry.register_with_unit(
            "lag",
            "How late this replica ran at most in the last second: so long frames may have waited",
            Unit::Seconds,
            self.lag.clone(),
        );
        registry.register_with_unit(
            "flush_interval",
            "Interval between reports that sidecars are asked for while this replica is behind; 0: each keeps its own",
            Unit::Seconds,
            self.flush_interval.clone(),
        );
    }

    fn register_refused(&self, registry: &mut Registry) {
        registry.register(
            "refused",
            "Streams ended since a frame was refused or a limit was reached, by reason",
            self.refused.clone(),
        );
        registry.register(
            "series_refused",
            "Series of reports that had no room in the store",
            self.series_refused.clone(),
        );
        registry.register(
            "token_reviews",
            "Tokens of sidecars: verified, unbound (to no pod), invalid, or failed (the cluster could not tell)",
            self.token_reviews.clone(),
        );
    }

    fn begin(&self) {
        // Prometheus sees no increase when a series appears, so every label value starts with 0.
        for kind in ["hello", "report"] {
            drop(self.frames.get_or_create(&KindLabel { kind }));
        }
        for reason in reasons() {
            drop(self.refused.get_or_create(&ReasonLabel { reason }));
        }
        for outcome in ["verified", "unbound", "invalid", "failed"] {
            drop(self.token_reviews.get_or_create(&OutcomeLabel { outcome }));
        }
    }

    /// Counts one stream; `is_plain` is one without TLS.
    pub(crate) fn open(&self, is_plain: bool) -> StreamGuard {
        self.streams.inc();
        self.streams_opened.inc();
        let plain = is_plain.then(|| self.plain.clone());
        if let Some(plain) = &plain {
            plain.inc();
            self.plain_opened.inc();
        }
        let streams = self.streams.clone();
        StreamGuard { streams, plain }
    }

    pub(crate) fn count_frame(&self, kind: &'static str, bytes: usize) {
        self.frames.get_or_create(&KindLabel { kind }).inc();
        self.received.inc_by(bytes as u64);
    }

    pub(crate) fn count_token_review(&self, outcome: &'static str) {
        let label = OutcomeLabel { outcome };
        self.token_reviews.get_or_create(&label).inc();
    }

    pub(crate) fn count_refused(&self, reason: &'static str) {
        debug_assert!(reasons().any(|known| known == reason), "{reason}");
        self.refused.get_or_create(&ReasonLabel { reason }).inc();
    }
}

// === impl Open ===

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.streams.dec();
        if let Some(plain) = &self.plain {
            plain.dec();
        }
    }
}

/// Every reason label.
fn reasons() -> impl Iterator<Item = &'static str> {
    let of_store = RefusedReason::ALL.map(RefusedReason::as_str);
    Refusal::REASONS.into_iter().chain(of_store)
}
