//! Metrics of the API. Labels are bounded: enumerations, and namespaces up to a limit.

use std::collections::HashSet;
use std::sync::Arc;

use aggregator_core::query::NoValue;
use aggregator_directory::Directory;
use common_time::Clock;
use http::StatusCode;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::hpa_reads::HpaReads;
use crate::no_value_reason;
use crate::signal_age::SignalAge;
use crate::status::Reason;
use crate::workload::Workload;

/// Namespaces with their own signal age; later ones share [`OTHER_NAMESPACES`]. 1000 x 16 buckets
/// are about 1 MB of text per scrape.
const NAMESPACES_MAX: usize = 1000;

/// Label of all namespaces beyond [`NAMESPACES_MAX`]. No namespace can have this name.
const OTHER_NAMESPACES: &str = "_other";

/// Upper bounds in seconds: fine around the target of 1.5 s, then up to the longest window.
const AGE_BUCKETS: [f64; 15] = [
    0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 30.0, 60.0,
];

/// Label `resource` besides the workloads.
const RESOURCES: [&str; 12] = [
    "pods",
    "namespaces",
    "services",
    "external",
    "workloads",
    "reads",
    "explanations",
    "timelines",
    "health",
    "page",
    "discovery",
    "other",
];

/// Label `code`.
const CODES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// Label `part`.
const PARTS: [&str; 3] = ["flush", "transport", "store"];

/// Clones share their counters.
#[derive(Clone, Debug)]
pub struct Observations {
    requests: Family<RequestLabels, Counter>,
    refused: Family<ReasonLabels, Counter>,
    missing: Family<ReasonLabels, Counter>,
    signal_age: Family<NamespaceLabels, Histogram>,
    signal_age_parts: Family<PartLabels, Histogram>,
    /// Namespaces with their own label.
    namespaces: Arc<Mutex<HashSet<Arc<str>>>>,
    pub(crate) hpa_reads: HpaReads,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct RequestLabels {
    resource: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct NamespaceLabels {
    namespace: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct PartLabels {
    namespace: String,
    part: &'static str,
}

// === impl Observations ===

impl Observations {
    /// Registers the metrics in `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let signal_age = Family::<NamespaceLabels, Histogram>::new_with_constructor(|| {
            Histogram::new(AGE_BUCKETS)
        });
        let observations = Self {
            requests: Family::default(),
            refused: Family::default(),
            missing: Family::default(),
            signal_age,
            signal_age_parts: Family::new_with_constructor(|| Histogram::new(AGE_BUCKETS)),
            namespaces: Arc::default(),
            hpa_reads: HpaReads::default(),
        };
        registry.register_with_unit(
            "signal_age",
            "Age of the oldest value in an answer of the custom metrics API: from the end of what the sidecar \
             counted to the read",
            Unit::Seconds,
            observations.signal_age.clone(),
        );
        registry.register_with_unit(
            "signal_age_part",
            "Where the age of the oldest value comes from: transport (beyond the shortest way seen) and store add up \
             to it; flush is how long what the value holds may have waited in the sidecar before",
            Unit::Seconds,
            observations.signal_age_parts.clone(),
        );
        let api = registry.sub_registry_with_prefix("api");
        api.register(
            "requests",
            "Requests to the custom metrics API, by what was asked and class of the answer",
            observations.requests.clone(),
        );
        api.register(
            "refused",
            "Requests that got no value, by reason",
            observations.refused.clone(),
        );
        api.register(
            "missing_pods",
            "Pods that matched a request but had no value to give, by reason",
            observations.missing.clone(),
        );
        observations.begin();
        observations
    }

    /// Registers the metrics of what autoscalers read, as far as `directory` knows them.
    #[must_use]
    pub fn with_autoscalers(
        self,
        registry: &mut Registry,
        directory: Arc<Directory>,
        clock: Clock,
    ) -> Self {
        registry.register_collector(self.hpa_reads.collector(directory, clock));
        self
    }

    fn begin(&self) {
        // Prometheus sees no increase when a series appears, and a family without series is not
        // exposed at all, so every series but those of namespaces starts with 0.
        let workloads = Workload::ALL.map(Workload::resource);
        for resource in RESOURCES.into_iter().chain(workloads) {
            for code in CODES {
                drop(
                    self.requests
                        .get_or_create(&RequestLabels { resource, code }),
                );
            }
        }
        let namespace = OTHER_NAMESPACES.to_owned();
        drop(
            self.signal_age
                .get_or_create(&NamespaceLabels { namespace }),
        );
        for part in PARTS {
            let namespace = OTHER_NAMESPACES.to_owned();
            drop(
                self.signal_age_parts
                    .get_or_create(&PartLabels { namespace, part }),
            );
        }
        for reason in Reason::ALL.map(Reason::as_str) {
            drop(self.refused.get_or_create(&ReasonLabels { reason }));
        }
        for reason in no_value_reason::REASONS.map(NoValue::as_str) {
            drop(self.missing.get_or_create(&ReasonLabels { reason }));
        }
    }

    pub(crate) fn request(&self, resource: &'static str, status: StatusCode) {
        let [success, redirection, client, server] = CODES;
        let code = match status.as_u16() / 100 {
            2 => success,
            3 => redirection,
            4 => client,
            _ => server,
        };
        self.requests
            .get_or_create(&RequestLabels { resource, code })
            .inc();
    }

    pub(crate) fn refused(&self, reason: Reason) {
        self.refused
            .get_or_create(&ReasonLabels {
                reason: reason.as_str(),
            })
            .inc();
    }

    pub(crate) fn missing(&self, why: NoValue) {
        self.missing
            .get_or_create(&ReasonLabels {
                reason: why.as_str(),
            })
            .inc();
    }

    /// Observes a served value of `namespace`, never a namespace that a client made up.
    pub(crate) fn signal_age(&self, namespace: &str, age: SignalAge) {
        let namespace = if self.has_label(namespace) {
            namespace
        } else {
            OTHER_NAMESPACES
        };
        let labels = NamespaceLabels {
            namespace: namespace.to_owned(),
        };
        self.signal_age
            .get_or_create(&labels)
            .observe(age.total().as_secs_f64());
        for (part, time) in PARTS.into_iter().zip([age.flush, age.transport, age.store]) {
            let labels = PartLabels {
                namespace: namespace.to_owned(),
                part,
            };
            let histogram = self.signal_age_parts.get_or_create(&labels);
            histogram.observe(time.as_secs_f64());
        }
    }

    fn has_label(&self, namespace: &str) -> bool {
        let mut namespaces = self.namespaces.lock();
        if namespaces.contains(namespace) {
            return true;
        }
        let room = namespaces.len() < NAMESPACES_MAX;
        if room {
            namespaces.insert(namespace.into());
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Namespaces beyond the limit share one label, so the size of our own metrics is bounded.
    #[test]
    fn bounds_namespaces() {
        let mut registry = Registry::default();
        let observations = Observations::register(&mut registry);
        let age = SignalAge {
            flush: Duration::from_secs(1),
            transport: Duration::from_millis(100),
            store: Duration::from_millis(600),
        };
        for index in 0..NAMESPACES_MAX + 5 {
            observations.signal_age(&format!("ns-{index}"), age);
        }
        observations.signal_age("ns-0", age);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("signal_age_seconds_count{namespace=\"_other\"} 5\n"));
        assert!(text.contains("signal_age_seconds_count{namespace=\"ns-0\"} 2\n"));
        assert!(text.contains("signal_age_seconds_sum{namespace=\"ns-0\"} 1.4\n"));
        for (part, sum) in [("flush", "2.0"), ("transport", "0.2"), ("store", "1.2")] {
            let line = format!("part_seconds_sum{{namespace=\"ns-0\",part=\"{part}\"}} {sum}\n");
            assert!(text.contains(&line), "{line}");
        }
        assert_eq!(
            text.matches("signal_age_seconds_count").count(),
            NAMESPACES_MAX + 1
        );
    }
}
