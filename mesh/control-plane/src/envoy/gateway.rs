//! The resources of the Envoys of a virtual gateway.
//!
//! ```text
//! lds_ingress_0.0.0.0_PORT ── gateway routes: rewrites, and which virtual service
//!   -> cds_ingress_…_self_redirect_…_15001 ── lds_egress_0.0.0.0_15001 ── routes of the router
//!   -> cds_egress_…
//! ```
//!
//! As in App Mesh a request passes its Envoy twice, for routes of a router match the request as the
//! gateway route rewrote it. A header says which virtual service it is for: the host may be that of
//! the client.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::{
    ClusterSpecifier, HostRewriteSpecifier,
};
use envoy_types::pb::envoy::config::route::v3::{
    Route, RouteAction, RouteConfiguration, VirtualHost,
};
use envoy_types::pb::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;

use super::hosts::{self, Host};
use super::policies::Policy;
use super::{Ports, Snapshot, access_log, clusters, listeners, matches, millis, routes, tls};
use crate::mesh::gateways::gateway_name;
use crate::mesh::{Gateway, Key, service_name};
use crate::resources::{
    GatewayListener, GatewayRouting, HostnameMatch, PathChange, PortMapping, Protocol,
};

/// Names the virtual service and its port, between the two passes of a request. Clients cannot set
/// it, and applications do not get it.
const TARGET: &str = "x-meshmeter-virtual-service";

/// Port of the second pass.
const OWN_PORT: u16 = 15_001;
const OWN_ROUTE: &str = "rds_egress_http_15001";

impl Snapshot {
    /// The resources of all Envoys of `gateway`.
    pub fn of_gateway(gateway: &Gateway<'_>, ports: &Ports) -> Self {
        let mut snapshot = Self::default();
        let mut targets = BTreeSet::new();
        let own = own_address(ports);
        let logs = access_log::of(gateway.spec.logging.as_ref());
        let both = gateway.mesh.ip_preference.is_some();
        let mut protocols = BTreeSet::new();
        for (nth, listener) in gateway.spec.listeners.iter().enumerate() {
            let PortMapping { port, protocol } = listener.port_mapping;
            // App Mesh's name, which a second listener of the protocol cannot have.
            let is_first = protocols.insert(protocol.as_str());
            let cluster = self_redirect_name(gateway, listener, is_first);
            let pool = listener.connection_pool;
            snapshot.cluster(&clusters::self_redirect(&cluster, own, protocol, pool));
            let route = format!("rds_ingress_{}_{port}", protocol.as_str());
            let routes = gateway.routes(listener.port_mapping);
            targets.extend(
                routes
                    .iter()
                    .filter_map(|(key, route)| gateway.target(key, *route)),
            );
            snapshot.route(&ingress(gateway, &route, &routes, &cluster));
            let address = ports.ingress.map(|configured| {
                let port = if nth == 0 || configured.port() == 0 {
                    configured.port()
                } else {
                    port
                };
                SocketAddr::new(configured.ip(), port)
            });
            let chain = listeners::gateway_http(&route, &logs);
            let chains = tls::chains(chain, listener.tls.as_ref(), protocol);
            snapshot.listener(&listeners::gateway(address, port, both, chains));
        }
        if !targets.is_empty() {
            let hosts = hosts_of(gateway, &targets);
            snapshot.targets(gateway.mesh, hosts.iter());
            snapshot.route(&egress(gateway, &hosts));
            let chain = listeners::http(None, "egress", OWN_ROUTE, &logs);
            snapshot.listener(&listeners::self_redirect(own, chain));
        }
        snapshot
    }
}

/// Of loopback: through it any virtual service of the gateway is reached.
fn own_address(ports: &Ports) -> SocketAddr {
    let default = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), OWN_PORT);
    ports
        .egress
        .filter(|address| address.port() != 0)
        .unwrap_or(default)
}

fn self_redirect_name(gateway: &Gateway<'_>, listener: &GatewayListener, first: bool) -> String {
    let PortMapping { port, protocol } = listener.port_mapping;
    let port = if first { OWN_PORT } else { port };
    let own = gateway_name(gateway.key, gateway.spec);
    let (mesh, protocol) = (&gateway.mesh.name, protocol.as_str());
    format!("cds_ingress_{mesh}_{own}_self_redirect_{protocol}_{port}")
}

/// The virtual services by name and port, with the routes of their routers.
fn hosts_of(gateway: &Gateway<'_>, targets: &BTreeSet<(Key, u16)>) -> Vec<Host> {
    let mesh = gateway.mesh;
    let policy = Policy::of_all(gateway.spec.default_tls());
    let hosts = targets.iter().filter_map(|(key, port)| {
        let spec = mesh.services.get(key)?;
        let hosts = hosts::of_service(mesh, key, spec, &service_name(key, spec), &policy);
        let mut hosts = hosts.into_iter();
        hosts.find(|host| host.port == *port && host.protocol != Protocol::Tcp)
    });
    hosts.collect()
}

/// Value of [`TARGET`].
fn target_value(name: &str, port: u16) -> String {
    format!("{name}:{port}")
}

// === Second pass ===

/// All routes of all routers, each for requests to its virtual service.
fn egress(gateway: &Gateway<'_>, hosts: &[Host]) -> RouteConfiguration {
    let of_host = |host: &Host| {
        let value = target_value(&host.name, host.port);
        let guard = matches::exact_header(TARGET, &value);
        let routes = host.routes.iter().map(move |route| {
            let mut route = routes::weighted(gateway.mesh, route, &host.policy);
            let matched = route.r#match.get_or_insert_default();
            matched.headers.insert(0, guard.clone());
            route.request_headers_to_remove.push(TARGET.to_owned());
            route
        });
        routes.collect::<Vec<_>>()
    };
    let routes = hosts.iter().flat_map(of_host).collect();
    let hosts = vec![routes::virtual_host("all", vec!["*".to_owned()], routes)];
    routes::configuration(OWN_ROUTE, hosts)
}

// === First pass ===

type Routes<'a> = [(&'a Key, GatewayRouting<'a>)];

/// Virtual hosts for the names that routes have, with all routes that requests to them may match.
fn ingress(
    gateway: &Gateway<'_>,
    name: &str,
    routes: &Routes<'_>,
    cluster: &str,
) -> RouteConfiguration {
    let mut hosts: Vec<VirtualHost> = Vec::new();
    let mut names = BTreeSet::new();
    let mut add = |domain: String, host: Option<HostnameMatch>| {
        // Envoy rejects a repeated domain.
        if !names.insert(domain.clone()) {
            return;
        }
        let matching = routes
            .iter()
            .filter(|(_, routing)| match (routing.hostname(), &host) {
                (None, _) => true,
                (Some(of_route), Some(host)) => host.is_within(of_route),
                (Some(_), None) => false,
            });
        let matching = matching.map(|(key, routing)| route(gateway, key, *routing, cluster));
        hosts.push(routes::virtual_host(
            &domain,
            vec![domain.clone()],
            matching.collect(),
        ));
    };
    for (_, routing) in routes {
        match routing.hostname() {
            Some(HostnameMatch::Exact(host)) => {
                let host = host.to_ascii_lowercase();
                add(host.clone(), Some(HostnameMatch::Exact(host)));
            }
            Some(HostnameMatch::Suffix(suffix)) => {
                let suffix = suffix.to_ascii_lowercase();
                // For Envoy a name does not end with itself.
                add(suffix.clone(), Some(HostnameMatch::Exact(suffix.clone())));
                add(format!("*{suffix}"), Some(HostnameMatch::Suffix(suffix)));
            }
            None => {}
        }
    }
    add("*".to_owned(), None);
    RouteConfiguration {
        // A gateway may listen on another port than that of the URL's scheme.
        ignore_port_in_host_matching: true,
        ..routes::configuration(name, hosts)
    }
}

fn route(gateway: &Gateway<'_>, key: &Key, routing: GatewayRouting<'_>, cluster: &str) -> Route {
    let matched = match routing {
        GatewayRouting::Http(_, route) => matches::http(&route.r#match.without_host()),
        GatewayRouting::Grpc(route) => matches::grpc(&route.r#match.without_host()),
    };
    let Some((service, port)) = gateway.target(key, routing) else {
        return routes::route(matched, routes::unavailable());
    };
    let name = gateway.mesh.services.get(&service);
    let name = name.map_or_else(String::new, |spec| service_name(&service, spec));
    let rewritten = (!routing.keeps_host()).then(|| name.clone());
    let action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        // Those of the router's route apply.
        timeout: Some(millis(0)),
        idle_timeout: Some(millis(0)),
        host_rewrite_specifier: rewritten.map(HostRewriteSpecifier::HostRewriteLiteral),
        regex_rewrite: change(routing.path_change()),
        ..RouteAction::default()
    };
    Route {
        request_headers_to_add: vec![HeaderValueOption {
            header: Some(HeaderValue {
                key: TARGET.to_owned(),
                value: target_value(&name, port),
                ..HeaderValue::default()
            }),
            append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
            ..HeaderValueOption::default()
        }],
        ..routes::route(matched, Action::Route(action))
    }
}

/// Envoy rewrites the path without its query.
fn change(change: PathChange<'_>) -> Option<RegexMatchAndSubstitute> {
    let (pattern, value) = match change {
        PathChange::None => return None,
        PathChange::Whole(path) => ("^.*$".to_owned(), path),
        PathChange::Prefix(prefix, value) => {
            // `/chapter/1` and `/chapter1` both become `/1`, as in App Mesh.
            let slash = if prefix.ends_with('/') { "" } else { "/?" };
            (format!("^{}{slash}", regex_syntax::escape(prefix)), value)
        }
    };
    Some(RegexMatchAndSubstitute {
        pattern: Some(matches::regex(&pattern)),
        // RE2 would take a backslash for the reference to a group.
        substitution: value.replace('\\', r"\\"),
    })
}
