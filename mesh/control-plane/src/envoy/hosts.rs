//! The names that a workload calls, with their routes.

use envoy_types::pb::envoy::config::route::v3::{RetryPolicy, RouteMatch};

use super::policies::Policy;
use super::{matches, retries};
use crate::mesh::{Key, Mesh, target};
use crate::resources::{
    HttpTimeout, Pointer, PortMapping, Protocol, Routing, Span, VirtualServiceSpec, WeightedTarget,
};

/// A virtual service's name on one port.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) port: u16,
    pub(super) protocol: Protocol,
    /// The first that matches counts; of TCP, the first.
    pub(super) routes: Vec<HostRoute>,
    /// TLS of the connections to its targets.
    pub(super) policy: Policy,
}

#[derive(Clone, Debug)]
pub(super) struct HostRoute {
    /// Of HTTP and gRPC.
    pub(super) matched: RouteMatch,
    /// Workload, port and weight. Empty if no target is there, or their weights add up to 0.
    pub(super) targets: Vec<(Key, u16, u32)>,
    pub(super) retries: RetryPolicy,
    pub(super) timeout: HttpTimeout,
}

/// A host for each port of the service's router or workload.
pub(super) fn of_service(
    mesh: &Mesh,
    key: &Key,
    service: &VirtualServiceSpec,
    name: &str,
    policy: &Policy,
) -> Vec<Host> {
    let Some(provider) = &service.provider else {
        return Vec::new();
    };
    let host = |mapping: PortMapping, routes| Host {
        name: name.to_owned(),
        port: mapping.port,
        protocol: mapping.protocol,
        routes,
        policy: policy.clone(),
    };
    if let Some(provider) = &provider.virtual_router {
        let router = Key::of(&provider.router, &key.namespace);
        let Some(spec) = mesh.routers.get(&router) else {
            return Vec::new();
        };
        // Envoy takes the first route that matches.
        let sorted = spec.in_order();
        let listeners = spec.listeners.iter().map(|listener| listener.port_mapping);
        let of_listener = |mapping: PortMapping| {
            let served = sorted.iter().filter_map(|(_, route)| route.routing());
            let served = served.filter(|routing| routing.is_of(mapping));
            let served = served.map(|routing| HostRoute::new(mesh, routing, &router.namespace));
            host(mapping, served.collect())
        };
        return listeners.map(of_listener).collect();
    }
    let Some(provider) = &provider.virtual_node else {
        return Vec::new();
    };
    let node = mesh.nodes.get(&Key::of(&provider.node, &key.namespace));
    let listeners = node.into_iter().flat_map(|node| &node.listeners);
    let of_listener = |mapping: PortMapping| {
        let route = HostRoute::to_node(mesh, &provider.node, mapping.port, &key.namespace);
        host(mapping, vec![route])
    };
    listeners
        .map(|listener| of_listener(listener.port_mapping))
        .collect()
}

/// The targets that are there, with port and weight; `mesh::check` has reported the others.
fn resolved(mesh: &Mesh, targets: &[WeightedTarget], namespace: &str) -> Vec<(Key, u16, u32)> {
    let targets = targets.iter().filter_map(|weighted| {
        let key = Key::of(&weighted.node, namespace);
        let port = target::port(&mesh.nodes, &key, weighted.port).ok()?;
        Some((key, port, weighted.weight))
    });
    let targets: Vec<_> = targets.collect();
    if targets.iter().all(|(_, _, weight)| *weight == 0) {
        return Vec::new();
    }
    targets
}

// === impl Host ===

impl Host {
    /// Workload and port of all routes, with the policy of calls.
    pub(super) fn targets(&self) -> impl Iterator<Item = (&Key, u16, &Policy)> {
        let targets = self.routes.iter().flat_map(|route| &route.targets);
        targets.map(|(target, port, _)| (target, *port, &self.policy))
    }
}

// === impl HostRoute ===

impl HostRoute {
    fn new(mesh: &Mesh, routing: Routing<'_>, namespace: &str) -> Self {
        let idle = |idle: Option<Span>| HttpTimeout {
            per_request: None,
            idle,
        };
        let (matched, policy, timeout) = match routing {
            Routing::Http(_, route) => (
                matches::http(&route.r#match),
                route.retry_policy.as_ref(),
                route.timeout.unwrap_or_default(),
            ),
            Routing::Grpc(route) => (
                matches::grpc(&route.r#match),
                route.retry_policy.as_ref(),
                route.timeout.unwrap_or_default(),
            ),
            Routing::Tcp(route) => (RouteMatch::default(), None, idle(route.timeout.idle)),
        };
        Self {
            matched,
            targets: resolved(mesh, &routing.action().weighted_targets, namespace),
            retries: policy.map_or_else(retries::default, retries::of),
            timeout,
        }
    }

    /// Everything to one port of a workload.
    fn to_node(mesh: &Mesh, node: &Pointer, port: u16, namespace: &str) -> Self {
        let target = WeightedTarget {
            node: node.clone(),
            weight: 1,
            port: Some(port),
        };
        Self {
            matched: matches::prefix("/"),
            targets: resolved(mesh, &[target], namespace),
            retries: retries::default(),
            timeout: HttpTimeout::default(),
        }
    }
}
