//! The summary: requests sent, counted by Envoy and counted by meshmeter.

use std::fmt::Write as _;

use anyhow::Result;
use serde::Serialize;
use tests_support::aggregator::Aggregator;
use tests_support::plugin::AGGREGATOR_CLUSTER;
use tests_support::sidecar::INBOUND_STAT_PREFIX;

use crate::fleet::{Fleet, NAMESPACE, Pod};
use crate::signal_age::Quantiles;
use crate::watch::Watch;

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    pods: Vec<PodSummary>,
    signal_age_ms: Quantiles,
    /// Every pod got requests, each was counted once, and so was each attempt.
    pub(crate) exact: bool,
}

/// The result for one pod; `None` is "not counted".
#[derive(Clone, Debug, PartialEq, Serialize)]
struct PodSummary {
    name: &'static str,
    namespace: &'static str,
    /// Requests written to the pod's inbound listener.
    sent: u64,
    /// Envoy's counter over all clusters but the aggregator's.
    envoy_upstream_rq_total: u64,
    counted_requests: Option<u64>,
    counted_attempts: Option<u64>,
    rps_peak: Option<f64>,
    /// Envoy's own count of requests at the inbound listener.
    #[serde(skip)]
    envoy_downstream_rq_total: u64,
    /// Requests that may have arrived or not.
    #[serde(skip)]
    broken: u64,
}

// === impl Summary ===

impl Summary {
    /// Reads all counters, once they are final.
    pub(crate) async fn collect(
        fleet: &Fleet,
        aggregator: &Aggregator,
        watch: &Watch,
    ) -> Result<Self> {
        let known = aggregator.pods().await?;
        let mut pods = Vec::new();
        for (pod, reading) in fleet.pods.iter().zip(&watch.readings) {
            let stats = pod.envoy.stats().await?;
            let counted = known.find(NAMESPACE, pod.name);
            pods.push(PodSummary {
                name: pod.name,
                namespace: NAMESPACE,
                sent: fleet.sent(pod),
                envoy_upstream_rq_total: stats.upstream_rq_total(&[AGGREGATOR_CLUSTER]),
                counted_requests: counted.and_then(|pod| pod.requests("inbound")),
                counted_attempts: counted.and_then(tests_support::aggregator::PodState::attempts),
                rps_peak: reading.rate_peak,
                envoy_downstream_rq_total: stats.downstream_rq_total(INBOUND_STAT_PREFIX),
                broken: fleet.broken(pod),
            });
        }
        Ok(Self::new(pods, watch.ages.quantiles()))
    }

    fn new(pods: Vec<PodSummary>, signal_age_ms: Quantiles) -> Self {
        let exact = !pods.is_empty() && pods.iter().all(PodSummary::is_exact);
        Self {
            pods,
            signal_age_ms,
            exact,
        }
    }

    /// The table that ends a run in text mode.
    pub(crate) fn to_text(&self) -> String {
        let mut text = format!(
            "\n{:<10} {:>8} {:>16} {:>10} | {:>16} {:>10} | {:>10}\n{:<10} {:>8} {:>16} {:>10} | {:>16} {:>10} | {:>10}\n",
            "",
            "sent",
            "Envoy",
            "meshmeter",
            "Envoy",
            "meshmeter",
            "peak",
            "POD",
            "requests",
            "downstream_total",
            "requests",
            "upstream_total",
            "attempts",
            "requests/s",
        );
        let known =
            |total: Option<u64>| total.map_or_else(|| "-".to_owned(), |total| total.to_string());
        for pod in &self.pods {
            // Writing into a string cannot fail.
            let _ = writeln!(
                text,
                "{:<10} {:>8} {:>16} {:>10} | {:>16} {:>10} | {:>10}{}",
                pod.name,
                pod.sent,
                pod.envoy_downstream_rq_total,
                known(pod.counted_requests),
                pod.envoy_upstream_rq_total,
                known(pod.counted_attempts),
                pod.rps_peak
                    .map_or_else(|| "-".to_owned(), |peak| format!("{peak:.1}")),
                if pod.is_exact() { "" } else { "  <- differs" },
            );
            if pod.broken > 0 {
                let _ = writeln!(
                    text,
                    "  {} requests to {} had no answer",
                    pod.broken, pod.name
                );
            }
        }
        let age = |age: Option<u64>| age.map_or_else(|| "-".to_owned(), |age| format!("{age} ms"));
        let _ = write!(
            text,
            "\nsignal age when read: median {}, 99 of 100 within {}\n{}",
            age(self.signal_age_ms.p50),
            age(self.signal_age_ms.p99),
            if self.exact {
                "exact: every request and every attempt was counted once"
            } else {
                "NOT exact: see the lines above"
            },
        );
        text
    }
}

// === impl PodSummary ===

impl PodSummary {
    fn is_exact(&self) -> bool {
        self.sent > 0
            && self.counted_requests == Some(self.sent)
            && self.counted_attempts == Some(self.envoy_upstream_rq_total)
    }
}

/// All of meshmeter's totals, to detect changes.
pub(crate) async fn totals(fleet: &Fleet, aggregator: &Aggregator) -> Result<Vec<Option<u64>>> {
    let known = aggregator.pods().await?;
    let totals = |pod: &Pod| {
        let pod = known.find(NAMESPACE, pod.name);
        [
            pod.and_then(|pod| pod.requests("inbound")),
            pod.and_then(|pod| pod.requests("outbound")),
            pod.and_then(tests_support::aggregator::PodState::attempts),
        ]
    };
    Ok(fleet.pods.iter().flat_map(totals).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> PodSummary {
        PodSummary {
            name: "dj",
            namespace: NAMESPACE,
            sent: 10,
            envoy_upstream_rq_total: 30,
            counted_requests: Some(10),
            counted_attempts: Some(30),
            rps_peak: Some(4.0),
            envoy_downstream_rq_total: 10,
            broken: 0,
        }
    }

    fn exact(pods: Vec<PodSummary>) -> bool {
        let ages = Quantiles {
            p50: None,
            p99: None,
        };
        Summary::new(pods, ages).exact
    }

    /// One request more or less, an unknown count, an idle pod or no pod at all is not exact.
    #[test]
    fn is_exact_only_when_everything_agrees() {
        assert!(exact(vec![pod(), pod()]));
        let off_by_one = PodSummary {
            counted_requests: Some(11),
            ..pod()
        };
        let unknown = PodSummary {
            counted_attempts: None,
            ..pod()
        };
        let idle = PodSummary {
            sent: 0,
            counted_requests: Some(0),
            ..pod()
        };
        for wrong in [off_by_one, unknown, idle] {
            assert!(!exact(vec![pod(), wrong]));
        }
        assert!(!exact(Vec::new()));
    }
}
