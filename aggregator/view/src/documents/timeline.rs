use serde::{Deserialize, Serialize};

use super::ReplicaAnswer;

/// What an HPA read and did, oldest first.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    pub kind: String,
    pub api_version: String,
    pub namespace: String,
    pub hpa: String,
    pub target: String,
    pub min_replicas: u32,
    pub max_replicas: u32,
    /// The target value per pod, in thousandths, if the HPA has one metric of ours with one.
    pub target_milli: Option<u64>,
    pub entries: Vec<Entry>,
    pub reactions: Vec<Reaction>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<ReplicaAnswer>,
}

/// One line.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    pub at_unix_ms: u64,
    pub kind: EntryKind,
    /// One line for people.
    pub text: String,
    /// A read's sum, in thousandths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sum_milli: Option<u64>,
    /// Pods in a read, replicas of a decision, pods ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// The metric was read.
    Read,
    /// The metric was refused.
    Refusal,
    /// The HPA's status has another number of desired replicas.
    Decision,
    /// Another number of the target's pods is ready.
    Ready,
    /// A condition of the HPA changed.
    Condition,
}

/// How soon a step in load was read, decided on, and served by ready pods.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reaction {
    /// When the sidecars saw the step, as well as the history tells.
    pub step_unix_ms: u64,
    pub from_replicas: u32,
    pub to_replicas: u32,
    /// From the step to the read that shows it; `None` if it is not known.
    pub read_ms: Option<u64>,
    pub decision_ms: Option<u64>,
    pub ready_ms: Option<u64>,
}
