//! Meshes: their resources by name, checked against each other.
//!
//! ```text
//! documents -> reading (typed, field by field) -> assign (each object to its mesh)
//!   -> check (references, what Envoy accepts)
//! ```
//!
//! What is refused keeps the form it was served in before, if it was: a slip in a manifest takes no
//! traffic down.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::Value;
use thiserror::Error;

use crate::manifests::Manifest;
use crate::resources::{
    Egress, IpPreference, Kind, Reference, VirtualNodeSpec, VirtualRouterSpec, VirtualServiceSpec,
};
use crate::selector::{Labels, Selector};

mod assign;
mod check;
mod reading;
pub(crate) mod target;

use reading::ParsedObjects;

/// Bytes of one object's `spec` at most, as JSON: a workload that calls a thousand services has
/// some 100 KB.
pub const SPEC_BYTES_MAX: usize = 256 * 1024;

#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key {
    /// The namespace; "" of what has none.
    pub namespace: String,
    pub name: String,
}

/// All meshes, by the name that is in node ids.
#[derive(Clone, Debug, Default)]
pub struct Meshes {
    by_name: BTreeMap<String, Mesh>,
}

/// Addresses of a workload's pods by the port that it listens on.
pub type Endpoints = BTreeMap<u16, Vec<SocketAddr>>;

#[derive(Clone, Debug, Default)]
pub struct Mesh {
    /// Its name outside of the cluster, which is in node ids and names of clusters.
    pub name: String,
    /// Its name in the cluster.
    pub object: String,
    /// Whose pods are of it.
    pub namespaces: Option<Selector>,
    /// What its pods may reach outside of it.
    pub egress: Egress,
    /// The version of IP, of workloads that do not say.
    pub ip_preference: Option<IpPreference>,
    pub nodes: Arc<BTreeMap<Key, VirtualNodeSpec>>,
    pub services: Arc<BTreeMap<Key, VirtualServiceSpec>>,
    pub routers: Arc<BTreeMap<Key, VirtualRouterSpec>>,
    /// Addresses of the pods of a workload, where its host name is not to be asked for.
    pub endpoints: BTreeMap<Key, Endpoints>,
}

/// What is refused, by name; the rest is served.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{what}: {why}")]
pub struct RefusedObject {
    /// Kind, namespace and name, or the file.
    pub what: String,
    /// Which object, if it is one of App Mesh.
    pub object: Option<(Kind, Key)>,
    /// Of which sort the reason is.
    pub reason: Reason,
    /// What is wrong with it: names field and value.
    pub why: String,
}

common_names::named! {
    /// Sorts of reasons to refuse something.
    pub enum Reason {
        /// A kind, field or value that is not served.
        NotSupported = "NotSupported",
        /// Something that is referred to is not there.
        NotFound = "NotFound",
        /// Somebody else has the name.
        Conflict = "Conflict",
        /// More or larger than is taken.
        TooLarge = "TooLarge",
    }
}

type Fault = (Reason, String);

/// What was refused until now: whoever refers to it is told so, and not that it is not there.
struct RefusedObjects(BTreeSet<(Kind, Key)>);

/// The workload of a pod, and its mesh.
#[derive(Clone, Copy, Debug)]
pub struct Workload<'a> {
    pub mesh: &'a Mesh,
    pub key: &'a Key,
    pub spec: &'a VirtualNodeSpec,
}

/// A pod that several workloads claim.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("the pod is selected by the podSelector of several VirtualNodes: {}", .0.join(", "))]
pub struct Ambiguous(pub Vec<String>);

// === impl Key ===

impl Key {
    /// What `reference` means in `namespace`.
    pub fn of(reference: &Reference, namespace: &str) -> Self {
        let namespace = reference.namespace.as_deref().unwrap_or(namespace);
        Self::new(namespace, &reference.name)
    }

    /// This name in this namespace.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

// === impl Meshes ===

impl Meshes {
    /// The meshes of these manifests. What is no resource of App Mesh is left alone.
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

    /// The meshes of these objects, and what is refused. `before` is what was served until now.
    pub fn of<'a>(
        documents: impl IntoIterator<Item = &'a Value>,
        before: &Self,
    ) -> (Self, Vec<RefusedObject>) {
        let mut read = ParsedObjects::default();
        let mut refused = Vec::new();
        for document in documents {
            if let Err(error) = read.add(document) {
                if let Some((kind, key)) = &error.object {
                    read.keep(*kind, key, before);
                }
                refused.push(error);
            }
        }
        let mut by_name = assign::assigned(read, &mut refused);
        for mesh in by_name.values_mut() {
            let before = before.by_name.get(&mesh.name);
            check::check(mesh, before, &mut refused);
        }
        (Self { by_name }, refused)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Mesh> {
        self.by_name.values()
    }

    /// Whether an object is served, as it is or as it was before.
    pub fn serves(&self, kind: Kind, key: &Key) -> bool {
        self.iter().any(|mesh| match kind {
            Kind::Mesh => mesh.object == key.name,
            Kind::VirtualNode => mesh.nodes.contains_key(key),
            Kind::VirtualService => mesh.services.contains_key(key),
            Kind::VirtualRouter => mesh.routers.contains_key(key),
            Kind::VirtualGateway | Kind::GatewayRoute => false,
        })
    }

    /// All of them, to give them endpoints.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Mesh> {
        self.by_name.values_mut()
    }

    /// The workload of a node id `mesh/MESH/virtualNode/NAME_NAMESPACE`.
    pub fn node_of(&self, id: &str) -> Option<Workload<'_>> {
        let (mesh, name) = id.strip_prefix("mesh/")?.split_once("/virtualNode/")?;
        let mesh = mesh.split_once('@').map_or(mesh, |(mesh, _)| mesh);
        let mesh = self.by_name.get(mesh)?;
        let mut nodes = mesh.nodes.iter();
        let (key, spec) = nodes.find(|(key, node)| node_name(key, node) == name)?;
        Some(Workload { mesh, key, spec })
    }

    /// The workload of a pod with these labels: the one whose `podSelector` selects it, in its
    /// namespace. `None` if it is nobody's.
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

    /// The mesh that `namespace` belongs to by these labels: the one whose `namespaceSelector`
    /// selects them. `None` if there is none, or several.
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
    /// The version of IP that one of its workloads is for, if it says so.
    pub(crate) fn ip_preference_of(&self, node: &VirtualNodeSpec) -> Option<IpPreference> {
        let discovery = node.service_discovery.as_ref();
        let own = discovery.and_then(|discovery| discovery.dns.ip_preference);
        own.or(self.ip_preference)
    }
}

// === impl Workload ===

impl Workload<'_> {
    /// The version of IP that it is for, if it or its mesh says so.
    pub(crate) fn ip_preference(&self) -> Option<IpPreference> {
        self.mesh.ip_preference_of(self.spec)
    }

    /// The node id by which its Envoys ask.
    pub fn node_id(&self) -> String {
        let name = node_name(self.key, self.spec);
        format!("mesh/{}/virtualNode/{name}", self.mesh.name)
    }

    /// Ports whose traffic its sidecars take.
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
        let objects = refused.iter().filter_map(|one| one.object.clone());
        Self(objects.collect())
    }

    /// Why there is no such object in the mesh.
    fn why(&self, kind: Kind, key: &Key) -> String {
        let (kind_name, name) = (kind.as_str(), &key.name);
        if self.0.contains(&(kind, key.clone())) {
            return format!("the {kind_name} {name} is refused itself");
        }
        format!("there is no {kind_name} {name} in the mesh")
    }
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
