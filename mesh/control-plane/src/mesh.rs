//! Meshes: their resources by name, checked against each other.
//!
//! ```text
//! documents -> reading (typed, field by field) -> assign (each object to its mesh)
//!   -> check (references, what Envoy accepts)
//! ```
//!
//! A refused object keeps the form in which it was served before, if any: a slip in a manifest
//! takes no traffic down.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::Value;
use thiserror::Error;

use crate::manifests::Manifest;
use crate::resources::{
    BackendGroupSpec, Egress, GatewayRouteSpec, IpPreference, Kind, Pointer, PortMapping,
    Reference, ServiceDiscovery, VirtualGatewaySpec, VirtualNodeSpec, VirtualRouterSpec,
    VirtualServiceSpec,
};
use crate::selector::{Labels, Selector};

mod acm;
mod arns;
mod assign;
mod backends;
mod check;
pub(crate) mod gateways;
pub(crate) mod ports;
mod reading;
pub(crate) mod target;

pub use acm::{
    ACM_PATH, AcmMap, acm_secret_of, acm_secret_of_trust, acm_secrets, acm_secrets_of_gateway,
};
pub use gateways::Gateway;
use reading::ParsedObjects;
pub(crate) use reading::first_fault;

/// Largest `spec` of one object, in bytes of JSON: that of a workload with a thousand backends has
/// about 100 KB.
pub const SPEC_BYTES_MAX: usize = 256 * 1024;

#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key {
    /// "" for cluster-scoped objects.
    pub namespace: String,
    pub name: String,
}

/// All meshes, by the name in node IDs.
#[derive(Clone, Debug, Default)]
pub struct Meshes {
    by_name: BTreeMap<String, Mesh>,
    /// What ARNs of ACM stand for, in these meshes and in those that follow them.
    acm: Arc<AcmMap>,
}

/// Addresses of a workload's pods, by its listener's port.
pub type Endpoints = BTreeMap<u16, Vec<SocketAddr>>;

#[derive(Clone, Debug, Default)]
pub struct Mesh {
    /// `spec.awsName` or else the object's name: part of node IDs and of Envoy cluster names.
    pub name: String,
    /// `metadata.name`.
    pub object: String,
    /// Selects the namespaces of the mesh.
    pub namespaces: Option<Selector>,
    /// What its pods may reach outside of it.
    pub egress: Egress,
    /// For workloads without one.
    pub ip_preference: Option<IpPreference>,
    pub nodes: Arc<BTreeMap<Key, VirtualNodeSpec>>,
    pub services: Arc<BTreeMap<Key, VirtualServiceSpec>>,
    pub routers: Arc<BTreeMap<Key, VirtualRouterSpec>>,
    pub groups: Arc<BTreeMap<Key, BackendGroupSpec>>,
    pub gateways: Arc<BTreeMap<Key, VirtualGatewaySpec>>,
    pub gateway_routes: Arc<BTreeMap<Key, GatewayRouteSpec>>,
    /// Workloads that are not in it are resolved by DNS.
    pub endpoints: BTreeMap<Key, Endpoints>,
}

/// A refused object or file. The others are served.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{what}: {why}")]
pub struct RefusedObject {
    /// Kind, namespace and name, or the file.
    pub what: String,
    /// `None` for a file or an unknown kind.
    pub object: Option<(Kind, Key)>,
    pub reason: Reason,
    /// Names field and value.
    pub why: String,
}

common_names::named! {
    /// Reasons of conditions.
    pub enum Reason {
        /// An unsupported kind, field or value.
        NotSupported = "NotSupported",
        /// A reference to a missing object.
        NotFound = "NotFound",
        /// Another object has the name.
        Conflict = "Conflict",
        /// A limit of number or size is exceeded.
        TooLarge = "TooLarge",
    }
}

type Fault = (Reason, String);

/// Objects refused so far: a reference to one gets an error of its own, not "not found".
struct RefusedObjects(BTreeSet<(Kind, Key)>);

/// The workload of a pod, and its mesh.
#[derive(Clone, Copy, Debug)]
pub struct Workload<'a> {
    pub mesh: &'a Mesh,
    pub key: &'a Key,
    pub spec: &'a VirtualNodeSpec,
}

/// A pod that several workloads select.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("the pod is selected by the podSelector of several VirtualNodes: {}", .0.join(", "))]
pub struct Ambiguous(pub Vec<String>);

// === impl Key ===

impl Key {
    /// Resolves a pointer from an object in `namespace`. No object has the key of an ARN that was
    /// not resolved.
    pub fn of(pointer: &Pointer, namespace: &str) -> Self {
        match pointer {
            Pointer::Name(reference) => Self::of_reference(reference, namespace),
            Pointer::Arn(arn) => Self::new("", &arn.to_string()),
        }
    }

    /// Resolves a reference from an object in `namespace`.
    pub fn of_reference(reference: &Reference, namespace: &str) -> Self {
        let own = reference.namespace.as_deref();
        let own = own.filter(|namespace| !namespace.is_empty());
        Self::new(own.unwrap_or(namespace), &reference.name)
    }

    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

// === impl Meshes ===

impl Meshes {
    /// No mesh yet; the meshes that follow resolve ARNs of ACM by this map.
    pub fn with_acm(acm: AcmMap) -> Self {
        Self {
            by_name: BTreeMap::new(),
            acm: Arc::new(acm),
        }
    }

    /// The meshes of these manifests. Other objects are ignored.
    pub fn parse<'a>(
        texts: impl IntoIterator<Item = (&'a str, &'a str)>,
        before: &Self,
    ) -> (Self, Vec<RefusedObject>) {
        let mut objects = Vec::new();
        let mut refused = Vec::new();
        for (file, text) in texts {
            match Manifest::read(text) {
                Ok(manifest) => objects.extend(manifest.objects),
                Err(why) => refused.push(RefusedObject::file(file, why)),
            }
        }
        let (meshes, others) = Self::of(&objects, before);
        refused.extend(others);
        (meshes, refused)
    }

    /// The meshes of these objects, and the refused objects. `before` was served until now.
    pub fn of<'a>(
        documents: impl IntoIterator<Item = &'a Value>,
        before: &Self,
    ) -> (Self, Vec<RefusedObject>) {
        let mut parsed = ParsedObjects::default();
        let mut refused = Vec::new();
        for document in documents {
            if let Err(error) = parsed.add(document) {
                if let Some((kind, key)) = &error.object {
                    parsed.restore(*kind, key, before);
                }
                refused.push(error);
            }
        }
        let mut by_name = assign::assigned(parsed, &mut refused);
        let acm = Arc::clone(&before.acm);
        for mesh in by_name.values_mut() {
            let before = before.by_name.get(&mesh.name);
            arns::resolve(mesh);
            acm.resolve(mesh);
            check::check(mesh, before, &mut refused);
        }
        (Self { by_name, acm }, refused)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Mesh> {
        self.by_name.values()
    }

    /// Whether an object is served, in its current or an earlier form.
    pub fn serves(&self, kind: Kind, key: &Key) -> bool {
        self.iter().any(|mesh| match kind {
            Kind::Mesh => mesh.object == key.name,
            Kind::VirtualNode => mesh.nodes.contains_key(key),
            Kind::VirtualService => mesh.services.contains_key(key),
            Kind::VirtualRouter => mesh.routers.contains_key(key),
            Kind::BackendGroup => mesh.groups.contains_key(key),
            Kind::VirtualGateway => mesh.gateways.contains_key(key),
            Kind::GatewayRoute => mesh.gateway_routes.contains_key(key),
        })
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Mesh> {
        self.by_name.values_mut()
    }

    /// The workload of a node ID `mesh/MESH/virtualNode/NAME_NAMESPACE`.
    pub fn node_of(&self, id: &str) -> Option<Workload<'_>> {
        let (mesh, name) = id.strip_prefix("mesh/")?.split_once("/virtualNode/")?;
        let mesh = self.of_node_id(mesh)?;
        let mut nodes = mesh.nodes.iter();
        let (key, spec) = nodes.find(|(key, node)| node_name(key, node) == name)?;
        Some(Workload { mesh, key, spec })
    }

    /// The mesh of a node ID, which has `MESH@ACCOUNT` for a shared mesh.
    fn of_node_id(&self, mesh: &str) -> Option<&Mesh> {
        let mesh = mesh.split_once('@').map_or(mesh, |(mesh, _)| mesh);
        self.by_name.get(mesh)
    }

    /// The workload in `namespace` whose `podSelector` matches a pod's labels.
    pub fn workload_of(
        &self,
        namespace: &str,
        labels: &Labels,
    ) -> Result<Option<Workload<'_>>, Ambiguous> {
        let all = self.iter().flat_map(|mesh| {
            let nodes = mesh.nodes.iter();
            nodes.map(move |(key, spec)| Workload { mesh, key, spec })
        });
        let selected = |workload: &Workload<'_>| {
            let selector = workload.spec.pod_selector.as_ref();
            workload.key.namespace == namespace
                && selector.is_some_and(|selector| selector.selects(labels))
        };
        let mut found: Vec<_> = all.filter(selected).collect();
        if found.len() > 1 {
            let names = found.iter().map(|workload| workload.key.name.clone());
            return Err(Ambiguous(names.collect()));
        }
        Ok(found.pop())
    }

    /// The mesh whose `namespaceSelector` matches a namespace's labels; `None` if several do.
    pub fn mesh_of_namespace(&self, labels: &Labels) -> Option<&Mesh> {
        let mut selecting = self.iter().filter(|mesh| {
            let selector = mesh.namespaces.as_ref();
            selector.is_some_and(|selector| selector.selects(labels))
        });
        selecting.next().filter(|_| selecting.next().is_none())
    }
}

// === impl Mesh ===

impl Mesh {
    /// That of the workload, else that of the mesh.
    pub(crate) fn ip_preference_of(&self, node: &VirtualNodeSpec) -> Option<IpPreference> {
        let discovery = node.service_discovery.as_ref();
        let dns = discovery.and_then(ServiceDiscovery::dns);
        let own = dns.and_then(|dns| dns.ip_preference);
        own.or(self.ip_preference)
    }

    /// The port of a route's target: `requested`, or else its first; `None` if it is not there.
    pub fn target_port(&self, node: &Key, requested: Option<u16>) -> Option<u16> {
        target::port(&self.nodes, node, requested).ok()
    }

    /// The ports on which a service is called: of its router's listeners, or of its workload.
    pub fn ports_of(&self, key: &Key, service: &VirtualServiceSpec) -> Vec<PortMapping> {
        ports::ports_of(self, key, service)
    }
}

// === impl Workload ===

impl Workload<'_> {
    pub(crate) fn ip_preference(&self) -> Option<IpPreference> {
        self.mesh.ip_preference_of(self.spec)
    }

    /// The node ID of its Envoys.
    pub fn node_id(&self) -> String {
        let name = node_name(self.key, self.spec);
        format!("mesh/{}/virtualNode/{name}", self.mesh.name)
    }

    /// Ports whose traffic is redirected to its sidecars.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        let listeners = self.spec.listeners.iter();
        listeners.map(|listener| listener.port_mapping.port)
    }
}

// === impl RefusedObject ===

impl RefusedObject {
    pub(crate) fn file(file: &str, why: String) -> Self {
        Self {
            what: file.to_owned(),
            object: None,
            reason: Reason::NotSupported,
            why,
        }
    }

    pub(crate) fn new(kind: Kind, key: &Key, reason: Reason, why: String) -> Self {
        Self {
            what: format!("{} {}/{}", kind.as_str(), key.namespace, key.name),
            object: Some((kind, key.clone())),
            reason,
            why,
        }
    }
}

// === impl RefusedObjects ===

impl RefusedObjects {
    fn of(refused: &[RefusedObject]) -> Self {
        let objects = refused.iter().filter_map(|refused| refused.object.clone());
        Self(objects.collect())
    }

    /// Why a reference to this object is not resolved.
    fn why(&self, kind: Kind, key: &Key) -> String {
        let (kind_name, name) = (kind.as_str(), &key.name);
        if self.0.contains(&(kind, key.clone())) {
            return format!("the {kind_name} {name} is refused itself");
        }
        format!("there is no {kind_name} {name} in the mesh")
    }
}

/// The name of a workload in node IDs and Envoy cluster names.
pub fn node_name(key: &Key, node: &VirtualNodeSpec) -> String {
    let default = || format!("{}_{}", key.name, key.namespace);
    node.aws_name.clone().unwrap_or_else(default)
}

/// The name of a router in ARNs.
fn router_name(key: &Key, router: &VirtualRouterSpec) -> String {
    let default = || format!("{}_{}", key.name, key.namespace);
    router.aws_name.clone().unwrap_or_else(default)
}

/// The host name by which a service is called.
pub fn service_name(key: &Key, service: &VirtualServiceSpec) -> String {
    let default = || format!("{}.{}", key.name, key.namespace);
    service.aws_name.clone().unwrap_or_else(default)
}
