use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What the sidecars counted of one pod, or the sum over pods. `None` is unknown, never 0.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rates {
    /// Requests that began, per second.
    pub requests_per_second: Option<f64>,
    /// Upstream attempts, per second.
    pub attempts_per_second: Option<f64>,
    /// Requests in flight, averaged over the window.
    pub inflight: Option<f64>,
    /// Share of the requests that ended with 5xx or without a response: 0 to 1.
    pub error_ratio: Option<f64>,
    /// Time that `requestsPerSecond` covers.
    pub window_ms: Option<u64>,
    /// Age of the oldest value in it.
    pub age_ms: Option<u64>,
}

/// The owner of a pod that people know it by: the Deployment, not the `ReplicaSet`.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Workload {
    /// Such as `Deployment`.
    pub kind: String,
    pub name: String,
}

/// One pod.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `new`, `live`, `held`, `gone`, or `unknown` for a pod that never reported.
    pub state: String,
    /// Why it has no value, as in the label `reason` of `/metrics`; empty if it has one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The same as a sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Condition `Ready`; `None` if unknown.
    pub ready: Option<bool>,
    /// Version of the filter that counts; empty if it is unknown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub filter_version: String,
    #[serde(flatten)]
    pub rates: Rates,
    /// Requests per second in each of the last 60 windows of 2 s, oldest first; `null` is unknown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Option<f64>>,
}

/// What a [`Group`] is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum GroupKind {
    Workload,
    Namespace,
    Service,
}

/// A workload, a namespace or a service: the sum over its pods.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    pub group: GroupKind,
    /// Kubernetes' kind, such as `Deployment`.
    pub kind: String,
    /// Empty for a namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    pub name: String,
    /// Number of serving pods by [`Pod::state`].
    pub pods: BTreeMap<String, usize>,
    #[serde(flatten)]
    pub rates: Rates,
    /// The busiest pod's rate over the mean; `None` with fewer than two values or no request.
    pub skew: Option<f64>,
    /// As [`Pod::history`], summed; `null` where no pod is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Option<f64>>,
    /// HPAs whose target it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hpas: Vec<HpaState>,
}

/// What an HPA wants and what there is, as its status says. `None` before the autoscaler has
/// written a status.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HpaState {
    pub name: String,
    pub min_replicas: u32,
    pub max_replicas: u32,
    pub current_replicas: Option<u32>,
    pub desired_replicas: Option<u32>,
}
