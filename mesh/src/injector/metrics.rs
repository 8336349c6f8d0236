//! Metrics of the webhook: names, units and labels in one place.

use std::fmt;
use std::time::Duration;

use common_tls::ReloadableCert;
use mesh_injector::skipped::Skipped;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds in seconds. A review takes less than 1 ms; Kubernetes allows a webhook 30 s.
const DURATION_BUCKETS: [f64; 12] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0,
];

/// Why a request gets no review.
const REQUEST_REASONS: [&str; 7] = [
    "busy",
    "slow",
    "broken",
    "path",
    "method",
    "content_type",
    "large",
];

const OUTCOMES: [&str; 5] = ["raised", "failed", "repeated", "limited", "malformed"];

/// Outcomes of writes of CA `ConfigMap`s.
const CA_OUTCOMES: [&str; 6] = [
    "created", "changed", "removed", "refused", "failed", OVER_LIMIT,
];

/// The cache had no room for a namespace or `ConfigMap`.
const OVER_LIMIT: &str = "over_limit";

/// The webhook's own metrics; cheap to clone, all clones count together.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    reviews: Family<ReviewLabels, Counter>,
    duration: Histogram,
    requests_refused: Family<ReasonLabel, Counter>,
    events: Family<OutcomeLabel, Counter>,
    settings_failed: Counter,
    ca_configmaps: Family<OutcomeLabel, Counter>,
    ca_namespaces: Family<StateLabel, Gauge>,
}

/// Number of namespaces by state.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct States {
    pub(super) current: i64,
    pub(super) behind: i64,
    pub(super) refused: i64,
}

/// `reason` is empty unless `result` is `skipped`.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ReviewLabels {
    result: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct StateLabel {
    state: &'static str,
}

/// Reads the certificate at each scrape.
#[derive(Debug)]
struct CertificateGauge(ReloadableCert);

// === impl Metrics ===

impl Default for Metrics {
    fn default() -> Self {
        Self {
            reviews: Family::default(),
            duration: Histogram::new(DURATION_BUCKETS),
            requests_refused: Family::default(),
            events: Family::default(),
            settings_failed: Counter::default(),
            ca_configmaps: Family::default(),
            ca_namespaces: Family::default(),
        }
    }
}

impl Metrics {
    /// Registers the metrics under the prefix `injector`.
    pub(super) fn register(registry: &mut Registry, serving: ReloadableCert) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("injector");
        registry.register(
            "reviews",
            "Reviews of pods, by result: injected, skipped (by reason) or malformed",
            metrics.reviews.clone(),
        );
        registry.register_with_unit(
            "review_duration",
            "Time from a request's head to its answer",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        registry.register(
            "requests_refused",
            "Requests that were no review, or for which there was no room or no time, by reason",
            metrics.requests_refused.clone(),
        );
        registry.register(
            "events",
            "Events on pods that could not be injected, by what became of them",
            metrics.events.clone(),
        );
        registry.register(
            "settings_failed",
            "Times that a file of the settings could not be read again",
            metrics.settings_failed.clone(),
        );
        metrics.register_ca_configmaps(registry);
        registry.register_collector(Box::new(CertificateGauge(serving)));
        metrics.start();
        metrics
    }

    fn register_ca_configmaps(&self, registry: &mut Registry) {
        registry.register(
            "ca_configmaps",
            "Writes of ConfigMaps with the CAs of the aggregators, by what became of them",
            self.ca_configmaps.clone(),
        );
        registry.register(
            "ca_namespaces",
            "Namespaces labelled for injection by the state of their ConfigMap: current, behind, or refused since it is \
             somebody else's; all 0 of an injector that does not hold the Lease",
            self.ca_namespaces.clone(),
        );
    }

    /// All labels exist from the start: `rate()` misses the first increment of a new series.
    fn start(&self) {
        for result in ["injected", "malformed"] {
            let labels = ReviewLabels { result, reason: "" };
            drop(self.reviews.get_or_create(&labels));
        }
        for reason in Skipped::REASONS {
            let result = "skipped";
            drop(self.reviews.get_or_create(&ReviewLabels { result, reason }));
        }
        for reason in REQUEST_REASONS {
            drop(self.requests_refused.get_or_create(&ReasonLabel { reason }));
        }
        for outcome in OUTCOMES {
            drop(self.events.get_or_create(&OutcomeLabel { outcome }));
        }
        for outcome in CA_OUTCOMES {
            drop(self.ca_configmaps.get_or_create(&OutcomeLabel { outcome }));
        }
        self.ca_configmap_states(States::default());
    }

    pub(super) fn reviewed(&self, result: &'static str, reason: &'static str) {
        debug_assert!(reason.is_empty() || Skipped::REASONS.contains(&reason));
        let labels = ReviewLabels { result, reason };
        self.reviews.get_or_create(&labels).inc();
    }

    pub(super) fn took(&self, duration: Duration) {
        self.duration.observe(duration.as_secs_f64());
    }

    pub(super) fn request_refused(&self, reason: &'static str) {
        debug_assert!(REQUEST_REASONS.contains(&reason), "{reason}");
        let labels = ReasonLabel { reason };
        self.requests_refused.get_or_create(&labels).inc();
    }

    pub(super) fn event(&self, outcome: &'static str) {
        debug_assert!(OUTCOMES.contains(&outcome), "{outcome}");
        self.events.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    pub(super) fn settings_failed(&self) {
        self.settings_failed.inc();
    }

    pub(super) fn ca_configmap(&self, outcome: &'static str) {
        debug_assert!(CA_OUTCOMES.contains(&outcome), "{outcome}");
        let labels = OutcomeLabel { outcome };
        self.ca_configmaps.get_or_create(&labels).inc();
    }

    /// Counts namespaces and `ConfigMap`s beyond the cache's limits.
    pub(super) fn ca_configmaps_over_limit(&self) -> Counter {
        let outcome = OVER_LIMIT;
        let counter = self.ca_configmaps.get_or_create(&OutcomeLabel { outcome });
        counter.clone()
    }

    pub(super) fn ca_configmap_states(&self, states: States) {
        for (state, count) in [
            ("current", states.current),
            ("behind", states.behind),
            ("refused", states.refused),
        ] {
            let labels = StateLabel { state };
            self.ca_namespaces.get_or_create(&labels).set(count);
        }
    }

    #[cfg(test)]
    pub(super) fn settings_failures(&self) -> u64 {
        self.settings_failed.get()
    }
}

// === impl CertificateGauge ===

impl Collector for CertificateGauge {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "When the webhook's certificate expires, in seconds of Unix time";
        let name = "certificate_expiry_timestamp_seconds";
        let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        let expires = i64::try_from(self.0.expires()).unwrap_or(i64::MAX);
        ConstGauge::new(expires).encode(metric)
    }
}
