//! Assigns objects to meshes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::reading::ParsedObjects;
use super::{Fault, Key, Mesh, Reason, RefusedObject, gateways};
use crate::resources::{GatewayRouteSpec, Kind, MeshReference, MeshSpec, VirtualGatewaySpec};
use crate::selector::Labels;

/// Refused meshes that a message names at most.
const NAMED_MAX: usize = 3;

/// Groups objects by mesh; references are checked later.
pub(super) fn assigned(
    parsed: ParsedObjects,
    refused: &mut Vec<RefusedObject>,
) -> BTreeMap<String, Mesh> {
    let ParsedObjects {
        meshes,
        nodes,
        services,
        routers,
        groups,
        gateways,
        gateway_routes,
        namespaces,
    } = parsed;
    let mesh_name = |key: &Key, spec: &MeshSpec| spec.aws_name.clone().unwrap_or(key.name.clone());
    let owners = owners(meshes.iter().map(|(key, spec)| {
        let name = mesh_name(key, spec);
        (name, spec.created.as_str(), key)
    }));
    let mut by_name = BTreeMap::new();
    for (key, spec) in &meshes {
        let name = mesh_name(key, spec);
        if owners.get(&name) != Some(key) {
            let why = format!("spec.awsName: the name {name} is taken");
            refused.push(RefusedObject::new(Kind::Mesh, key, Reason::Conflict, why));
            continue;
        }
        let egress = spec.egress_filter.map(|filter| filter.r#type);
        let mesh = Mesh {
            name: name.clone(),
            object: key.name.clone(),
            namespaces: spec.namespace_selector.clone(),
            egress: egress.unwrap_or_default(),
            ip_preference: spec
                .mesh_service_discovery
                .and_then(|discovery| discovery.ip_preference),
            ..Mesh::default()
        };
        by_name.insert(name, mesh);
    }
    let objects = refused.iter().filter_map(|refused| refused.object.as_ref());
    let unserved = objects.filter(|(kind, key)| *kind == Kind::Mesh && !is_served(&by_name, key));
    let assign = Assign {
        refused_meshes: unserved.map(|(_, key)| key.name.clone()).collect(),
        meshes: by_name
            .values()
            .map(|mesh| (mesh.object.clone(), mesh.clone()))
            .collect(),
        namespaces,
    };
    let mut nodes = assign.each(Kind::VirtualNode, nodes, |node| &node.mesh_ref, refused);
    let mut services = assign.each(
        Kind::VirtualService,
        services,
        |service| &service.mesh_ref,
        refused,
    );
    let mut routers = assign.each(
        Kind::VirtualRouter,
        routers,
        |router| &router.mesh_ref,
        refused,
    );
    let mut groups = assign.each(Kind::BackendGroup, groups, |group| &group.mesh_ref, refused);
    for mesh in by_name.values_mut() {
        mesh.groups = Arc::new(groups.remove(&mesh.name).unwrap_or_default());
        mesh.nodes = Arc::new(nodes.remove(&mesh.name).unwrap_or_default());
        mesh.services = Arc::new(services.remove(&mesh.name).unwrap_or_default());
        mesh.routers = Arc::new(routers.remove(&mesh.name).unwrap_or_default());
    }
    assign_gateways(&assign, gateways, gateway_routes, &mut by_name, refused);
    by_name
}

/// Gateways and their routes, which also need to find each other.
fn assign_gateways(
    assign: &Assign,
    gateways: BTreeMap<Key, VirtualGatewaySpec>,
    routes: BTreeMap<Key, GatewayRouteSpec>,
    meshes: &mut BTreeMap<String, Mesh>,
    refused: &mut Vec<RefusedObject>,
) {
    let mut gateways = assign.each(
        Kind::VirtualGateway,
        gateways,
        |gateway| &gateway.mesh_ref,
        refused,
    );
    let mut routes = assign.each(Kind::GatewayRoute, routes, |route| &route.mesh_ref, refused);
    for mesh in meshes.values_mut() {
        mesh.gateways = Arc::new(gateways.remove(&mesh.name).unwrap_or_default());
        mesh.gateway_routes = Arc::new(routes.remove(&mesh.name).unwrap_or_default());
        gateways::designate(mesh, &assign.namespaces, refused);
    }
}

fn is_served(meshes: &BTreeMap<String, Mesh>, key: &Key) -> bool {
    meshes.values().any(|mesh| mesh.object == key.name)
}

/// The owner of each name: the oldest object, then the first by key. Replicas agree on it, and a
/// new object cannot take a name from an old one.
pub(super) fn owners<'a>(
    all: impl Iterator<Item = (String, &'a str, &'a Key)>,
) -> BTreeMap<String, Key> {
    let mut all: Vec<_> = all.collect();
    all.sort_by_key(|(_, created, key)| (*created, *key));
    let mut owners = BTreeMap::new();
    for (name, _, key) in all {
        owners.entry(name).or_insert_with(|| key.clone());
    }
    owners
}

/// The data that determines the mesh of an object.
struct Assign {
    /// By `metadata.name`.
    meshes: BTreeMap<String, Mesh>,
    /// Refused, and not served in an earlier form either.
    refused_meshes: BTreeSet<String>,
    namespaces: BTreeMap<String, Labels>,
}

// === impl Assign ===

impl Assign {
    /// The objects, by the name of their mesh.
    fn each<T>(
        &self,
        kind: Kind,
        objects: BTreeMap<Key, T>,
        reference: impl Fn(&T) -> &Option<MeshReference>,
        refused: &mut Vec<RefusedObject>,
    ) -> BTreeMap<String, BTreeMap<Key, T>> {
        let mut assigned: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for (key, object) in objects {
            match self.mesh(&key, reference(&object).as_ref()) {
                Ok(mesh) => {
                    assigned.entry(mesh).or_default().insert(key, object);
                }
                Err((reason, why)) => refused.push(RefusedObject::new(kind, &key, reason, why)),
            }
        }
        assigned
    }

    fn mesh(&self, key: &Key, reference: Option<&MeshReference>) -> Result<String, Fault> {
        let missing = |why: String| (Reason::NotFound, why);
        if let Some(reference) = reference {
            let found = self.meshes.get(&reference.name);
            let name = &reference.name;
            return found.map(|mesh| mesh.name.clone()).ok_or_else(|| {
                missing(if self.refused_meshes.contains(name) {
                    format!("spec.meshRef: the Mesh {name} is refused itself")
                } else {
                    format!("spec.meshRef: there is no Mesh {name}")
                })
            });
        }
        let namespace = &key.namespace;
        // Without the namespace's labels (a manifest may lack the Namespace) any mesh may match.
        let labels = self.namespaces.get(namespace);
        let mut selecting = self.meshes.values().filter(|mesh| {
            labels.is_none_or(|labels| {
                let selector = mesh.namespaces.as_ref();
                selector.is_some_and(|selector| selector.selects(labels))
            })
        });
        match (selecting.next(), selecting.next()) {
            (Some(mesh), None) => Ok(mesh.name.clone()),
            (None, _) if !self.refused_meshes.is_empty() => Err(missing(format!(
                "no Mesh that is served selects the namespace {namespace}: {} refused itself",
                self.refused_names()
            ))),
            (None, _) => Err(missing(format!(
                "no Mesh selects the namespace {namespace} (spec.namespaceSelector), and there is no spec.meshRef"
            ))),
            (Some(one), Some(other)) => Err((
                Reason::Conflict,
                format!(
                    "both Mesh {} and Mesh {} may have the namespace {namespace}: spec.meshRef is needed",
                    one.object, other.object
                ),
            )),
        }
    }
    /// The first few, since every object of the namespace gets the message.
    fn refused_names(&self) -> String {
        let names: Vec<_> = self
            .refused_meshes
            .iter()
            .take(NAMED_MAX)
            .cloned()
            .collect();
        let verb = if self.refused_meshes.len() == 1 {
            "is"
        } else {
            "are"
        };
        format!("the Mesh {} {verb}", names.join(", "))
    }
}
