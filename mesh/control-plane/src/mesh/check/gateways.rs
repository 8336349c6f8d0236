//! Checks virtual gateways and their routes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::gateways::{designated, gateway_name, target_port};
use super::{Fault, Key, Mesh, Reason, RefusedObject, RefusedObjects};
use super::{matches, name_fault, nodes, not_supported, owners, path_fault, settle, taken, tls};
use crate::resources::{
    GatewayListener, GatewayRouteSpec, GatewayRouting, HostnameMatch, Kind, PRIORITY_MAX,
    PathChange, PrefixRewrite, Protocol, VirtualGatewaySpec,
};

/// Port of a gateway's own Envoy, on which it takes its requests a second time.
const OWN_PORT: u16 = 15_001;

/// Longest name of a host in bytes, as in DNS.
const HOST_BYTES_MAX: usize = 253;

/// Longest path that is written, as in App Mesh's schema.
const PATH_BYTES_MAX: usize = 255;

/// Routes of all virtual hosts of a gateway at most. A route without an exact host is in the
/// virtual host of each name: some 200 bytes each, 4 MB in all.
const ENTRIES_MAX: usize = 20_000;

pub(super) fn settle_gateways(
    mesh: &mut Mesh,
    before: Option<&Mesh>,
    refused: &mut Vec<RefusedObject>,
) {
    // Before anything is removed: a refused object keeps its name for its earlier form.
    let names = mesh.gateways.iter();
    let owners = owners(names.map(|(key, gateway)| {
        let name = gateway_name(key, gateway);
        (name, gateway.created.as_str(), key)
    }));
    settle(
        Kind::VirtualGateway,
        Arc::make_mut(&mut mesh.gateways),
        before.map(|before| &*before.gateways),
        |key, gateway| fault(gateway).or_else(|| taken(&owners, &gateway_name(key, gateway), key)),
        refused,
    );
}

fn fault(gateway: &VirtualGatewaySpec) -> Option<Fault> {
    let mut ports = BTreeSet::new();
    for (index, listener) in gateway.listeners.iter().enumerate() {
        let port = listener.port_mapping.port;
        let of_port = match port {
            0 => Some("portMapping.port: 0 is no port".to_owned()),
            OWN_PORT => Some(format!(
                "portMapping.port: {port} is the gateway's own: take another"
            )),
            _ if !ports.insert(port) => Some(format!("portMapping.port: {port} is there twice")),
            _ => None,
        };
        if let Some(why) = of_port.or_else(|| listener_fault(listener)) {
            return Some(not_supported(format!("spec.listeners[{index}].{why}")));
        }
    }
    if let Some(why) = gateway.default_tls().and_then(tls::client_fault) {
        let why = format!("spec.backendDefaults.clientPolicy.tls.{why}");
        return Some(not_supported(why));
    }
    let why = gateway.logging.as_ref().and_then(nodes::logging_fault)?;
    Some(not_supported(format!("spec.logging.{why}")))
}

fn listener_fault(listener: &GatewayListener) -> Option<String> {
    let protocol = listener.port_mapping.protocol;
    if protocol == Protocol::Tcp {
        return Some(
            "portMapping.protocol: a gateway has http, http2 and grpc, not tcp".to_owned(),
        );
    }
    let health = listener.health_check.as_ref();
    health
        .and_then(|check| nodes::health_fault(check, protocol))
        .or_else(|| nodes::pool_fault(listener.connection_pool, protocol))
        .or_else(|| tls::listener_fault(listener.tls.as_ref()))
}

/// Refuses routes with a fault, and restores their earlier form if that has none. A route whose
/// virtual service is not there waits if its earlier form has one, and answers 503 otherwise:
/// without it a route for more requests would take its place.
pub(super) fn settle_routes(
    mesh: &mut Mesh,
    before: Option<&Mesh>,
    refused: &mut Vec<RefusedObject>,
) {
    let refused_before = RefusedObjects::of(refused);
    let mut routes = std::mem::take(&mut mesh.gateway_routes);
    let faults = Faults {
        mesh,
        refused: &refused_before,
    };
    Arc::make_mut(&mut routes).retain(|key, route| {
        let mut refuse = |(reason, why)| {
            refused.push(RefusedObject::new(Kind::GatewayRoute, key, reason, why));
        };
        let earlier = before.and_then(|before| before.gateway_routes.get(key));
        let is_whole = |earlier: &&GatewayRouteSpec| {
            faults.of(earlier).is_none() && faults.of_target(key, earlier).is_none()
        };
        let fault = faults.of(route);
        let of_target = fault.is_none().then(|| faults.of_target(key, route));
        let whole = earlier.filter(is_whole);
        match (fault, of_target.flatten(), whole) {
            (None, None, _) => true,
            (None, Some(why), None) => {
                let why = format!("{why}; the route answers 503");
                refuse((Reason::NotFound, why));
                true
            }
            (None, Some(why), Some(earlier)) => {
                let why = format!("{why}; the route is served as it was");
                refuse((Reason::NotFound, why));
                *route = earlier.clone();
                true
            }
            (Some(fault), _, _) => {
                // Without a gateway it has been refused already.
                if route.gateway.is_some() {
                    refuse(fault);
                }
                let earlier = earlier.filter(|earlier| faults.of(earlier).is_none());
                if let Some(earlier) = earlier {
                    *route = earlier.clone();
                }
                earlier.is_some()
            }
        }
    });
    limit(Arc::make_mut(&mut routes), refused);
    mesh.gateway_routes = routes;
}

struct Faults<'a> {
    /// Without its gateway routes.
    mesh: &'a Mesh,
    refused: &'a RefusedObjects,
}

// === impl Faults ===

impl Faults<'_> {
    /// What keeps a route from being served.
    fn of(&self, route: &GatewayRouteSpec) -> Option<Fault> {
        let Some(routing) = route.routing() else {
            let why = "exactly one of spec.httpRoute, spec.http2Route and spec.grpcRoute is needed";
            return Some(not_supported(why.to_owned()));
        };
        if let Some(priority) = route.priority.filter(|priority| *priority > PRIORITY_MAX) {
            let why = format!("spec.priority: {priority} is more than {PRIORITY_MAX}");
            return Some(not_supported(why));
        }
        let name = routing.protocol().as_str();
        if let Some(why) = routing_fault(routing) {
            return Some(not_supported(format!("spec.{name}Route.{why}")));
        }
        let Some(key) = designated(route) else {
            let why = "it is of no VirtualGateway".to_owned();
            return Some((Reason::NotFound, why));
        };
        let Some(gateway) = self.mesh.gateways.get(&key) else {
            return Some((
                Reason::NotFound,
                self.refused.why(Kind::VirtualGateway, &key),
            ));
        };
        let mut listeners = gateway.listeners.iter();
        let has_listener = listeners.any(|listener| routing.is_of(listener.port_mapping));
        (!has_listener).then(|| {
            let port = routing.port();
            let port = port.map_or_else(String::new, |port| format!(" on match.port {port}"));
            let gateway = &key.name;
            not_supported(format!(
                "spec.{name}Route: no listener of the VirtualGateway {gateway} has the protocol {name}{port}"
            ))
        })
    }

    /// Why the virtual service of a route cannot be reached.
    fn of_target(&self, key: &Key, route: &GatewayRouteSpec) -> Option<String> {
        let routing = route.routing()?;
        let target = routing.target();
        let service = Key::of(&target.virtual_service.service, &key.namespace);
        let why = match self.mesh.services.get(&service) {
            None => self.refused.why(Kind::VirtualService, &service),
            Some(spec) => target_port(self.mesh, &service, spec, target.port).err()?,
        };
        let name = routing.protocol().as_str();
        Some(format!("spec.{name}Route: {why}"))
    }
}

/// Values that Envoy would reject, and conditions that nothing meets.
fn routing_fault(routing: GatewayRouting<'_>) -> Option<String> {
    if let Some(why) = routing.hostname().and_then(hostname_fault) {
        return Some(why);
    }
    match routing {
        GatewayRouting::Http(_, route) => {
            let matched = &route.r#match;
            let is_empty =
                matched.prefix.is_none() && matched.path.is_none() && matched.hostname.is_none();
            if is_empty {
                return Some("match: one of prefix, path and hostname is needed".to_owned());
            }
            let rewrite = &route.action.rewrite;
            matches::http_fault(&matched.without_host())
                .or_else(|| prefix_fault(rewrite.prefix.as_ref()?, matched.path.is_some()))
                .or_else(|| {
                    let both = rewrite.prefix.is_some() && rewrite.path.is_some();
                    both.then(|| "action.rewrite: prefix and path exclude each other".to_owned())
                })
                .or_else(|| change_fault(routing.path_change()))
        }
        GatewayRouting::Grpc(route) => {
            let matched = &route.r#match;
            if matched.service_name.is_none() && matched.hostname.is_none() {
                return Some("match: one of serviceName and hostname is needed".to_owned());
            }
            matches::grpc_fault(&matched.without_host())
        }
    }
}

fn prefix_fault(prefix: &PrefixRewrite, has_path: bool) -> Option<String> {
    let field = "action.rewrite.prefix";
    match (&prefix.default_prefix, &prefix.value) {
        _ if has_path => Some(format!(
            "{field}: match.path has no prefix; take action.rewrite.path"
        )),
        (Some(_), Some(_)) => Some(format!(
            "{field}: defaultPrefix and value exclude each other"
        )),
        (None, None) => Some(format!("{field}: one of defaultPrefix and value is needed")),
        (None, Some(value)) if !value.ends_with('/') => {
            Some(format!("{field}.value: {value:?} does not end with /"))
        }
        _ => None,
    }
}

fn change_fault(change: PathChange<'_>) -> Option<String> {
    let (field, path) = match change {
        PathChange::None => return None,
        PathChange::Prefix(_, path) => ("action.rewrite.prefix.value", path),
        PathChange::Whole(path) => ("action.rewrite.path.exact", path),
    };
    // Envoy would take the rest for a query, and append the query of the request.
    let has_query = path.contains(['?', '#']);
    if has_query || path.len() > PATH_BYTES_MAX {
        return Some(format!(
            "{field}: {path:?} is not a path of at most {PATH_BYTES_MAX} bytes without a query"
        ));
    }
    path_fault(field, path)
}

fn hostname_fault(hostname: &HostnameMatch) -> Option<String> {
    let (field, text) = match hostname {
        HostnameMatch::Exact(text) => ("match.hostname.exact", text),
        HostnameMatch::Suffix(text) => ("match.hostname.suffix", text),
    };
    if text.len() > HOST_BYTES_MAX {
        return Some(format!("{field}: more than {HOST_BYTES_MAX} bytes"));
    }
    name_fault(field, text).map(|(_, why)| why)
}

/// The virtual hosts of a gateway, and its routes by whether they are in one or in several.
#[derive(Default)]
struct Tally {
    exact: BTreeSet<String>,
    suffixes: BTreeSet<String>,
    in_one: usize,
    in_several: usize,
}

// === impl Tally ===

impl Tally {
    /// Adds a route, unless it is one too many.
    fn add(&mut self, hostname: Option<&HostnameMatch>) -> bool {
        let before = (self.in_one, self.in_several);
        match hostname {
            Some(HostnameMatch::Exact(host)) => {
                self.exact.insert(host.to_ascii_lowercase());
                self.in_one += 1;
            }
            Some(HostnameMatch::Suffix(suffix)) => {
                self.suffixes.insert(suffix.to_ascii_lowercase());
                self.in_several += 1;
            }
            None => self.in_several += 1,
        }
        // A suffix has a second one, for the name that is the suffix itself.
        let hosts = 1 + self.exact.len() + 2 * self.suffixes.len();
        let fits = hosts * self.in_several + self.in_one <= ENTRIES_MAX;
        if !fits {
            (self.in_one, self.in_several) = before;
        }
        fits
    }
}

/// Refuses the youngest routes of gateways that come to more than [`ENTRIES_MAX`].
fn limit(routes: &mut BTreeMap<Key, GatewayRouteSpec>, refused: &mut Vec<RefusedObject>) {
    let all = routes.iter();
    let mut by_age: Vec<_> = all
        .filter_map(|(key, route)| Some((route, key, designated(route)?)))
        .collect();
    by_age.sort_by_key(|(route, key, _)| (&route.created, *key));
    let mut tallies: BTreeMap<Key, Tally> = BTreeMap::new();
    let mut over = Vec::new();
    for (route, key, gateway) in by_age {
        let hostname = route.routing().and_then(GatewayRouting::hostname);
        if !tallies.entry(gateway).or_default().add(hostname) {
            over.push(key.clone());
        }
    }
    for key in over {
        routes.remove(&key);
        let why = format!(
            "the VirtualGateway would have more than {ENTRIES_MAX} routes in its virtual hosts: give routes an exact match.hostname"
        );
        let reason = Reason::TooLarge;
        refused.push(RefusedObject::new(Kind::GatewayRoute, &key, reason, why));
    }
}
