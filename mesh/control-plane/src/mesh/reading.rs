//! Documents as typed objects, by kind and name.

use std::collections::BTreeMap;

use common_json::Tolerant;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Key, Meshes, Reason, RefusedObject, SPEC_BYTES_MAX};
use crate::fields::field;
use crate::resources::{
    API_VERSION, BackendGroupSpec, EgressFilter, GatewayRouteSpec, Head, Kind,
    MeshServiceDiscovery, MeshSpec, Metadata, OBJECTS_MAX, VirtualGatewaySpec, VirtualNodeSpec,
    VirtualRouterSpec, VirtualServiceSpec,
};
use crate::selector::Labels;

#[derive(Debug, Default)]
pub(super) struct ParsedObjects {
    pub(super) meshes: BTreeMap<Key, MeshSpec>,
    pub(super) nodes: BTreeMap<Key, VirtualNodeSpec>,
    pub(super) services: BTreeMap<Key, VirtualServiceSpec>,
    pub(super) routers: BTreeMap<Key, VirtualRouterSpec>,
    pub(super) groups: BTreeMap<Key, BackendGroupSpec>,
    pub(super) gateways: BTreeMap<Key, VirtualGatewaySpec>,
    pub(super) gateway_routes: BTreeMap<Key, GatewayRouteSpec>,
    /// Labels of the namespaces that were read.
    pub(super) namespaces: BTreeMap<String, Labels>,
}

// === impl ParsedObjects ===

impl ParsedObjects {
    /// Parses App Mesh resources and namespaces; ignores other objects.
    pub(super) fn add(&mut self, document: &Value) -> Result<(), RefusedObject> {
        let head = Head::of(document);
        let metadata: Metadata = lenient(&document["metadata"]);
        if head.api_version == "v1" && head.kind == "Namespace" {
            let labels: Labels = lenient(&document["metadata"]["labels"]);
            self.namespaces.insert(metadata.name, labels);
            return Ok(());
        }
        if !head.api_version.starts_with("appmesh.k8s.aws/") {
            return Ok(());
        }
        let mut key = Key::new(&metadata.namespace, &metadata.name);
        let Some(kind) = Kind::parse(&head.kind) else {
            return Err(RefusedObject {
                what: format!("{} {}/{}", head.kind, key.namespace, key.name),
                object: None,
                reason: Reason::NotSupported,
                why: unserved_kind(&head.kind),
            });
        };
        if kind == Kind::Mesh {
            key.namespace.clear();
        }
        let inserted = self.insert(&head, kind, key.clone(), metadata, document);
        inserted.map_err(|(reason, why)| RefusedObject::new(kind, &key, reason, why))
    }

    fn insert(
        &mut self,
        head: &Head,
        kind: Kind,
        key: Key,
        metadata: Metadata,
        document: &Value,
    ) -> Result<(), (Reason, String)> {
        if head.api_version != API_VERSION {
            let why = format!("{} is not served, {API_VERSION} is", head.api_version);
            return Err((Reason::NotSupported, why));
        }
        let objects = self.meshes.len()
            + self.nodes.len()
            + self.services.len()
            + self.routers.len()
            + self.groups.len()
            + self.gateways.len()
            + self.gateway_routes.len();
        if objects >= OBJECTS_MAX {
            let why = format!("more than {OBJECTS_MAX} objects");
            return Err((Reason::TooLarge, why));
        }
        let bytes = document["spec"].to_string().len();
        if bytes > SPEC_BYTES_MAX {
            let why = format!("spec has {bytes} bytes, at most {SPEC_BYTES_MAX} are taken");
            return Err((Reason::TooLarge, why));
        }
        let created = metadata.creation_timestamp;
        match kind {
            Kind::Mesh => {
                let spec = spec(kind, document)?;
                self.meshes.insert(key, MeshSpec { created, ..spec });
            }
            Kind::VirtualNode => {
                let spec = spec(kind, document)?;
                self.nodes.insert(key, VirtualNodeSpec { created, ..spec });
            }
            Kind::VirtualService => {
                let spec = spec(kind, document)?;
                self.services
                    .insert(key, VirtualServiceSpec { created, ..spec });
            }
            Kind::VirtualRouter => {
                self.routers.insert(key, spec(kind, document)?);
            }
            Kind::BackendGroup => {
                self.groups.insert(key, spec(kind, document)?);
            }
            Kind::VirtualGateway => {
                let spec = spec(kind, document)?;
                self.gateways
                    .insert(key, VirtualGatewaySpec { created, ..spec });
            }
            Kind::GatewayRoute => {
                let labels = lenient(&document["metadata"]["labels"]);
                let spec: GatewayRouteSpec = spec(kind, document)?;
                let spec = GatewayRouteSpec {
                    labels,
                    created,
                    ..spec
                };
                self.gateway_routes.insert(key, spec);
            }
        }
        Ok(())
    }

    /// Inserts the object in its form of `before`, if it was served.
    pub(super) fn restore(&mut self, kind: Kind, key: &Key, before: &Meshes) {
        for mesh in before.iter() {
            match kind {
                Kind::Mesh if mesh.object == key.name => {
                    let spec = MeshSpec {
                        aws_name: Some(mesh.name.clone()),
                        namespace_selector: mesh.namespaces.clone(),
                        egress_filter: Some(EgressFilter {
                            r#type: mesh.egress,
                        }),
                        mesh_service_discovery: Some(MeshServiceDiscovery {
                            ip_preference: mesh.ip_preference,
                        }),
                        created: String::new(),
                    };
                    self.meshes.insert(key.clone(), spec);
                }
                Kind::VirtualNode => restore(&mut self.nodes, key, &mesh.nodes),
                Kind::VirtualService => restore(&mut self.services, key, &mesh.services),
                Kind::VirtualRouter => restore(&mut self.routers, key, &mesh.routers),
                Kind::BackendGroup => restore(&mut self.groups, key, &mesh.groups),
                Kind::VirtualGateway => restore(&mut self.gateways, key, &mesh.gateways),
                Kind::GatewayRoute => restore(&mut self.gateway_routes, key, &mesh.gateway_routes),
                Kind::Mesh => {}
            }
        }
    }
}

fn restore<T: Clone>(now: &mut BTreeMap<Key, T>, key: &Key, before: &BTreeMap<Key, T>) {
    if let Some(spec) = before.get(key) {
        now.insert(key.clone(), spec.clone());
    }
}

/// Null fields and wrong types become defaults: tools write `creationTimestamp: null` into
/// manifests.
fn lenient<T: DeserializeOwned + Default>(value: &Value) -> T {
    Tolerant::deserialize(value).map_or_else(|_| T::default(), |Tolerant(value)| value)
}

/// The first field or value of a document's `spec` that is not taken; `None` for unknown kinds.
pub(crate) fn first_fault(document: &Value) -> Option<SpecFault> {
    let kind = Kind::parse(&Head::of(document).kind)?;
    match kind {
        Kind::Mesh => parse::<MeshSpec>(kind, document).err(),
        Kind::VirtualNode => parse::<VirtualNodeSpec>(kind, document).err(),
        Kind::VirtualService => parse::<VirtualServiceSpec>(kind, document).err(),
        Kind::VirtualRouter => parse::<VirtualRouterSpec>(kind, document).err(),
        Kind::BackendGroup => parse::<BackendGroupSpec>(kind, document).err(),
        Kind::VirtualGateway => parse::<VirtualGatewaySpec>(kind, document).err(),
        Kind::GatewayRoute => parse::<GatewayRouteSpec>(kind, document).err(),
    }
}

/// A field or value of a `spec` that is not taken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct SpecFault {
    /// From `spec`, with indices.
    pub(crate) path: String,
    pub(crate) is_unknown_field: bool,
    /// Names the field.
    pub(crate) why: String,
}

/// Parses `spec`; an error names the field by its path.
fn spec<T: DeserializeOwned>(kind: Kind, document: &Value) -> Result<T, (Reason, String)> {
    parse(kind, document).map_err(|fault| (Reason::NotSupported, fault.why))
}

/// A missing `spec` is an empty one.
fn parse<T: DeserializeOwned>(kind: Kind, document: &Value) -> Result<T, SpecFault> {
    let mut spec = document["spec"].clone();
    common_json::drop_nulls(&mut spec);
    if spec.is_null() {
        spec = json!({});
    }
    serde_path_to_error::deserialize(&spec).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." {
            "spec".to_owned()
        } else {
            format!("spec.{path}")
        };
        let cause = error.inner().to_string();
        let is_unknown_field = cause.starts_with("unknown field");
        // serde lists all known fields, which would fill the condition's message.
        let why = if is_unknown_field {
            unserved(kind, &path)
        } else {
            format!("{path}: {cause}")
        };
        SpecFault {
            path,
            is_unknown_field,
            why,
        }
    })
}

fn unserved_kind(kind: &str) -> String {
    match field(kind, "spec").map(|field| field.reason) {
        Some(reason) => format!("the kind {kind} is not served: {reason}"),
        None => format!("the kind {kind} is not served"),
    }
}

/// Says what to do about a field that is not served.
fn unserved(kind: Kind, path: &str) -> String {
    let reason = field(kind.as_str(), path).map_or("", |field| field.reason);
    if reason.is_empty() {
        return format!("{path} is not served");
    }
    format!("{path} is not served: {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Null is absent, wherever a tool or kube-apiserver writes it: the name is read, and the
    /// resource is served.
    #[test]
    fn nulls_are_absent() {
        let mut read = ParsedObjects::default();
        for document in [
            json!({"apiVersion": "v1", "kind": "Namespace",
                   "metadata": {"name": "prod", "labels": null, "creationTimestamp": null}}),
            json!({"apiVersion": API_VERSION, "kind": "Mesh", "metadata": {"name": "m", "namespace": null}, "spec": null}),
            json!({"apiVersion": API_VERSION, "kind": "VirtualNode",
                   "metadata": {"name": "jazz", "namespace": "prod", "creationTimestamp": null, "labels": null},
                   "spec": {"awsName": null, "meshRef": null, "podSelector": {"matchLabels": null, "matchExpressions": null},
                            "listeners": null, "backends": null, "serviceDiscovery": null}, "status": null}),
            json!({"apiVersion": API_VERSION, "kind": "VirtualNode", "metadata": {"name": "blues", "namespace": "prod"},
                   "spec": {"listeners": [{"portMapping": {"port": 9080, "protocol": "http"}, "healthCheck": null,
                                           "timeout": {"http": null}}]}}),
        ] {
            read.add(&document)
                .unwrap_or_else(|refused| panic!("{document}: {}", refused.why));
        }
        assert!(read.namespaces["prod"].is_empty());
        assert!(read.meshes.contains_key(&Key::new("", "m")));
        let jazz = &read.nodes[&Key::new("prod", "jazz")];
        assert!(jazz.listeners.is_empty() && jazz.pod_selector.is_some());
        let blues = &read.nodes[&Key::new("prod", "blues")];
        assert!(blues.listeners[0].health_check.is_none());
    }
}
