use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The state of meshmeter, replica by replica.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    pub kind: String,
    pub api_version: String,
    pub at_unix_ms: u64,
    pub replicas: Vec<Replica>,
    /// Running pods that nobody counts, by workload and reason.
    pub uncounted: Vec<Uncounted>,
    /// Sidecars by the filter's version and the pod's state.
    pub sidecars: Vec<SidecarVersion>,
}

/// One replica of the aggregator.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Replica {
    pub name: String,
    /// Why it did not answer; all else is then unknown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
    #[serde(default)]
    pub version: String,
    /// Checks of `/readyz` that fail, with their reasons.
    #[serde(default)]
    pub not_ready: Vec<String>,
    /// Its wall clock when it answered.
    #[serde(default)]
    pub at_unix_ms: u64,
    /// Pods by state.
    #[serde(default)]
    pub pods: BTreeMap<String, usize>,
    #[serde(default)]
    pub streams: usize,
    /// Sum of the requests per second of all pods.
    #[serde(default)]
    pub requests_per_second: Option<f64>,
    /// What was refused since its start, by `listener or part: reason`.
    #[serde(default)]
    pub refused: BTreeMap<String, u64>,
    #[serde(default)]
    pub certificates: Vec<Certificate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_write: Option<RemoteWrite>,
    /// Bytes that its ledger of reads takes, and its limit.
    #[serde(default)]
    pub ledger_bytes: u64,
    #[serde(default)]
    pub ledger_bytes_max: u64,
    /// What it does not know and why, such as autoscalers for want of a permission.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// `api`, `ingest`.
    pub listener: String,
    pub not_after_unix_ms: u64,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoteWrite {
    /// True if this replica writes now.
    pub writing: bool,
    /// Age of the oldest sample in the queue.
    pub lag_ms: Option<u64>,
    pub sent: u64,
    pub dropped: BTreeMap<String, u64>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_error: String,
}

/// Pods of a workload that nobody counts.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Uncounted {
    pub namespace: String,
    /// Such as `Deployment/jazz-v1`.
    pub workload: String,
    /// `no_sidecar`, or a reason as in [`Pod::reason`](super::Pod::reason).
    pub reason: String,
    pub message: String,
    pub pods: usize,
    /// The name of one of them.
    pub example: String,
}

#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SidecarVersion {
    pub version: String,
    pub state: String,
    pub pods: usize,
}
