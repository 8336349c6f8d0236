//! What the status of a custom resource should say, and what has to be written for that. No I/O, no
//! clock: several control planes come to the same condition from the same objects, and write only
//! what is not there yet.

use std::collections::BTreeMap;

use common_kubernetes::events::{Object, Warning};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::cache::{Entry, State};
use super::objects::Condition;
use crate::mesh::{Key, RefusedObject};
use crate::resources::Kind;

/// Bytes of a message at most: room for some ten fields.
const MESSAGE_BYTES_MAX: usize = 1_024;

pub(super) const COMPONENT: &str = "meshmeter-control-plane";

pub(super) type ServedConditions = BTreeMap<(Kind, Key), ServedCondition>;

/// What is said of one object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ServedCondition {
    /// Which of all objects that ever had the name, and which form of it.
    pub(super) uid: String,
    pub(super) generation: i64,
    pub(super) served: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// One for each custom resource.
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
    /// The status that is to be written over that of `entry`; `None` if it says so already, or is
    /// another object's.
    pub(super) fn status(&self, kind: Kind, entry: &Entry, now: &str) -> Option<Value> {
        if entry.metadata.uid != self.uid || entry.metadata.generation != self.generation {
            return None;
        }
        let status = if self.served { "True" } else { "False" };
        let of_ours = |condition: &&Condition| condition["type"] == kind.condition();
        let there = entry.status.conditions.iter().find(of_ours);
        let observed = entry.status.observed_generation == Some(self.generation);
        let said = there.is_some_and(|there| {
            there["status"] == status
                && there["reason"] == self.reason
                && there["message"].as_str().unwrap_or_default() == self.message
        });
        if said && observed {
            return None;
        }
        let since = there.filter(|there| there["status"] == status);
        let since = since.and_then(|there| there["lastTransitionTime"].as_str());
        let ours = json!({
            "type": kind.condition(),
            "status": status,
            "lastTransitionTime": since.unwrap_or(now),
            "reason": self.reason,
            "message": self.message,
        });
        // A merge patch replaces the whole list: what is not ours goes in as it is.
        let others = entry.status.conditions.iter();
        let others = others.filter(|condition| !of_ours(condition)).cloned();
        let conditions: Vec<_> = others.chain([ours]).collect();
        Some(json!({
            // Whoever comes second with the same is told so, and looks again.
            "metadata": {"resourceVersion": entry.metadata.resource_version},
            "status": {"conditions": conditions, "observedGeneration": self.generation},
        }))
    }

    /// What is said once of a refusal, and what its name ends in: every control plane gives it the
    /// same, so that the second is told that it is there.
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
