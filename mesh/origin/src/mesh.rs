//! A mesh: its resources by name, checked against each other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::resources::{
    API_VERSION, Head, MeshSpec, Metadata, Object, Reference, VirtualNodeSpec, VirtualRouterSpec,
    VirtualServiceSpec,
};

/// Objects of a mesh at most.
const OBJECTS_MAX: usize = 10_000;

/// Name in a namespace.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// A mesh.
#[derive(Clone, Debug, Default)]
pub struct Mesh {
    /// Its name.
    pub name: String,
    /// Workloads.
    pub nodes: BTreeMap<Key, VirtualNodeSpec>,
    /// Names that are called.
    pub services: BTreeMap<Key, VirtualServiceSpec>,
    /// Routes.
    pub routers: BTreeMap<Key, VirtualRouterSpec>,
    /// Addresses of the pods of a workload, where its host name is not to be asked for.
    pub endpoints: BTreeMap<Key, Vec<SocketAddr>>,
}

/// What is refused, by name; the rest is served.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{what}: {why}")]
pub struct Refused {
    /// Kind, namespace and name, or the file.
    pub what: String,
    /// What is wrong with it.
    pub why: String,
}

// === impl Key ===

impl Key {
    /// What `reference` means in `namespace`.
    pub fn of(reference: &Reference, namespace: &str) -> Self {
        let namespace = reference.namespace.as_deref().unwrap_or(namespace);
        Self {
            namespace: namespace.to_owned(),
            name: reference.name.clone(),
        }
    }
}

// === impl Mesh ===

impl Mesh {
    /// The mesh of these YAML documents. What is no resource of App Mesh is left alone.
    pub fn parse<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> (Self, Vec<Refused>) {
        let mut mesh = Self::default();
        let mut refused = Vec::new();
        for (file, text) in texts {
            match serde_saphyr::from_multiple_with_options::<serde_json::Value>(text, options()) {
                Ok(documents) => {
                    for document in documents {
                        if let Err(error) = mesh.add(&document) {
                            refused.push(error);
                        }
                    }
                }
                Err(error) => refused.push(Refused {
                    what: file.to_owned(),
                    why: error.to_string(),
                }),
            }
        }
        mesh.check(&mut refused);
        (mesh, refused)
    }

    fn add(&mut self, document: &serde_json::Value) -> Result<(), Refused> {
        let head = Head::deserialize(document).unwrap_or_default();
        if !head.api_version.starts_with("appmesh.k8s.aws/") {
            return Ok(());
        }
        let metadata = Metadata::deserialize(&document["metadata"]).unwrap_or_default();
        let what = format!("{} {}/{}", head.kind, metadata.namespace, metadata.name);
        let refuse = |why: String| Refused {
            what: what.clone(),
            why,
        };
        if head.api_version != API_VERSION {
            return Err(refuse(format!(
                "{} is not served, {API_VERSION} is",
                head.api_version
            )));
        }
        let objects = self.nodes.len() + self.services.len() + self.routers.len();
        if objects >= OBJECTS_MAX {
            return Err(refuse(format!("more than {OBJECTS_MAX} objects")));
        }
        let key = Key {
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
        };
        match head.kind.as_str() {
            "Mesh" => {
                let spec: MeshSpec = spec(document).map_err(refuse)?;
                let name = spec.aws_name.unwrap_or(metadata.name);
                if !self.name.is_empty() && self.name != name {
                    return Err(refuse(format!("the mesh is {} already", self.name)));
                }
                self.name = name;
            }
            "VirtualNode" => {
                self.nodes.insert(key, spec(document).map_err(refuse)?);
            }
            "VirtualService" => {
                self.services.insert(key, spec(document).map_err(refuse)?);
            }
            "VirtualRouter" => {
                self.routers.insert(key, spec(document).map_err(refuse)?);
            }
            kind => return Err(refuse(format!("the kind {kind} is not served"))),
        }
        Ok(())
    }

    /// Takes out what refers to nothing, or what Envoy would not take.
    fn check(&mut self, refused: &mut Vec<Refused>) {
        let nodes = &self.nodes;
        self.routers.retain(|key, router| {
            let fault = router_fault(key, router, nodes);
            refuse("VirtualRouter", key, fault, refused)
        });
        let routers = &self.routers;
        let mut names = BTreeSet::new();
        self.services.retain(|key, service| {
            let name = service_name(key, service);
            let fault = provider_fault(key, service, nodes, routers).or_else(|| {
                (!names.insert(name.clone())).then(|| format!("the name {name} is taken"))
            });
            refuse("VirtualService", key, fault, refused)
        });
        for (key, node) in &self.nodes {
            for backend in &node.backends {
                let service = Key::of(&backend.virtual_service.virtual_service_ref, &key.namespace);
                if !self.services.contains_key(&service) {
                    let fault = format!(
                        "spec.backends: there is no VirtualService {}; it is left out",
                        service.name
                    );
                    refuse("VirtualNode", key, Some(fault), refused);
                }
            }
        }
    }

    /// The workload of a node id `mesh/MESH/virtualNode/NAME_NAMESPACE`.
    pub fn node_of(&self, id: &str) -> Option<(&Key, &VirtualNodeSpec)> {
        let (mesh, name) = id.strip_prefix("mesh/")?.split_once("/virtualNode/")?;
        let mesh = mesh.split_once('@').map_or(mesh, |(mesh, _)| mesh);
        if mesh != self.name {
            return None;
        }
        self.nodes
            .iter()
            .find(|(key, node)| node_name(key, node) == name)
    }
}

/// Limits of a file: what a mesh may have, and a few times as many values.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 2 * OBJECTS_MAX,
            max_nodes: 100 * OBJECTS_MAX,
            max_events: 200 * OBJECTS_MAX,
        },
    }
}

fn router_fault(
    key: &Key,
    router: &VirtualRouterSpec,
    nodes: &BTreeMap<Key, VirtualNodeSpec>,
) -> Option<String> {
    for route in &router.routes {
        let ((Some(http), None) | (None, Some(http))) = (&route.http_route, &route.http2_route)
        else {
            return Some(format!(
                "route {}: one of httpRoute and http2Route is needed",
                route.name
            ));
        };
        let mut sum = 0_u64;
        for target in &http.action.weighted_targets {
            sum += u64::from(target.weight);
            let reference = Key::of(&target.virtual_node_ref, &key.namespace);
            let name = &reference.name;
            let Some(node) = nodes.get(&reference) else {
                return Some(format!(
                    "route {}: there is no VirtualNode {name}",
                    route.name
                ));
            };
            let mut ports = node
                .listeners
                .iter()
                .map(|listener| listener.port_mapping.port);
            if !ports.any(|port| target.port.is_none_or(|wanted| wanted == port)) {
                return Some(format!(
                    "route {}: the VirtualNode {name} does not listen there",
                    route.name
                ));
            }
        }
        if sum == 0 || sum > u64::from(u32::MAX) {
            return Some(format!("route {}: the weights add up to {sum}", route.name));
        }
    }
    None
}

fn provider_fault(
    key: &Key,
    service: &VirtualServiceSpec,
    nodes: &BTreeMap<Key, VirtualNodeSpec>,
    routers: &BTreeMap<Key, VirtualRouterSpec>,
) -> Option<String> {
    let provider = service.provider.clone().unwrap_or_default();
    match (&provider.virtual_node, &provider.virtual_router) {
        (Some(node), None) => {
            let node = Key::of(&node.virtual_node_ref, &key.namespace);
            let missing = !nodes.contains_key(&node);
            missing.then(|| format!("there is no VirtualNode {}", node.name))
        }
        (None, Some(router)) => {
            let router = Key::of(&router.virtual_router_ref, &key.namespace);
            let missing = !routers.contains_key(&router);
            missing.then(|| format!("there is no VirtualRouter {}", router.name))
        }
        _ => Some("spec.provider: one of virtualNode and virtualRouter is needed".to_owned()),
    }
}

/// True if there is no fault.
fn refuse(kind: &str, key: &Key, fault: Option<String>, refused: &mut Vec<Refused>) -> bool {
    let good = fault.is_none();
    refused.extend(fault.map(|why| Refused {
        what: format!("{kind} {}/{}", key.namespace, key.name),
        why,
    }));
    good
}

/// The name of a workload in node ids and in the names of clusters.
pub fn node_name(key: &Key, node: &VirtualNodeSpec) -> String {
    let default = || format!("{}_{}", key.name, key.namespace);
    node.aws_name.clone().unwrap_or_else(default)
}

/// The name by which a service is called.
pub fn service_name(key: &Key, service: &VirtualServiceSpec) -> String {
    let default = || format!("{}.{}", key.name, key.namespace);
    service.aws_name.clone().unwrap_or_else(default)
}

fn spec<T: DeserializeOwned>(document: &serde_json::Value) -> Result<T, String> {
    let object = Object::<T>::deserialize(document);
    object
        .map(|object| object.spec)
        .map_err(|error| error.to_string())
}
