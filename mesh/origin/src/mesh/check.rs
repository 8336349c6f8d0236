//! Which mesh an object is of, and whether it refers to what is there and is something that Envoy takes: Envoy
//! rejects a configuration as a whole, so one bad object would hold back all changes of all others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::reading::Read;
use super::{Key, Mesh, Reason, Refused, node_name, service_name};
use crate::resources::{
    HealthCheck, HttpRoute, Kind, MeshReference, MeshSpec, VirtualNodeSpec, VirtualRouterSpec,
    VirtualServiceSpec,
};
use crate::selector::Labels;

/// Why something is refused.
type Fault = (Reason, String);

/// Splits what was read by mesh, without a look at its references yet.
pub(super) fn assigned(read: Read, refused: &mut Vec<Refused>) -> BTreeMap<String, Mesh> {
    let Read {
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
            refused.push(Refused::new(Kind::Mesh, key, Reason::Conflict, why));
            continue;
        }
        let egress = spec.egress_filter.map(|filter| filter.r#type);
        let mesh = Mesh {
            name: name.clone(),
            object: key.name.clone(),
            namespaces: spec.namespace_selector.clone(),
            egress: egress.unwrap_or_default(),
            ..Mesh::default()
        };
        by_name.insert(name, mesh);
    }
    let assign = Assign {
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

/// Who has a name that several want: the oldest, and of those that are equally old the first.
fn owners<'a>(all: impl Iterator<Item = (String, &'a str, &'a Key)>) -> BTreeMap<String, Key> {
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
        refused: &mut Vec<Refused>,
    ) -> BTreeMap<String, BTreeMap<Key, T>> {
        let mut assigned: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for (key, object) in objects {
            match self.mesh(&key, reference(&object).as_ref()) {
                Ok(mesh) => {
                    assigned.entry(mesh).or_default().insert(key, object);
                }
                Err((reason, why)) => refused.push(Refused::new(kind, &key, reason, why)),
            }
        }
        assigned
    }

    fn mesh(&self, key: &Key, reference: Option<&MeshReference>) -> Result<String, Fault> {
        let missing = |why: String| (Reason::NotFound, why);
        if let Some(reference) = reference {
            let found = self.meshes.get(&reference.name);
            return found.map(|mesh| mesh.name.clone()).ok_or_else(|| {
                missing(format!("spec.meshRef: there is no Mesh {}", reference.name))
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
}

/// Takes out what refers to nothing, or what Envoy would not take, or puts it as it was before.
pub(super) fn check(mesh: &mut Mesh, before: Option<&Mesh>, refused: &mut Vec<Refused>) {
    let names = mesh.nodes.iter();
    let owners_of_nodes =
        owners(names.map(|(key, node)| (node_name(key, node), node.created.as_str(), key)));
    let names = mesh.services.iter();
    let owners_of_services = owners(
        names.map(|(key, service)| (service_name(key, service), service.created.as_str(), key)),
    );
    settle(
        Kind::VirtualNode,
        Arc::make_mut(&mut mesh.nodes),
        before.map(|before| &*before.nodes),
        |key, node| {
            node_fault(node).or_else(|| taken(&owners_of_nodes, &node_name(key, node), key))
        },
        refused,
    );
    let nodes = &mesh.nodes;
    settle(
        Kind::VirtualRouter,
        Arc::make_mut(&mut mesh.routers),
        before.map(|before| &*before.routers),
        |key, router| router_fault(key, router, nodes),
        refused,
    );
    let routers = &mesh.routers;
    settle(
        Kind::VirtualService,
        Arc::make_mut(&mut mesh.services),
        before.map(|before| &*before.services),
        |key, service| {
            let name = service_name(key, service);
            name_fault("spec.awsName", &name)
                .or_else(|| provider_fault(key, service, nodes, routers))
                .or_else(|| taken(&owners_of_services, &name, key))
        },
        refused,
    );
    for (key, node) in nodes.iter() {
        for backend in &node.backends {
            let service = Key::of(&backend.virtual_service.virtual_service_ref, &key.namespace);
            if !mesh.services.contains_key(&service) {
                let why = format!(
                    "spec.backends: there is no VirtualService {}; it is left out",
                    service.name
                );
                refused.push(Refused::new(Kind::VirtualNode, key, Reason::NotFound, why));
            }
        }
    }
}

/// Refuses what has a fault; in its place comes what was there before, if that still has none.
fn settle<T: Clone>(
    kind: Kind,
    objects: &mut BTreeMap<Key, T>,
    before: Option<&BTreeMap<Key, T>>,
    fault: impl Fn(&Key, &T) -> Option<Fault>,
    refused: &mut Vec<Refused>,
) {
    objects.retain(|key, object| {
        let Some((reason, why)) = fault(key, object) else {
            return true;
        };
        refused.push(Refused::new(kind, key, reason, why));
        let earlier = before.and_then(|before| before.get(key));
        match earlier.filter(|earlier| fault(key, earlier).is_none()) {
            Some(earlier) => {
                *object = earlier.clone();
                true
            }
            None => false,
        }
    });
}

fn taken(owners: &BTreeMap<String, Key>, name: &str, key: &Key) -> Option<Fault> {
    let owner = owners.get(name).filter(|owner| *owner != key)?;
    Some((
        Reason::Conflict,
        format!(
            "the name {name} is taken by {}/{}",
            owner.namespace, owner.name
        ),
    ))
}

fn not_supported(why: String) -> Fault {
    (Reason::NotSupported, why)
}

/// Envoy takes two names `*`, or two equal ones, as an error of everything.
fn name_fault(field: &str, name: &str) -> Option<Fault> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if name.is_empty() || !name.bytes().all(plain) {
        return Some(not_supported(format!(
            "{field}: {name:?} is not a host name"
        )));
    }
    None
}

fn node_fault(node: &VirtualNodeSpec) -> Option<Fault> {
    let mut ports = BTreeSet::new();
    for (index, listener) in node.listeners.iter().enumerate() {
        let field = format!("spec.listeners[{index}]");
        let port = listener.port_mapping.port;
        if port == 0 {
            return Some(not_supported(format!(
                "{field}.portMapping.port: 0 is no port"
            )));
        }
        if !ports.insert(port) {
            return Some(not_supported(format!(
                "{field}.portMapping.port: {port} is there twice"
            )));
        }
        let fault = listener.health_check.as_ref().and_then(health_fault);
        if let Some(fault) = fault {
            return Some(not_supported(format!("{field}.healthCheck.{fault}")));
        }
    }
    let discovery = node.service_discovery.as_ref()?;
    name_fault(
        "spec.serviceDiscovery.dns.hostname",
        &discovery.dns.hostname,
    )
}

/// What Envoy would not take.
fn health_fault(check: &HealthCheck) -> Option<&'static str> {
    match check {
        HealthCheck {
            interval_millis: 0, ..
        } => Some("intervalMillis: 0 is no time"),
        HealthCheck {
            timeout_millis: 0, ..
        } => Some("timeoutMillis: 0 is no time"),
        HealthCheck { port: Some(0), .. } => Some("port: 0 is no port"),
        HealthCheck { path, .. } if path.is_empty() => Some("path: is empty"),
        _ => None,
    }
}

fn router_fault(
    key: &Key,
    router: &VirtualRouterSpec,
    nodes: &BTreeMap<Key, VirtualNodeSpec>,
) -> Option<Fault> {
    let mut ports = BTreeSet::new();
    for (index, listener) in router.listeners.iter().enumerate() {
        let port = listener.port_mapping.port;
        if port == 0 || !ports.insert(port) {
            return Some(not_supported(format!(
                "spec.listeners[{index}].portMapping.port: {port} is no port, or there twice"
            )));
        }
    }
    router.routes.iter().find_map(|route| {
        let named = |fault: String| format!("route {}: {fault}", route.name);
        match (&route.http_route, &route.http2_route) {
            (Some(http), None) | (None, Some(http)) => {
                let fault = route_fault(key, http, nodes);
                fault.map(|(reason, why)| (reason, named(why)))
            }
            _ => Some(not_supported(named(
                "one of httpRoute and http2Route is needed".to_owned(),
            ))),
        }
    })
}

fn route_fault(
    key: &Key,
    route: &HttpRoute,
    nodes: &BTreeMap<Key, VirtualNodeSpec>,
) -> Option<Fault> {
    if !route.r#match.prefix.starts_with('/') {
        let prefix = &route.r#match.prefix;
        return Some(not_supported(format!(
            "match.prefix: {prefix:?} does not begin with /"
        )));
    }
    let mut sum = 0_u64;
    for target in &route.action.weighted_targets {
        sum += u64::from(target.weight);
        let reference = Key::of(&target.virtual_node_ref, &key.namespace);
        let name = &reference.name;
        let Some(node) = nodes.get(&reference) else {
            let why = format!("there is no VirtualNode {name} in the mesh");
            return Some((Reason::NotFound, why));
        };
        let listens = |wanted| {
            let mut ports = node.listeners.iter().map(|one| one.port_mapping.port);
            ports.any(|port| port == wanted)
        };
        if !target.port.map_or(!node.listeners.is_empty(), listens) {
            let why = format!("the VirtualNode {name} does not listen there");
            return Some((Reason::NotFound, why));
        }
        if node.service_discovery.is_none() {
            let why = format!("the VirtualNode {name} has no spec.serviceDiscovery");
            return Some((Reason::NotFound, why));
        }
    }
    if sum == 0 || sum > u64::from(u32::MAX) {
        return Some(not_supported(format!("the weights add up to {sum}")));
    }
    None
}

fn provider_fault(
    key: &Key,
    service: &VirtualServiceSpec,
    nodes: &BTreeMap<Key, VirtualNodeSpec>,
    routers: &BTreeMap<Key, VirtualRouterSpec>,
) -> Option<Fault> {
    let provider = service.provider.clone().unwrap_or_default();
    let missing = |why: String| Some((Reason::NotFound, why));
    match (&provider.virtual_node, &provider.virtual_router) {
        (Some(node), None) => {
            let node = Key::of(&node.virtual_node_ref, &key.namespace);
            let name = &node.name;
            match nodes.get(&node) {
                None => missing(format!("there is no VirtualNode {name} in the mesh")),
                Some(found) if found.service_discovery.is_none() => missing(format!(
                    "the VirtualNode {name} has no spec.serviceDiscovery"
                )),
                Some(_) => None,
            }
        }
        (None, Some(router)) => {
            let router = Key::of(&router.virtual_router_ref, &key.namespace);
            if routers.contains_key(&router) {
                return None;
            }
            let name = &router.name;
            missing(format!("there is no VirtualRouter {name} in the mesh"))
        }
        _ => Some(not_supported(
            "spec.provider: one of virtualNode and virtualRouter is needed".to_owned(),
        )),
    }
}
