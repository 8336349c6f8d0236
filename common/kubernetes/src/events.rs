//! Events: what whoever looks at an object (`kubectl describe`) should hear.

use http::Method;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::connection::{ClusterError, send};
use crate::index::JSON;

/// Bytes of a message; kube-apiserver takes 1024.
const MESSAGE_MAX: usize = 1024;

/// Bytes of an object's name within that of its event, which has 253 with what is added.
const NAME_MAX: usize = 200;

/// An object that something is said about.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Object {
    /// Such as `apps/v1`.
    pub api_version: String,
    /// Such as `ReplicaSet`.
    pub kind: String,
    /// Where the event goes; for a namespace, itself. Empty: it has none, and the event goes where Kubernetes has those.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Empty if not known.
    pub uid: String,
}

/// A warning about an object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Warning {
    /// Which one.
    pub about: Object,
    /// In one word, such as `NotInjected`.
    pub reason: &'static str,
    /// In a sentence; what is beyond 1024 bytes is left out.
    pub message: String,
    /// Which program says it.
    pub component: &'static str,
}

// === impl Warning ===

impl Warning {
    /// Raises it, as of now.
    pub async fn raise(&self, client: &Client) -> Result<(), ClusterError> {
        let named = json!({"generateName": format!("{}.", self.name())});
        self.post(client, named).await
    }

    /// The same under a name that ends in `suffix`: who raises a second one of that name is told that it is there (409).
    pub async fn raise_as(&self, client: &Client, suffix: &str) -> Result<(), ClusterError> {
        let named = json!({"name": format!("{}.{suffix}", self.name())});
        self.post(client, named).await
    }

    async fn post(&self, client: &Client, named: Value) -> Result<(), ClusterError> {
        let path = format!("/api/v1/namespaces/{}/events", self.namespace());
        let event = self.event(named, &Timestamp::now());
        let _: IgnoredAny = send(client, Method::POST, &path, JSON, &event).await?;
        Ok(())
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

    /// `metadata`: what says how it is named.
    fn event(&self, mut metadata: Value, now: &Timestamp) -> Value {
        metadata["namespace"] = self.namespace().into();
        let about = &self.about;
        let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let mut involved = json!({
            "apiVersion": about.api_version,
            "kind": about.kind,
            "namespace": about.namespace,
            "name": about.name,
        });
        if !about.uid.is_empty() {
            involved["uid"] = about.uid.as_str().into();
        }
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": metadata,
            "involvedObject": involved,
            "type": "Warning",
            "reason": self.reason,
            "message": cut(&self.message, MESSAGE_MAX),
            "source": {"component": self.component},
            "reportingComponent": self.component,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        })
    }
}

/// At most `max` bytes of `text`, whole characters.
fn cut(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Namespace of event and object agree, as kube-apiserver demands, and nothing is too long for it.
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
        let event = warning.event(json!({}), &Timestamp::UNIX_EPOCH);
        assert_eq!(event["metadata"]["namespace"], "prod");
        assert_eq!(event["involvedObject"]["namespace"], "prod");
        assert!(event["involvedObject"]["uid"].is_null());
        let length = |value: &Value| value.as_str().unwrap().len();
        assert_eq!(warning.name().len(), 200);
        assert_eq!(length(&event["message"]), 1024);
        assert_eq!(event["lastTimestamp"], "1970-01-01T00:00:00Z");
        warning.about.namespace = String::new();
        let event = warning.event(json!({}), &Timestamp::UNIX_EPOCH);
        assert_eq!(event["metadata"]["namespace"], "default");
        assert_eq!(event["involvedObject"]["namespace"], "");
    }
}
