//! Checks routers. An unresolved target costs its share of a route, not the router.

use std::collections::{BTreeMap, BTreeSet};

use super::{Fault, Key, Reason, RefusedObject, RefusedObjects, target};
use super::{matches, not_supported, span_fault, timeout_fault};
use crate::resources::{
    HttpTimeout, Kind, RetryPolicy, Route, Routing, VirtualNodeSpec, VirtualRouterSpec,
};

type Nodes = BTreeMap<Key, VirtualNodeSpec>;

/// A route with its targets resolved.
struct Examined<'a> {
    name: &'a str,
    /// Weight and reason of each unresolved target.
    unresolved: Vec<(u32, String)>,
    /// A target with a weight is resolved.
    has_target: bool,
}

/// Refuses routers with a fault, or without any resolved target, and restores their earlier form if
/// that has one. Unresolved targets are reported; the router is served without them, or in its
/// earlier form if all targets of that resolve.
pub(super) fn settle(
    routers: &mut BTreeMap<Key, VirtualRouterSpec>,
    before: Option<&BTreeMap<Key, VirtualRouterSpec>>,
    nodes: &Nodes,
    refused: &mut Vec<RefusedObject>,
) {
    let refused_before = RefusedObjects::of(refused);
    routers.retain(|key, router| {
        let mut refuse = |(reason, why)| {
            refused.push(RefusedObject::new(Kind::VirtualRouter, key, reason, why));
        };
        let now = examine(key, router, nodes, &refused_before);
        if matches!(&now, Ok(now) if is_whole(now)) {
            return true;
        }
        let earlier = before.and_then(|before| before.get(key));
        // Examined against the current nodes: the targets of the earlier form may be gone too.
        let earlier_form = earlier.map(|earlier| examine(key, earlier, nodes, &refused_before));
        let restore = match now {
            Ok(now) => {
                let restore = matches!(&earlier_form, Some(Ok(examined)) if is_whole(examined));
                let faults = now.iter().flat_map(|route| route.faults(restore));
                faults.for_each(|why| refuse((Reason::NotFound, why)));
                restore
            }
            Err(fault) => {
                refuse(fault);
                if !matches!(earlier_form, Some(Ok(_))) {
                    return false;
                }
                true
            }
        };
        if let Some(earlier) = earlier.filter(|_| restore) {
            *router = earlier.clone();
        }
        true
    });
}

fn is_whole(routes: &[Examined<'_>]) -> bool {
    routes.iter().all(|route| route.unresolved.is_empty())
}

/// The routes, of which at least one has a resolved target.
fn examine<'a>(
    key: &Key,
    router: &'a VirtualRouterSpec,
    nodes: &Nodes,
    refused: &RefusedObjects,
) -> Result<Vec<Examined<'a>>, Fault> {
    listeners(router).map_err(not_supported)?;
    let examined = router.routes.iter().map(|route| {
        let fault = |why| not_supported(format!("route {}: {why}", route.name));
        let routing = route.routing().ok_or_else(|| {
            let why = "exactly one of httpRoute, http2Route, grpcRoute and tcpRoute is needed";
            fault(why.to_owned())
        })?;
        of_listener(router, routing).map_err(fault)?;
        route_fault(routing).map_or(Ok(()), |why| Err(fault(why)))?;
        Ok(Examined::new(key, &route.name, routing, nodes, refused))
    });
    let examined = examined.collect::<Result<Vec<_>, _>>()?;
    if examined.iter().any(|route| route.has_target) {
        return Ok(examined);
    }
    let faults = examined.iter().map(Examined::why);
    Err((Reason::NotFound, faults.collect::<Vec<_>>().join("; ")))
}

/// Without these checks Envoy would get virtual hosts without routes, or no virtual host.
fn listeners(router: &VirtualRouterSpec) -> Result<(), String> {
    if router.listeners.is_empty() {
        return Err("spec.listeners: at least one is needed".to_owned());
    }
    if router.routes.is_empty() {
        return Err("spec.routes: at least one is needed".to_owned());
    }
    let mut ports = BTreeSet::new();
    for (index, listener) in router.listeners.iter().enumerate() {
        let field = format!("spec.listeners[{index}].portMapping");
        let (port, protocol) = (listener.port_mapping.port, listener.port_mapping.protocol);
        if port == 0 || !ports.insert(port) {
            return Err(format!("{field}.port: {port} is no port, or there twice"));
        }
        let mut served = router.routes.iter().filter_map(Route::routing);
        if !served.any(|routing| routing.is_of(listener.port_mapping)) {
            let name = protocol.as_str();
            return Err(format!(
                "{field}.protocol: {name}, and none of spec.routes has {name}Route"
            ));
        }
    }
    Ok(())
}

/// Without a listener the route would never be asked.
fn of_listener(router: &VirtualRouterSpec, routing: Routing<'_>) -> Result<(), String> {
    let mut listeners = router.listeners.iter();
    if listeners.any(|listener| routing.is_of(listener.port_mapping)) {
        return Ok(());
    }
    let name = routing.protocol().as_str();
    let port = routing.port();
    let port = port.map_or_else(String::new, |port| format!(" on match.port {port}"));
    Err(format!(
        "{name}Route: none of spec.listeners has the protocol {name}{port}"
    ))
}

/// Values that Envoy would reject.
fn route_fault(routing: Routing<'_>) -> Option<String> {
    let weights = routing.action().weighted_targets.iter();
    let sum: u64 = weights.map(|target| u64::from(target.weight)).sum();
    if sum == 0 || sum > u64::from(u32::MAX) {
        return Some(format!("the weights add up to {sum}"));
    }
    match routing {
        Routing::Http(_, route) => matches::http_fault(&route.r#match)
            .or_else(|| timeout_fault("timeout", route.timeout))
            .or_else(|| {
                let retries = route.retry_policy.as_ref()?;
                retry_fault(retries).or_else(|| {
                    let has_grpc = !retries.grpc_retry_events.is_empty();
                    has_grpc.then(|| {
                        "retryPolicy.grpcRetryEvents is not served: use a grpcRoute".to_owned()
                    })
                })
            }),
        Routing::Grpc(route) => matches::grpc_fault(&route.r#match)
            .or_else(|| timeout_fault("timeout", route.timeout))
            .or_else(|| route.retry_policy.as_ref().and_then(retry_fault)),
        Routing::Tcp(route) => {
            let timeout = HttpTimeout {
                per_request: None,
                idle: route.timeout.idle,
            };
            timeout_fault("timeout", Some(timeout))
        }
    }
}

fn retry_fault(retries: &RetryPolicy) -> Option<String> {
    let millis = retries.per_retry_timeout.millis();
    span_fault("retryPolicy.perRetryTimeout", millis)
}

// === impl Examined ===

impl<'a> Examined<'a> {
    fn new(
        key: &Key,
        name: &'a str,
        routing: Routing<'_>,
        nodes: &Nodes,
        refused: &RefusedObjects,
    ) -> Self {
        let mut examined = Self {
            name,
            unresolved: Vec::new(),
            has_target: false,
        };
        for weighted in &routing.action().weighted_targets {
            let target = Key::of(&weighted.node, &key.namespace);
            match target::port(nodes, &target, weighted.port) {
                Ok(_) => examined.has_target |= weighted.weight > 0,
                Err(unresolved) => {
                    let why = unresolved.why(&target, refused);
                    examined.unresolved.push((weighted.weight, why));
                }
            }
        }
        examined
    }

    fn why(&self) -> String {
        let reasons: Vec<_> = self
            .unresolved
            .iter()
            .map(|(_, why)| why.as_str())
            .collect();
        format!("route {}: {}", self.name, reasons.join(", "))
    }

    /// Faults of a router that is served: `restored` in its earlier form, or without the unresolved
    /// targets.
    fn faults(&self, restored: bool) -> Vec<String> {
        if self.unresolved.is_empty() {
            return Vec::new();
        }
        if restored {
            return vec![format!("{}; the router is served as it was", self.why())];
        }
        if !self.has_target {
            return vec![format!("{}; the route answers 503", self.why())];
        }
        let fault = |(weight, why): &(u32, String)| {
            format!(
                "route {}: {why}; its weight of {weight} is left out",
                self.name
            )
        };
        self.unresolved.iter().map(fault).collect()
    }
}
