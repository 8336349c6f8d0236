//! `HorizontalPodAutoscalers` of `autoscaling/v2`, reduced to what is used. The specification stays
//! as it is: the arithmetic reads it.

use std::collections::BTreeMap;

use autoscaler::Hpa;
use common_kubernetes::objects::{Metadata, Named};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::directory::{AutoscalerCondition, AutoscalerInfo, AutoscalerStatus, ObjectKey};

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Autoscaler {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    current_replicas: Option<u32>,
    desired_replicas: u32,
    last_scale_time: String,
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: String,
    message: String,
}

/// Reads an object as the API server writes it.
pub fn read(object: &Value) -> Result<AutoscalerInfo, serde_json::Error> {
    let autoscaler: Autoscaler = common_json::from_str(&object.to_string())?;
    Ok(autoscaler.info())
}

// === impl Autoscaler ===

impl Autoscaler {
    pub(crate) fn key(&self) -> (&str, &str) {
        (&self.metadata.namespace, &self.metadata.name)
    }

    pub(crate) fn info(self) -> AutoscalerInfo {
        let Self {
            metadata,
            spec,
            status,
        } = self;
        let (namespace, name) = (metadata.namespace, metadata.name);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let spec = &spec;
        let target = &spec["scaleTargetRef"];
        let api_version = text(&target["apiVersion"]);
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let (kind, target_name) = (text(&target["kind"]), text(&target["name"]));
        let replicas = |value: &Value| value.as_u64().and_then(|count| u32::try_from(count).ok());
        let object = json!({
            "metadata": {"namespace": namespace, "name": name},
            "spec": spec,
            "status": {"conditions": status.conditions},
        });
        AutoscalerInfo {
            target: ObjectKey::new(&namespace, group, &kind, &target_name),
            target_api_version: api_version.into(),
            // The API server writes the default; a file may leave it out.
            min_replicas: replicas(&spec["minReplicas"]).unwrap_or(1),
            max_replicas: replicas(&spec["maxReplicas"]).unwrap_or_default(),
            spec: Hpa::from_json(&object).map_err(|error| error.to_string()),
            spec_bytes: bytes_of(spec),
            namespace: namespace.into(),
            name: name.into(),
            status: status.known(),
        }
    }
}

impl Named for Autoscaler {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

// === impl Status ===

impl Status {
    /// `None` for what the API server writes before the controller has: 0 replicas desired, and no
    /// condition.
    fn known(self) -> Option<AutoscalerStatus> {
        if self.current_replicas.is_none() && self.conditions.is_empty() {
            return None;
        }
        let conditions = self.conditions.into_iter().map(|condition| {
            let Condition {
                kind,
                status,
                reason,
                message,
            } = condition;
            let condition = AutoscalerCondition {
                status,
                reason,
                message,
            };
            (kind, condition)
        });
        Some(AutoscalerStatus {
            // Left out if it is 0.
            current_replicas: self.current_replicas.unwrap_or_default(),
            desired_replicas: self.desired_replicas,
            last_scale_time: self.last_scale_time,
            conditions: conditions.collect::<BTreeMap<_, _>>(),
        })
    }
}

/// Bytes of the texts in `value`, with 32 for each value.
fn bytes_of(value: &Value) -> usize {
    let inner: usize = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(bytes_of).sum(),
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| key.len() + bytes_of(value))
            .sum(),
    };
    32 + inner
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(status: &Value) -> AutoscalerInfo {
        let object = json!({
            "metadata": {"namespace": "prod", "name": "jazz", "labels": null},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "jazz-v1"},
                "maxReplicas": 10,
                "metrics": [{"type": "Pods"}],
            },
            "status": status,
        });
        read(&object).unwrap()
    }

    /// Target, limits and specification; a status only once the controller has written one.
    #[test]
    fn reads_what_is_used() {
        let new = info(&json!({"desiredReplicas": 0, "currentMetrics": null}));
        assert_eq!(
            new.target,
            ObjectKey::new("prod", "apps", "Deployment", "jazz-v1")
        );
        assert_eq!((new.min_replicas, new.max_replicas), (1, 10));
        assert!(new.spec.unwrap_err().starts_with("spec.metrics[0]"));
        assert_eq!(new.status, None);
        let condition = json!({"type": "AbleToScale", "status": "True", "reason": "R", "message": "m",
            "lastTransitionTime": "2026-11-30T02:00:00Z"});
        let synced =
            info(&json!({"desiredReplicas": 2, "currentReplicas": 1, "conditions": [condition]}));
        let status = synced.status.unwrap();
        assert_eq!((status.current_replicas, status.desired_replicas), (1, 2));
        assert_eq!(status.conditions["AbleToScale"].reason, "R");
        // A Deployment at 0 has no `currentReplicas`.
        let idle = info(&json!({"desiredReplicas": 0, "conditions": [condition]}));
        assert_eq!(idle.status.map(|status| status.current_replicas), Some(0));
    }
}
