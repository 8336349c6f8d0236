//! Routers. A target that is not there costs its share of a route, not the router: the rest of the
//! traffic has its way.

use std::collections::{BTreeMap, BTreeSet};

use super::{Fault, Key, Reason, RefusedObject, RefusedObjects, target};
use super::{not_supported, path_fault, span_fault, timeout_fault};
use crate::resources::{HttpRoute, Kind, Protocol, Route, VirtualNodeSpec, VirtualRouterSpec};

type Nodes = BTreeMap<Key, VirtualNodeSpec>;

/// A route, and what of it leads nowhere.
struct Examined<'a> {
    name: &'a str,
    /// Weights, and why they are left out.
    lost: Vec<(u32, String)>,
    lives: bool,
}

/// Refuses routers that have a fault or lead nowhere at all; in their place comes what was there
/// before, if it leads somewhere. One that has lost a part of it is told of, and served without:
/// unless it led everywhere before.
pub(super) fn settle(
    routers: &mut BTreeMap<Key, VirtualRouterSpec>,
    before: Option<&BTreeMap<Key, VirtualRouterSpec>>,
    nodes: &Nodes,
    refused: &mut Vec<RefusedObject>,
) {
    let gone = RefusedObjects::of(refused);
    routers.retain(|key, router| {
        let mut refuse = |(reason, why)| {
            refused.push(RefusedObject::new(Kind::VirtualRouter, key, reason, why));
        };
        let now = examine(key, router, nodes, &gone);
        if matches!(&now, Ok(now) if is_whole(now)) {
            return true;
        }
        let earlier = before.and_then(|before| before.get(key));
        let led = earlier.map(|earlier| examine(key, earlier, nodes, &gone));
        let restore = match now {
            Ok(now) => {
                let restore = matches!(&led, Some(Ok(led)) if is_whole(led));
                let lost = now.iter().flat_map(|route| route.told(restore));
                lost.for_each(|why| refuse((Reason::NotFound, why)));
                restore
            }
            Err(fault) => {
                refuse(fault);
                if !matches!(led, Some(Ok(_))) {
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
    routes.iter().all(|route| route.lost.is_empty())
}

/// Its routes, of which at least one leads somewhere.
fn examine<'a>(
    key: &Key,
    router: &'a VirtualRouterSpec,
    nodes: &Nodes,
    gone: &RefusedObjects,
) -> Result<Vec<Examined<'a>>, Fault> {
    listeners(router).map_err(not_supported)?;
    let examined = router.routes.iter().map(|route| {
        let fault = |why| not_supported(format!("route {}: {why}", route.name));
        let (protocol, http) = http(route)
            .ok_or_else(|| fault("one of httpRoute and http2Route is needed".to_owned()))?;
        let mut of = router.listeners.iter();
        if !of.any(|listener| listener.port_mapping.protocol == protocol) {
            let name = protocol.as_str();
            let why = format!("{name}Route: none of spec.listeners has the protocol {name}");
            return Err(fault(why));
        }
        route_fault(http).map_or(Ok(()), |why| Err(fault(why)))?;
        Ok(Examined::new(key, &route.name, http, nodes, gone))
    });
    let examined = examined.collect::<Result<Vec<_>, _>>()?;
    if examined.iter().any(|route| route.lives) {
        return Ok(examined);
    }
    let lost = examined.iter().map(Examined::why);
    Err((Reason::NotFound, lost.collect::<Vec<_>>().join("; ")))
}

/// Envoy would have hosts that answer nothing, or none at all.
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
        let mut protocols = router.routes.iter().filter_map(http);
        if !protocols.any(|(of, _)| of == protocol) {
            let name = protocol.as_str();
            return Err(format!(
                "{field}.protocol: {name}, and none of spec.routes has {name}Route"
            ));
        }
    }
    Ok(())
}

/// Its protocol and itself, if it is one of both.
fn http(route: &Route) -> Option<(Protocol, &HttpRoute)> {
    match (&route.http_route, &route.http2_route) {
        (Some(route), None) => Some((Protocol::Http, route)),
        (None, Some(route)) => Some((Protocol::Http2, route)),
        _ => None,
    }
}

/// What Envoy would not take.
fn route_fault(route: &HttpRoute) -> Option<String> {
    let weights = route.action.weighted_targets.iter();
    let sum: u64 = weights.map(|target| u64::from(target.weight)).sum();
    if sum == 0 || sum > u64::from(u32::MAX) {
        return Some(format!("the weights add up to {sum}"));
    }
    let retries = route.retry_policy.as_ref();
    let per_retry = retries.map_or(0, |retries| retries.per_retry_timeout.millis());
    path_fault("match.prefix", &route.r#match.prefix)
        .or_else(|| timeout_fault("timeout", route.timeout))
        .or_else(|| span_fault("retryPolicy.perRetryTimeout", per_retry))
}

// === impl Examined ===

impl<'a> Examined<'a> {
    fn new(
        key: &Key,
        name: &'a str,
        route: &HttpRoute,
        nodes: &Nodes,
        gone: &RefusedObjects,
    ) -> Self {
        let mut examined = Self {
            name,
            lost: Vec::new(),
            lives: false,
        };
        for weighted in &route.action.weighted_targets {
            let target = Key::of(&weighted.virtual_node_ref, &key.namespace);
            match target::port(nodes, &target, weighted.port) {
                Ok(_) => examined.lives |= weighted.weight > 0,
                Err(lost) => {
                    let why = lost.why(&target, gone);
                    examined.lost.push((weighted.weight, why));
                }
            }
        }
        examined
    }

    fn why(&self) -> String {
        let lost: Vec<_> = self.lost.iter().map(|(_, why)| why.as_str()).collect();
        format!("route {}: {}", self.name, lost.join(", "))
    }

    /// What is said of it where the router is served, `as_it_was` or without what is lost.
    fn told(&self, as_it_was: bool) -> Vec<String> {
        if self.lost.is_empty() {
            return Vec::new();
        }
        if as_it_was {
            return vec![format!("{}; the router is served as it was", self.why())];
        }
        if !self.lives {
            return vec![format!("{}; the route answers 503", self.why())];
        }
        let of = |(weight, why): &(u32, String)| {
            format!(
                "route {}: {why}; its weight of {weight} is left out",
                self.name
            )
        };
        self.lost.iter().map(of).collect()
    }
}
