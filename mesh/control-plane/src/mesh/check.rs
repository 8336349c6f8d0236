//! Whether an object refers to what is there and is something that Envoy takes: Envoy rejects a
//! configuration as a whole, so one bad object would hold back all changes of all others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::assign::owners;
use super::{
    Fault, Key, Mesh, Reason, RefusedObject, RefusedObjects, node_name, service_name, target,
};
use crate::resources::{
    HealthCheck, HttpTimeout, Kind, VirtualNodeSpec, VirtualRouterSpec, VirtualServiceSpec,
};

mod routers;

/// A length of time at most, in milliseconds: a day. Envoy takes some hundred million years, and no
/// more.
const SPAN_MAX_MS: u64 = 24 * 60 * 60 * 1_000;

/// Takes out what refers to nothing, or what Envoy would not take, or puts it as it was before.
pub(super) fn check(mesh: &mut Mesh, before: Option<&Mesh>, refused: &mut Vec<RefusedObject>) {
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
            node_fault(node).or_else(|| taken(&owners_of_nodes, &node_name(key, node), key))
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
    let routers = &mesh.routers;
    let gone = RefusedObjects::of(refused);
    settle(
        Kind::VirtualService,
        Arc::make_mut(&mut mesh.services),
        before.map(|before| &*before.services),
        |key, service| {
            let name = service_name(key, service);
            name_fault("spec.awsName", &name)
                .or_else(|| provider_fault(key, service, nodes, routers, &gone))
                .or_else(|| taken(&owners_of_services, &domain(&name), key))
        },
        refused,
    );
    backends(mesh, refused);
}

/// Says which services that are called are not there. Whoever calls them is served.
fn backends(mesh: &Mesh, refused: &mut Vec<RefusedObject>) {
    let gone = RefusedObjects::of(refused);
    for (key, node) in mesh.nodes.iter() {
        for backend in &node.backends {
            let service = Key::of(&backend.virtual_service.virtual_service_ref, &key.namespace);
            if !mesh.services.contains_key(&service) {
                let missing = gone.why(Kind::VirtualService, &service);
                let why = format!("spec.backends: {missing}; it is left out");
                refused.push(RefusedObject::new(
                    Kind::VirtualNode,
                    key,
                    Reason::NotFound,
                    why,
                ));
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

/// As Envoy compares names of hosts.
fn domain(name: &str) -> String {
    name.to_ascii_lowercase()
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

/// Envoy takes no line breaks and the like, and knows paths by their first byte.
fn path_fault(field: &str, path: &str) -> Option<String> {
    if !path.starts_with('/') {
        return Some(format!("{field}: {path:?} does not begin with /"));
    }
    let odd = |one: char| one.is_control() || one.is_whitespace();
    path.contains(odd)
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
        let timeout = listener.timeout.clone().unwrap_or_default();
        let fault = listener.health_check.as_ref().and_then(health_fault);
        let fault = fault
            .or_else(|| timeout_fault("timeout.http", timeout.http))
            .or_else(|| timeout_fault("timeout.http2", timeout.http2));
        if let Some(fault) = fault {
            return Some(not_supported(format!("{field}.{fault}")));
        }
    }
    let discovery = node.service_discovery.as_ref()?;
    name_fault(
        "spec.serviceDiscovery.dns.hostname",
        &discovery.dns.hostname,
    )
}

/// What Envoy would not take.
fn health_fault(check: &HealthCheck) -> Option<String> {
    if check.port == Some(0) {
        return Some("healthCheck.port: 0 is no port".to_owned());
    }
    let spans = [
        ("healthCheck.intervalMillis", check.interval_millis),
        ("healthCheck.timeoutMillis", check.timeout_millis),
    ];
    let of_span = |(field, millis)| match millis {
        0 => Some(format!("{field}: 0 is no time")),
        _ => span_fault(field, millis),
    };
    spans
        .into_iter()
        .find_map(of_span)
        .or_else(|| path_fault("healthCheck.path", &check.path))
}

fn provider_fault(
    key: &Key,
    service: &VirtualServiceSpec,
    nodes: &BTreeMap<Key, VirtualNodeSpec>,
    routers: &BTreeMap<Key, VirtualRouterSpec>,
    gone: &RefusedObjects,
) -> Option<Fault> {
    let provider = service.provider.clone().unwrap_or_default();
    match (&provider.virtual_node, &provider.virtual_router) {
        (Some(node), None) => {
            let node = Key::of(&node.virtual_node_ref, &key.namespace);
            let lost = target::port(nodes, &node, None).err()?;
            let why = format!("spec.provider.virtualNode: {}", lost.why(&node, gone));
            Some((Reason::NotFound, why))
        }
        (None, Some(router)) => {
            let router = Key::of(&router.virtual_router_ref, &key.namespace);
            if routers.contains_key(&router) {
                return None;
            }
            let why = gone.why(Kind::VirtualRouter, &router);
            let why = format!("spec.provider.virtualRouter: {why}");
            Some((Reason::NotFound, why))
        }
        _ => Some(not_supported(
            "spec.provider: one of virtualNode and virtualRouter is needed".to_owned(),
        )),
    }
}
