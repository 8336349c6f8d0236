use serde::{Deserialize, Serialize};

use super::{Change, Read, ReplicaAnswer};

/// Why an HPA had as many replicas as it had at a time: derived, never guessed.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    pub kind: String,
    pub api_version: String,
    pub namespace: String,
    pub hpa: String,
    /// Time asked for.
    pub at_unix_ms: u64,
    /// What the HPA scales, such as `Deployment/jazz-v1`.
    pub target: String,
    pub min_replicas: u32,
    pub max_replicas: u32,
    /// Replicas before the decision.
    pub current_replicas: Option<u32>,
    /// Replicas by our arithmetic; `None` if it cannot be derived.
    pub derived_replicas: Option<u32>,
    /// What the HPA's status said after it; `None` if it was not seen.
    pub observed_replicas: Option<u32>,
    pub metrics: Vec<MetricExplanation>,
    /// What behaviour, minimum and maximum made of it, in order.
    pub limits: Vec<Step>,
    /// What would change it.
    pub would_change: Vec<String>,
    /// What is not known, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
    /// All of it, in the order in which a person reads it.
    pub sentences: Vec<String>,
    /// The change of the HPA's status that followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<ReplicaAnswer>,
}

/// One metric of the HPA.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricExplanation {
    /// Such as `pods metric appmesh_requests_per_second`.
    pub metric: String,
    /// Such as `an average of 20 per pod`.
    pub target: String,
    /// False if another server answers it.
    pub ours: bool,
    /// What was read, with its pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<Read>,
    /// Replicas that this metric wants.
    pub proposed_replicas: Option<u32>,
    /// The arithmetic, in order.
    pub steps: Vec<Step>,
}

/// One step of the arithmetic.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    pub text: String,
    /// Replicas after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
}
