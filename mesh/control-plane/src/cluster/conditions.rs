//! The desired status of a custom resource, and the patch that achieves it. No I/O, no clock:
//! several control planes derive the same condition from the same objects, and write only
//! differences.

use std::collections::BTreeMap;

use common_kubernetes::events::{Object, Warning};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::cache::{Entry, State};
use super::objects::Condition;
use crate::mesh::{Key, RefusedObject};
use crate::resources::Kind;

/// Longest message in bytes: about ten faults.
const MESSAGE_BYTES_MAX: usize = 1_024;

pub(super) const COMPONENT: &str = "meshmeter-control-plane";

pub(super) type ServedConditions = BTreeMap<(Kind, Key), ServedCondition>;

/// The desired condition of one object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ServedCondition {
    /// The condition is for this object and generation only.
    pub(super) uid: String,
    pub(super) generation: i64,
    pub(super) served: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// The conditions of all custom resources.
pub(super) fn of(state: &State, refused: &[RefusedObject]) -> ServedConditions {
    let mut faults: BTreeMap<&(Kind, Key), Vec<&RefusedObject>> = BTreeMap::new();
    for refused in refused {
        if let Some(object) = &refused.object {
            faults.entry(object).or_default().push(refused);
        }
    }
    let each = state.custom.iter().map(|(id, entry)| {
        let faults = faults.get(id).map_or(&[][..], Vec::as_slice);
        let messages: Vec<_> = faults.iter().map(|fault| fault.why.as_str()).collect();
        let condition = ServedCondition {
            uid: entry.metadata.uid.clone(),
            generation: entry.metadata.generation,
            served: faults.is_empty(),
            reason: faults
                .first()
                .map_or("Served", |first| first.reason.as_str()),
            message: bounded(messages.join("; ")),
        };
        (id.clone(), condition)
    });
    each.collect()
}

fn bounded(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES_MAX {
        let end = message.floor_char_boundary(MESSAGE_BYTES_MAX - 3);
        message.truncate(end);
        message.push_str("...");
    }
    message
}

// === impl ServedCondition ===

impl ServedCondition {
    /// The merge patch for the status of `entry`; `None` if it is current, or if the condition was
    /// made for another uid or generation.
    pub(super) fn status(&self, kind: Kind, entry: &Entry, now: &str) -> Option<Value> {
        if entry.metadata.uid != self.uid || entry.metadata.generation != self.generation {
            return None;
        }
        let status = if self.served { "True" } else { "False" };
        let is_ours = |condition: &&Condition| condition["type"] == kind.condition();
        let current = entry.status.conditions.iter().find(is_ours);
        let observed = entry.status.observed_generation == Some(self.generation);
        let equal = current.is_some_and(|current| {
            current["status"] == status
                && current["reason"] == self.reason
                && current["message"].as_str().unwrap_or_default() == self.message
        });
        if equal && observed {
            return None;
        }
        // By API convention the time changes with `status`, not with reason or message.
        let since = current.filter(|current| current["status"] == status);
        let since = since.and_then(|current| current["lastTransitionTime"].as_str());
        let ours = json!({
            "type": kind.condition(),
            "status": status,
            "lastTransitionTime": since.unwrap_or(now),
            "reason": self.reason,
            "message": self.message,
        });
        // A merge patch replaces the whole list, so conditions of other controllers are included.
        let others = entry.status.conditions.iter();
        let others = others.filter(|condition| !is_ours(condition)).cloned();
        let conditions: Vec<_> = others.chain([ours]).collect();
        Some(json!({
            // With a resourceVersion kube-apiserver answers 409 to a control plane that read an
            // older version: it must not overwrite conditions that it has not seen.
            "metadata": {"resourceVersion": entry.metadata.resource_version},
            "status": {"conditions": conditions, "observedGeneration": self.generation},
        }))
    }

    /// The Event for a refusal, and the suffix of its name. The suffix is derived from the content,
    /// so that replicas that raise the same Event get 409 from the second on.
    pub(super) fn warning(&self, kind: Kind, entry: &Entry) -> (Warning, String) {
        let metadata = &entry.metadata;
        let content = format!("{} {} {}", self.uid, self.generation, self.message);
        let warning = Warning {
            about: Object {
                api_version: crate::resources::API_VERSION.to_owned(),
                kind: kind.as_str().to_owned(),
                namespace: metadata.namespace.clone(),
                name: metadata.name.clone(),
                uid: metadata.uid.clone(),
            },
            reason: self.reason,
            message: self.message.clone(),
            component: COMPONENT,
        };
        (warning, format!("{:016x}", xxh3_64(content.as_bytes())))
    }
}
