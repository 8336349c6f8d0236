//! Objects as the API server sends them, with the fields that are used.

use aggregator_cluster::objects::{Metadata, Named, null_is_default};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::mesh::Key;
use crate::resources::{API_VERSION, Kind};

/// A custom resource of App Mesh.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Custom {
    pub(crate) metadata: Metadata,
    #[serde(default)]
    pub(crate) spec: Value,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(crate) status: Status,
}

/// `status` of a custom resource.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Status {
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) conditions: Vec<Condition>,
    pub(crate) observed_generation: Option<i64>,
}

/// A condition, as it is sent; those of others are written back as they are.
pub(crate) type Condition = Value;

/// A service.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Service {
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
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) selector: crate::selector::Labels,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) ports: Vec<ServicePort>,
}

/// `spec.ports[]` of a service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ServicePort {
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) protocol: Option<String>,
}

/// An `EndpointSlice`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Slice {
    pub(crate) metadata: Metadata,
    #[serde(default)]
    pub(crate) address_type: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(crate) endpoints: Vec<Endpoint>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(crate) ports: Vec<SlicePort>,
}

/// `endpoints[]` of a slice.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Endpoint {
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) addresses: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
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

/// `ports[]` of a slice: the name is that of the service's port.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SlicePort {
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) name: String,
    pub(crate) port: Option<u16>,
    pub(crate) protocol: Option<String>,
}

// === impl Custom ===

impl Custom {
    /// The object as a manifest would have it.
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

/// Namespace and name.
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
