//! Warning events, which `kubectl describe` shows with their object.

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::Client;

use crate::api::Api;
use crate::connection::ClusterError;

/// Bytes of a message at most, as kube-apiserver requires.
const MESSAGE_MAX: usize = 1024;

/// Bytes of an object's name in its event's name, which may have 253 with the suffix.
const NAME_MAX: usize = 200;

/// The object of an event.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Object {
    /// Such as `apps/v1`.
    pub api_version: String,
    /// Such as `ReplicaSet`.
    pub kind: String,
    /// The event's namespace; for a namespace, its own name. Empty for a cluster-scoped object,
    /// whose events are in `default`.
    pub namespace: String,
    pub name: String,
    /// Empty if unknown.
    pub uid: String,
}

/// A warning about an object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Warning {
    pub about: Object,
    /// One word, such as `NotInjected`.
    pub reason: &'static str,
    /// A sentence; cut at 1024 bytes.
    pub message: String,
    pub component: &'static str,
}

// === impl Warning ===

impl Warning {
    /// Creates the event under a generated name.
    pub async fn raise(&self, client: &Client) -> Result<(), ClusterError> {
        let named = ObjectMeta {
            generate_name: Some(format!("{}.", self.name())),
            ..ObjectMeta::default()
        };
        self.post(client, named).await
    }

    /// Creates the event under a name that ends in `suffix`; fails with 409 if it exists.
    pub async fn raise_as(&self, client: &Client, suffix: &str) -> Result<(), ClusterError> {
        let named = ObjectMeta {
            name: Some(format!("{}.{suffix}", self.name())),
            ..ObjectMeta::default()
        };
        self.post(client, named).await
    }

    async fn post(&self, client: &Client, named: ObjectMeta) -> Result<(), ClusterError> {
        let event = self.event(named, Timestamp::now());
        let events = Api::namespaced(client, self.namespace());
        events.create(&event).await.map(drop)
    }

    fn namespace(&self) -> &str {
        match self.about.namespace.as_str() {
            "" => "default",
            namespace => namespace,
        }
    }

    fn name(&self) -> &str {
        cut(&self.about.name, NAME_MAX)
    }

    /// The event; `metadata` has its name or `generateName`.
    fn event(&self, metadata: ObjectMeta, now: Timestamp) -> Event {
        let about = self.about.clone();
        Event {
            metadata: ObjectMeta {
                namespace: Some(self.namespace().to_owned()),
                ..metadata
            },
            involved_object: ObjectReference {
                api_version: Some(about.api_version),
                kind: Some(about.kind),
                namespace: Some(about.namespace),
                name: Some(about.name),
                uid: Some(about.uid).filter(|uid| !uid.is_empty()),
                ..ObjectReference::default()
            },
            type_: Some("Warning".to_owned()),
            reason: Some(self.reason.to_owned()),
            message: Some(cut(&self.message, MESSAGE_MAX).to_owned()),
            source: Some(EventSource {
                component: Some(self.component.to_owned()),
                host: None,
            }),
            reporting_component: Some(self.component.to_owned()),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            count: Some(1),
            ..Event::default()
        }
    }
}

/// `text` cut at a character boundary to at most `max` bytes.
fn cut(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Namespace of event and object agree, as kube-apiserver demands, and nothing is too long for
    /// it.
    #[test]
    fn an_event_is_one_that_is_taken() {
        let mut warning = Warning {
            about: Object {
                api_version: "apps/v1".to_owned(),
                kind: "ReplicaSet".to_owned(),
                namespace: "prod".to_owned(),
                name: "j".repeat(253),
                uid: String::new(),
            },
            reason: "NotInjected",
            message: "ö".repeat(1000),
            component: "meshmeter-injector",
        };
        let event = |warning: &Warning| {
            let event = warning.event(ObjectMeta::default(), Timestamp::UNIX_EPOCH);
            serde_json::to_value(event).unwrap()
        };
        let said = event(&warning);
        assert_eq!(said["metadata"]["namespace"], "prod");
        assert_eq!(said["involvedObject"]["namespace"], "prod");
        assert!(said["involvedObject"]["uid"].is_null());
        assert_eq!(warning.name().len(), 200);
        assert_eq!(said["message"].as_str().unwrap().len(), 1024);
        assert_eq!(said["lastTimestamp"], "1970-01-01T00:00:00Z");
        warning.about.namespace = String::new();
        let said = event(&warning);
        assert_eq!(said["metadata"]["namespace"], "default");
        assert_eq!(said["involvedObject"]["namespace"], "");
    }
}
