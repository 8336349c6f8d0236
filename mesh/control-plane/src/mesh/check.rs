//! Checks that references resolve and that Envoy accepts each object: Envoy rejects a response as a
//! whole, so one bad object would hold back the changes of all others.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::assign::owners;
use super::{
    Fault, Key, Mesh, Reason, RefusedObject, RefusedObjects, node_name, ports, service_name, target,
};
use crate::resources::{HttpTimeout, Kind, VirtualNodeSpec, VirtualRouterSpec, VirtualServiceSpec};

mod gateways;
mod log_format;
mod matches;
mod nodes;
mod regex;
mod routers;
mod tls;

/// Longest duration, in milliseconds: a day. Envoy rejects durations beyond protobuf's range.
const SPAN_MAX_MS: u64 = 24 * 60 * 60 * 1_000;

/// Removes objects with unresolved references, and those that Envoy would reject, or restores their
/// earlier form.
pub(super) fn check(mesh: &mut Mesh, before: Option<&Mesh>, refused: &mut Vec<RefusedObject>) {
    // Before anything is removed: a refused object keeps its name for its earlier form.
    let names = mesh.nodes.iter();
    let owners_of_nodes =
        owners(names.map(|(key, node)| (node_name(key, node), node.created.as_str(), key)));
    let names = mesh.services.iter();
    let owners_of_services = owners(names.map(|(key, service)| {
        let name = domain(&service_name(key, service));
        (name, service.created.as_str(), key)
    }));
    settle(
        Kind::VirtualNode,
        Arc::make_mut(&mut mesh.nodes),
        before.map(|before| &*before.nodes),
        |key, node| {
            nodes::fault(node).or_else(|| taken(&owners_of_nodes, &node_name(key, node), key))
        },
        refused,
    );
    let nodes = &mesh.nodes;
    routers::settle(
        Arc::make_mut(&mut mesh.routers),
        before.map(|before| &*before.routers),
        nodes,
        refused,
    );
    // In the order of references: a service's provider is a router or node that is settled by now.
    let routers = &mesh.routers;
    let refused_before = RefusedObjects::of(refused);
    settle(
        Kind::VirtualService,
        Arc::make_mut(&mut mesh.services),
        before.map(|before| &*before.services),
        |key, service| {
            let name = service_name(key, service);
            name_fault("spec.awsName", &name)
                .or_else(|| provider_fault(key, service, nodes, routers, &refused_before))
                .or_else(|| taken(&owners_of_services, &domain(&name), key))
        },
        refused,
    );
    backends(mesh, refused);
    gateways::settle_gateways(mesh, before, refused);
    gateways::settle_routes(mesh, before, refused);
}

/// Reports missing backends, and those that cannot be told apart. The nodes that name them are
/// served without.
fn backends(mesh: &Mesh, refused: &mut Vec<RefusedObject>) {
    let refused_before = RefusedObjects::of(refused);
    for (key, node) in mesh.nodes.iter() {
        let (found, missing) = mesh.resolved_backends(key, node);
        let missing = missing.into_iter().map(|missing| {
            let why = refused_before.why(missing.kind, &missing.key);
            (
                Reason::NotFound,
                format!("{}: {why}; it is left out", missing.field),
            )
        });
        let shadowed = ports::shadowed(mesh, &found).into_iter().map(|why| {
            let why = format!("spec.backends: {why}; it is left out");
            (Reason::Conflict, why)
        });
        let faults = missing.chain(shadowed);
        refused.extend(
            faults.map(|(reason, why)| RefusedObject::new(Kind::VirtualNode, key, reason, why)),
        );
    }
}

/// Refuses objects with a fault, and restores their earlier form if that has none.
fn settle<T: Clone>(
    kind: Kind,
    objects: &mut BTreeMap<Key, T>,
    before: Option<&BTreeMap<Key, T>>,
    fault: impl Fn(&Key, &T) -> Option<Fault>,
    refused: &mut Vec<RefusedObject>,
) {
    objects.retain(|key, object| {
        let Some((reason, why)) = fault(key, object) else {
            return true;
        };
        refused.push(RefusedObject::new(kind, key, reason, why));
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

/// Envoy compares host names without regard to case.
fn domain(name: &str) -> String {
    name.to_ascii_lowercase()
}

/// Envoy rejects the whole route configuration for a repeated or second wildcard domain.
fn name_fault(field: &str, name: &str) -> Option<Fault> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if name.is_empty() || !name.bytes().all(plain) {
        return Some(not_supported(format!(
            "{field}: {name:?} is not a host name"
        )));
    }
    None
}

/// Envoy rejects control characters, and requires a leading slash.
fn path_fault(field: &str, path: &str) -> Option<String> {
    if !path.starts_with('/') {
        return Some(format!("{field}: {path:?} does not begin with /"));
    }
    let is_invalid = |c: char| c.is_control() || c.is_whitespace();
    path.contains(is_invalid)
        .then(|| format!("{field}: {path:?} is not a path"))
}

fn span_fault(field: &str, millis: u64) -> Option<String> {
    (millis > SPAN_MAX_MS)
        .then(|| format!("{field}: {millis} ms are more than a day, {SPAN_MAX_MS} ms"))
}

fn timeout_fault(field: &str, timeout: Option<HttpTimeout>) -> Option<String> {
    let timeout = timeout?;
    let spans = [("perRequest", timeout.per_request), ("idle", timeout.idle)];
    spans.into_iter().find_map(|(name, span)| {
        let field = format!("{field}.{name}");
        span.and_then(|span| span_fault(&field, span.millis()))
    })
}

fn provider_fault(
    key: &Key,
    service: &VirtualServiceSpec,
    nodes: &BTreeMap<Key, VirtualNodeSpec>,
    routers: &BTreeMap<Key, VirtualRouterSpec>,
    refused: &RefusedObjects,
) -> Option<Fault> {
    let provider = service.provider.clone().unwrap_or_default();
    match (&provider.virtual_node, &provider.virtual_router) {
        (Some(node), None) => {
            let node = Key::of(&node.node, &key.namespace);
            let unresolved = target::port(nodes, &node, None).err()?;
            let why = unresolved.why(&node, refused);
            let why = format!("spec.provider.virtualNode: {why}");
            Some((Reason::NotFound, why))
        }
        (None, Some(router)) => {
            let router = Key::of(&router.router, &key.namespace);
            if routers.contains_key(&router) {
                return None;
            }
            let why = refused.why(Kind::VirtualRouter, &router);
            let why = format!("spec.provider.virtualRouter: {why}");
            Some((Reason::NotFound, why))
        }
        _ => Some(not_supported(
            "spec.provider: one of virtualNode and virtualRouter is needed".to_owned(),
        )),
    }
}
