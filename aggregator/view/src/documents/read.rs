use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One read of a metric: who asked, and what was answered.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Read {
    pub at_unix_ms: u64,
    /// The replica that answered.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub replica: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user_agent: String,
    /// The HPA that read, if selector and user leave one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hpa: String,
    pub metric: String,
    /// `pods`, `services/NAME`, `deployments.apps/NAME`, `namespace`, `external`.
    pub object: String,
    /// The label selector, then the metric selector, as requested.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub selector: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub metric_selector: String,
    /// Status code of the answer.
    pub code: u16,
    /// The sum of all values, in thousandths; `None` for a refusal.
    pub sum_milli: Option<u64>,
    /// Who counted.
    pub source: ReadSource,
    /// Pods whose values are in it.
    pub pods: u32,
    /// Age of the oldest value.
    pub age_ms: u64,
    pub window_ms: u64,
    /// Pods left out, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<String, u32>,
    /// The refusal's sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Replicas that the arithmetic made of it, if the HPA is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub computed_replicas: Option<u32>,
    /// Each pod, if the ledger still has them; `None` for a read that was shortened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each: Option<Vec<PodRead>>,
}

/// Who counted the value of a [`Read`].
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadSource {
    /// The pods' own sidecars.
    #[default]
    Pods,
    /// The sidecars of the callers: none of the pods runs.
    Callers,
}

/// One pod in a [`Read`].
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodRead {
    pub name: String,
    /// `None` if it was left out.
    pub value_milli: Option<u64>,
    #[serde(default)]
    pub window_ms: u64,
    #[serde(default)]
    pub age_ms: u64,
    /// `live` or `held`, or the reason for which it was left out.
    pub state: String,
    /// True if Kubernetes had it as `Pending`: the autoscaler takes it for not ready.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pending: bool,
}

/// A change of an HPA's status, as its watch showed it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    pub at_unix_ms: u64,
    pub hpa: String,
    /// `status.currentReplicas` and `status.desiredReplicas`.
    pub current_replicas: u32,
    pub desired_replicas: u32,
    /// Ready pods of the target, if they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_pods: Option<u32>,
    /// Conditions by type: `status`, `reason` and `message` as `True ReadyForNewScale: text`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub conditions: BTreeMap<String, String>,
}
