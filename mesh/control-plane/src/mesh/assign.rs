//! Which mesh an object is of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::reading::ParsedObjects;
use super::{Fault, Key, Mesh, Reason, RefusedObject};
use crate::resources::{Kind, MeshReference, MeshSpec};
use crate::selector::Labels;

/// Refused meshes that are named at most.
const GONE_TOLD_MAX: usize = 3;

/// Splits what was read by mesh, without a look at its references yet.
pub(super) fn assigned(
    read: ParsedObjects,
    refused: &mut Vec<RefusedObject>,
) -> BTreeMap<String, Mesh> {
    let ParsedObjects {
        meshes,
        nodes,
        services,
        routers,
        namespaces,
    } = read;
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
    let names = refused.iter().filter_map(|one| one.object.as_ref());
    let gone = names.filter(|(kind, key)| *kind == Kind::Mesh && !is_served(&by_name, key));
    let assign = Assign {
        gone: gone.map(|(_, key)| key.name.clone()).collect(),
        meshes: by_name
            .values()
            .map(|mesh| (mesh.object.clone(), mesh.clone()))
            .collect(),
        namespaces,
    };
    let mut nodes = assign.each(Kind::VirtualNode, nodes, |node| &node.mesh_ref, refused);
    let mut services = assign.each(Kind::VirtualService, services, |one| &one.mesh_ref, refused);
    let mut routers = assign.each(Kind::VirtualRouter, routers, |one| &one.mesh_ref, refused);
    for mesh in by_name.values_mut() {
        mesh.nodes = Arc::new(nodes.remove(&mesh.name).unwrap_or_default());
        mesh.services = Arc::new(services.remove(&mesh.name).unwrap_or_default());
        mesh.routers = Arc::new(routers.remove(&mesh.name).unwrap_or_default());
    }
    by_name
}

fn is_served(meshes: &BTreeMap<String, Mesh>, key: &Key) -> bool {
    meshes.values().any(|mesh| mesh.object == key.name)
}

/// Who has a name that several want: the oldest, and of those that are equally old the first.
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

/// What tells the mesh of an object.
struct Assign {
    /// By their names in the cluster.
    meshes: BTreeMap<String, Mesh>,
    /// Those that are refused, and not served in an earlier form either.
    gone: BTreeSet<String>,
    namespaces: BTreeMap<String, Labels>,
}

// === impl Assign ===

impl Assign {
    /// By the name of the mesh.
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
                missing(if self.gone.contains(name) {
                    format!("spec.meshRef: the Mesh {name} is refused itself")
                } else {
                    format!("spec.meshRef: there is no Mesh {name}")
                })
            });
        }
        let namespace = &key.namespace;
        // A manifest need not come with its namespace.
        let labels = self.namespaces.get(namespace);
        let mut selecting = self.meshes.values().filter(|mesh| {
            labels.is_none_or(|labels| {
                let selector = mesh.namespaces.as_ref();
                selector.is_some_and(|selector| selector.selects(labels))
            })
        });
        match (selecting.next(), selecting.next()) {
            (Some(mesh), None) => Ok(mesh.name.clone()),
            (None, _) if !self.gone.is_empty() => Err(missing(format!(
                "no Mesh that is served selects the namespace {namespace}: {} refused itself",
                self.told_gone()
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
    /// Whose selectors nobody knows. The first few: it is said of every object.
    fn told_gone(&self) -> String {
        let names: Vec<_> = self.gone.iter().take(GONE_TOLD_MAX).cloned().collect();
        let verb = if self.gone.len() == 1 { "is" } else { "are" };
        format!("the Mesh {} {verb}", names.join(", "))
    }
}
