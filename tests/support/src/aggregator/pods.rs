//! `/debug/pods` as types.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct Pods {
    /// Sorted by namespace and name.
    pub pods: Vec<PodState>,
}

/// The aggregator's state of one pod.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct PodState {
    pub namespace: String,
    pub name: String,
    /// Uid of the pod; "" if unknown.
    #[serde(default)]
    pub uid: String,
    /// `new`, `live`, `held` or `gone`.
    pub state: String,
    pub streams: u64,
    /// Instances whose totals are counted, in hexadecimal.
    pub instances: Vec<String>,
    /// Time since the last report, in milliseconds.
    pub last_report_age_ms: Option<u64>,
    /// Wasm VMs that should count.
    pub vms_expected: Option<u64>,
    pub vms_live: Option<u64>,
    pub series: Vec<SeriesState>,
}

/// Running totals of one series; `None` is "not counted".
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct SeriesState {
    /// `inbound` or `outbound`.
    pub direction: String,
    /// Envoy's cluster; "" without the dimension `cluster`.
    pub cluster: String,
    pub requests: Option<u64>,
    /// Requests were counted when they completed.
    #[serde(default)]
    pub requests_at_completion: bool,
    /// Attempts that reached a connection.
    pub upstream_attempts: Option<u64>,
    /// Responses by class or code.
    #[serde(default)]
    pub responses: BTreeMap<String, u64>,
    pub inflight: Option<u64>,
    /// Their integral over time, in nanoseconds times requests.
    pub inflight_ns: Option<u64>,
}

// === impl Pods ===

impl Pods {
    /// The pod `namespace/name`; fails if it is not listed.
    pub fn get(&self, namespace: &str, name: &str) -> Result<&PodState> {
        self.find(namespace, name)
            .with_context(|| format!("the aggregator does not know the pod {namespace}/{name}"))
    }

    /// The pod `namespace/name`, if it is listed.
    pub fn find(&self, namespace: &str, name: &str) -> Option<&PodState> {
        self.pods
            .iter()
            .find(|pod| pod.namespace == namespace && pod.name == name)
    }
}

// === impl PodState ===

impl PodState {
    /// Requests of one direction, summed over its series; `None` if no series counts them.
    pub fn requests(&self, direction: &str) -> Option<u64> {
        self.sum(direction, |series| series.requests)
    }

    /// Attempts of both directions; `None` if no series counts them.
    pub fn attempts(&self) -> Option<u64> {
        let counted = self
            .series
            .iter()
            .filter_map(|series| series.upstream_attempts);
        counted.reduce(|sum, total| sum + total)
    }

    /// Attempts of one direction; `None` if no series counts them.
    pub fn attempts_of(&self, direction: &str) -> Option<u64> {
        self.sum(direction, |series| series.upstream_attempts)
    }

    /// Requests in flight in one direction; `None` if no series counts them.
    pub fn inflight(&self, direction: &str) -> Option<u64> {
        self.sum(direction, |series| series.inflight)
    }

    /// Responses of one direction whose class or code is `class`.
    pub fn responses(&self, direction: &str, class: &str) -> u64 {
        self.sum(direction, |series| series.responses.get(class).copied())
            .unwrap_or(0)
    }

    fn sum(&self, direction: &str, counter: impl Fn(&SeriesState) -> Option<u64>) -> Option<u64> {
        let series = self
            .series
            .iter()
            .filter(|series| series.direction == direction);
        series.filter_map(counter).reduce(|sum, total| sum + total)
    }
}
