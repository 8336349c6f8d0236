//! Kubernetes objects, with the fields that are used.

use common_kubernetes::objects::{Metadata, Named};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::mesh::Key;
use crate::resources::{API_VERSION, Kind};

/// A custom resource of App Mesh.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Custom {
    #[serde(default)]
    pub(crate) metadata: Metadata,
    #[serde(default)]
    pub(crate) spec: Value,
    #[serde(default)]
    pub(crate) status: Status,
}

/// `status` of a custom resource.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Status {
    pub(crate) conditions: Vec<Condition>,
    pub(crate) observed_generation: Option<i64>,
}

/// Kept as JSON, since conditions of other controllers are written back unchanged.
pub(crate) type Condition = Value;

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Service {
    #[serde(default)]
    pub(crate) metadata: Metadata,
    #[serde(default)]
    pub(crate) spec: ServiceSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServiceSpec {
    pub(crate) r#type: String,
    #[serde(rename = "clusterIP")]
    pub(crate) cluster_ip: String,
    pub(crate) selector: crate::selector::Labels,
    pub(crate) ports: Vec<ServicePort>,
}

/// `spec.ports[]` of a service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ServicePort {
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) protocol: Option<String>,
}

/// An `EndpointSlice`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Slice {
    #[serde(default)]
    pub(crate) metadata: Metadata,
    #[serde(default)]
    pub(crate) address_type: String,
    #[serde(default)]
    pub(crate) endpoints: Vec<Endpoint>,
    #[serde(default)]
    pub(crate) ports: Vec<SlicePort>,
}

/// `endpoints[]` of a slice.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Endpoint {
    pub(crate) addresses: Vec<String>,
    pub(crate) conditions: EndpointConditions,
}

/// `endpoints[].conditions` of a slice.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct EndpointConditions {
    pub(crate) ready: Option<bool>,
    pub(crate) serving: Option<bool>,
    pub(crate) terminating: Option<bool>,
}

/// `ports[]` of a slice. `name` is that of the service's port.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SlicePort {
    pub(crate) name: String,
    pub(crate) port: Option<u16>,
    pub(crate) protocol: Option<String>,
}

// === impl Custom ===

impl Custom {
    /// The object in the form of a manifest, without status.
    pub(crate) fn document(&self, kind: Kind) -> Value {
        let Metadata {
            name,
            namespace,
            creation_timestamp,
            ..
        } = &self.metadata;
        json!({
            "apiVersion": API_VERSION,
            "kind": kind.as_str(),
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": creation_timestamp},
            "spec": self.spec,
        })
    }
}

pub(crate) fn key(object: &impl Named) -> Key {
    let metadata = object.metadata();
    Key::new(&metadata.namespace, &metadata.name)
}

// === impl Named ===

impl Named for Custom {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

impl Named for Service {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

impl Named for Slice {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}
