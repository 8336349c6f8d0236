//! Objects of a cluster and what happened to them, by resource version.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::custom;

/// Events that are kept; who wants older ones hears 410 Gone, as behind etcd's compaction.
const EVENTS_MAX: usize = 10_000;

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Resource {
    /// Path before `namespaces/`, such as `/apis/apps/v1`.
    pub group_path: &'static str,
    pub plural: &'static str,
    pub kind: &'static str,
    /// `apiVersion`
    pub api_version: &'static str,
}

pub const POD: Resource = core("pods", "Pod");
pub const SERVICE: Resource = core("services", "Service");
pub const CONFIG_MAP: Resource = core("configmaps", "ConfigMap");
pub const SECRET: Resource = core("secrets", "Secret");
pub const DEPLOYMENT: Resource = apps("deployments", "Deployment");
/// `ReplicaSets`.
pub const REPLICA_SET: Resource = apps("replicasets", "ReplicaSet");
/// `StatefulSets`.
pub const STATEFUL_SET: Resource = apps("statefulsets", "StatefulSet");
/// `HorizontalPodAutoscalers`.
pub const AUTOSCALER: Resource = Resource {
    group_path: "/apis/autoscaling/v2",
    plural: "horizontalpodautoscalers",
    kind: "HorizontalPodAutoscaler",
    api_version: "autoscaling/v2",
};
pub const NAMESPACE: Resource = core("namespaces", "Namespace");
/// `APIServices`; they have no namespace.
pub const API_SERVICE: Resource = Resource {
    group_path: "/apis/apiregistration.k8s.io/v1",
    plural: "apiservices",
    kind: "APIService",
    api_version: "apiregistration.k8s.io/v1",
};
pub const LEASE: Resource = Resource {
    group_path: "/apis/coordination.k8s.io/v1",
    plural: "leases",
    kind: "Lease",
    api_version: "coordination.k8s.io/v1",
};
/// `MutatingWebhookConfigurations`; they have no namespace.
pub const WEBHOOK_CONFIGURATION: Resource = Resource {
    group_path: "/apis/admissionregistration.k8s.io/v1",
    plural: "mutatingwebhookconfigurations",
    kind: "MutatingWebhookConfiguration",
    api_version: "admissionregistration.k8s.io/v1",
};
pub const EVENT: Resource = core("events", "Event");
pub const RESOURCES: [Resource; 13] = [
    POD,
    SERVICE,
    CONFIG_MAP,
    SECRET,
    DEPLOYMENT,
    REPLICA_SET,
    STATEFUL_SET,
    API_SERVICE,
    AUTOSCALER,
    NAMESPACE,
    LEASE,
    WEBHOOK_CONFIGURATION,
    EVENT,
];

const fn core(plural: &'static str, kind: &'static str) -> Resource {
    Resource {
        group_path: "/api/v1",
        plural,
        kind,
        api_version: "v1",
    }
}

const fn apps(plural: &'static str, kind: &'static str) -> Resource {
    Resource {
        group_path: "/apis/apps/v1",
        plural,
        kind,
        api_version: "apps/v1",
    }
}

/// All objects. Clones share them.
#[derive(Debug, Default)]
pub struct Objects {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    version: u64,
    objects: BTreeMap<(&'static str, String, String), Value>,
    events: VecDeque<Event>,
    /// Events up to this version are forgotten.
    compacted: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) version: u64,
    pub(super) plural: &'static str,
    pub(super) kind: &'static str,
    pub(super) object: Value,
}

// === impl Objects ===

impl Objects {
    /// Creates the object or replaces it; it is given kind, version and, if new, a uid.
    pub fn apply(&self, resource: Resource, object: Value) {
        let mut state = self.state.lock();
        state.put(resource, object);
        drop(state);
        self.changed.notify_waiters();
    }

    /// Replaces the object, or what is not there yet, by what `change` makes of it, with nobody in
    /// between. Returns what it is now, or why `change` makes nothing of it.
    pub fn update<E>(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        change: impl FnOnce(Option<&Value>) -> Result<Value, E>,
    ) -> Result<Value, E> {
        let key = (resource.plural, namespace.to_owned(), name.to_owned());
        let mut state = self.state.lock();
        let object = change(state.objects.get(&key))?;
        let object = state.put(resource, object);
        drop(state);
        self.changed.notify_waiters();
        Ok(object)
    }

    /// Deletes the object; true if it was there.
    pub fn delete(&self, resource: Resource, namespace: &str, name: &str) -> bool {
        self.delete_if(resource, namespace, name, |_| true) == Some(true)
    }

    /// The same if `condition` holds of it; `None` if it is not there.
    pub(super) fn delete_if(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        condition: impl FnOnce(&Value) -> bool,
    ) -> Option<bool> {
        let mut state = self.state.lock();
        let key = (resource.plural, namespace.to_owned(), name.to_owned());
        if !condition(state.objects.get(&key)?) {
            return Some(false);
        }
        let mut object = state.objects.remove(&key)?;
        state.version += 1;
        object["metadata"]["resourceVersion"] = state.version.to_string().into();
        state.push(resource.plural, "DELETED", object);
        drop(state);
        self.changed.notify_waiters();
        Some(true)
    }

    /// The object, if it is there.
    pub fn get(&self, resource: Resource, namespace: &str, name: &str) -> Option<Value> {
        let key = (resource.plural, namespace.to_owned(), name.to_owned());
        self.state.lock().objects.get(&key).cloned()
    }

    /// All objects of a namespace (of all for ""), sorted, with the version of the whole.
    pub fn list(&self, resource: Resource, namespace: &str) -> (u64, Vec<Value>) {
        let state = self.state.lock();
        let of_kind = state.objects.iter().filter(|((plural, within, _), _)| {
            *plural == resource.plural && (namespace.is_empty() || within == namespace)
        });
        (
            state.version,
            of_kind.map(|(_, object)| object.clone()).collect(),
        )
    }

    /// Forgets all that happened so far: watches from before must list again.
    pub fn compact(&self) {
        let mut state = self.state.lock();
        // Something happened since, else a watcher at the newest version would rightly go on.
        state.version += 1;
        state.compacted = state.version;
        state.events.clear();
    }

    /// Events after `version`, and the newest version; `None` if `version` is compacted.
    pub(super) fn since(&self, version: u64) -> Option<(u64, Vec<Event>)> {
        let state = self.state.lock();
        if version < state.compacted {
            return None;
        }
        let events = state.events.iter().filter(|event| event.version > version);
        Some((state.version, events.cloned().collect()))
    }

    /// Waits until something happens; enabled before [`Self::since`] is called, it misses nothing.
    pub(super) fn change(&self) -> Notified<'_> {
        self.changed.notified()
    }
}

// === impl State ===

impl State {
    /// Puts the object where it belongs, with what a server adds to it.
    fn put(&mut self, resource: Resource, mut object: Value) -> Value {
        let (namespace, name) = key(&object);
        self.version += 1;
        let version = self.version;
        let key = (resource.plural, namespace, name);
        let old = self.objects.get(&key);
        let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
        object["kind"] = resource.kind.into();
        object["apiVersion"] = resource.api_version.into();
        if object["metadata"]["uid"].is_null() {
            let uid = old.map_or_else(
                || format!("uid-{version}").into(),
                |old| old["metadata"]["uid"].clone(),
            );
            object["metadata"]["uid"] = uid;
        }
        object["metadata"]["resourceVersion"] = version.to_string().into();
        if custom::RESOURCES.contains(&resource) {
            let generation = custom::generation(old, &object);
            object["metadata"]["generation"] = generation.into();
        }
        // What a real server has, and nobody here reads.
        object["metadata"]["managedFields"] = json!([{"manager": "test", "operation": "Update"}]);
        self.objects.insert(key, object.clone());
        self.push(resource.plural, kind, object.clone());
        object
    }

    fn push(&mut self, plural: &'static str, kind: &'static str, object: Value) {
        self.events.push_back(Event {
            version: self.version,
            plural,
            kind,
            object,
        });
        if self.events.len() > EVENTS_MAX
            && let Some(oldest) = self.events.pop_front()
        {
            self.compacted = oldest.version;
        }
    }
}

pub(super) fn key(object: &Value) -> (String, String) {
    let field = |field: &str| {
        object["metadata"][field]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    (field("namespace"), field("name"))
}

/// The object as `PartialObjectMetadata`.
pub(super) fn metadata_only(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of several that make the same object at once one does, as with a real server.
    #[test]
    fn nobody_comes_in_between() {
        let objects = Objects::default();
        let attempt = || {
            let object = json!({"metadata": {"namespace": "n", "name": "one"}});
            let made = objects.update(SECRET, "n", "one", |held| {
                std::thread::yield_now();
                held.map_or(Ok(object), |_| Err(()))
            });
            usize::from(made.is_ok())
        };
        let made: usize = std::thread::scope(|scope| {
            let makers: Vec<_> = (0..8).map(|_| scope.spawn(attempt)).collect();
            let made = makers.into_iter().map(|maker| maker.join().unwrap());
            made.sum()
        });
        assert_eq!(made, 1);
    }
}
