//! Kubernetes objects, with the fields that are used.

use std::net::IpAddr;

use common_kubernetes::objects::{Annotations, Metadata, Named};
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

/// A pod.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Pod {
    #[serde(default)]
    pub(crate) metadata: Metadata,
    #[serde(default)]
    pub(crate) status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default)]
pub(crate) struct PodStatus {
    /// One of each family.
    #[serde(rename = "podIPs")]
    pub(crate) pod_ips: Vec<PodIp>,
    pub(crate) conditions: Vec<PodCondition>,
}

#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default)]
pub(crate) struct PodIp {
    pub(crate) ip: String,
}

#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default)]
pub(crate) struct PodCondition {
    pub(crate) r#type: String,
    pub(crate) status: String,
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
            labels,
            ..
        } = &self.metadata;
        let mut metadata =
            json!({"name": name, "namespace": namespace, "creationTimestamp": creation_timestamp});
        // Gateways select their routes by label; of other kinds a label changes nothing.
        if kind == Kind::GatewayRoute {
            metadata["labels"] = json!(labels);
        }
        json!({
            "apiVersion": API_VERSION,
            "kind": kind.as_str(),
            "metadata": metadata,
            "spec": self.spec,
        })
    }
}

// === impl Pod ===

/// The condition of a pod that App Mesh's controller goes by. Not `Ready`: that waits for a
/// readiness gate of the controller where it added one.
const READY: &str = "ContainersReady";

impl Pod {
    pub(crate) fn is_ready(&self) -> bool {
        let mut conditions = self.status.conditions.iter();
        let ready =
            conditions.any(|condition| condition.r#type == READY && condition.status == "True");
        ready && self.metadata.deletion_timestamp.is_none()
    }

    /// Of the preferred family, if it has one.
    pub(crate) fn address(&self, prefers_v6: bool) -> Option<IpAddr> {
        let ips = self.status.pod_ips.iter();
        let mut ips: Vec<IpAddr> = ips.filter_map(|ip| ip.ip.parse().ok()).collect();
        ips.sort_by_key(|ip| ip.is_ipv6() != prefers_v6);
        ips.first().copied()
    }

    /// Whether the other has the same addresses and labels, and is as ready.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.metadata.labels == other.metadata.labels
            && self.status.pod_ips == other.status.pod_ips
            && self.is_ready() == other.is_ready()
    }

    /// Drops what is not used.
    pub(crate) fn trim(&mut self) {
        self.metadata.annotations = Annotations::default();
        self.metadata.owner_references = Vec::new();
        self.status
            .conditions
            .retain(|condition| condition.r#type == READY);
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

impl Named for Pod {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

impl Named for Slice {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}
