//! Routes.

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::route::v3::route::Action as RouteKind;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use envoy_types::pb::envoy::config::route::v3::{
    DirectResponseAction, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
    WeightedCluster,
};
use envoy_types::pb::google::protobuf::UInt32Value;

use super::clusters::egress_name;
use super::hosts::{Host, HostRoute};
use super::matches::prefix;
use super::millis;
use super::policies::Policy;
use crate::mesh::Mesh;
use crate::resources::{self, HttpTimeout};

/// App Mesh's default request timeout, in milliseconds.
const PER_REQUEST_MS: u64 = 15_000;

/// Routes all requests to the application.
pub(super) fn ingress(
    name: &str,
    cluster: &str,
    timeout: Option<HttpTimeout>,
) -> RouteConfiguration {
    let action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        ..action(timeout.unwrap_or_default())
    };
    configuration(
        name,
        vec![virtual_host(
            "all",
            vec!["*".to_owned()],
            vec![route(prefix("/"), RouteKind::Route(action))],
        )],
    )
}

/// A virtual host for each host; requests to other names go to the cluster `rest`, if given.
pub(super) fn egress(
    mesh: &Mesh,
    name: &str,
    hosts: &[&Host],
    rest: Option<&str>,
) -> RouteConfiguration {
    // If a name has several ports in one listener, the name without a port belongs to the first:
    // Envoy rejects a repeated domain. It compares them without regard to case.
    let mut seen_names = BTreeSet::new();
    let mut to_virtual_host = |host: &Host| {
        let mut domains = vec![format!("{}:{}", host.name, host.port)];
        let mut virtual_host_name = host.name.clone();
        if seen_names.insert(host.name.to_ascii_lowercase()) {
            domains.insert(0, host.name.clone());
        } else {
            // Names of virtual hosts have to be unique, too.
            virtual_host_name = format!("{}:{}", host.name, host.port);
        }
        let routes = host.routes.iter();
        let routes = routes.map(|route| weighted(mesh, route, &host.policy));
        virtual_host(&virtual_host_name, domains, routes.collect())
    };
    let mut virtual_hosts: Vec<_> = hosts.iter().map(|host| to_virtual_host(host)).collect();
    virtual_hosts.extend(rest.map(|cluster| {
        let action = RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
            // Outside of the mesh: the mesh's request timeout does not apply.
            timeout: Some(millis(0)),
            ..RouteAction::default()
        };
        let everything = vec!["*".to_owned()];
        virtual_host(
            "mesh-allow-all",
            everything,
            vec![route(prefix("/"), RouteKind::Route(action))],
        )
    }));
    configuration(name, virtual_hosts)
}

pub(super) fn weighted(mesh: &Mesh, host_route: &HostRoute, policy: &Policy) -> Route {
    let matched = host_route.matched.clone();
    if host_route.targets.is_empty() {
        return route(matched, unavailable());
    }
    let clusters = host_route.targets.iter().filter_map(|(key, port, weight)| {
        Some(ClusterWeight {
            name: egress_name(mesh, key, *port, policy)?,
            weight: Some(UInt32Value { value: *weight }),
            ..ClusterWeight::default()
        })
    });
    let clusters = WeightedCluster {
        clusters: clusters.collect(),
        ..WeightedCluster::default()
    };
    let action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::WeightedClusters(clusters)),
        retry_policy: Some(host_route.retries.clone()),
        ..action(host_route.timeout)
    };
    route(matched, RouteKind::Route(action))
}

/// For a route without targets. Envoy rejects weighted clusters whose weights add up to 0.
pub(super) fn unavailable() -> RouteKind {
    RouteKind::DirectResponse(DirectResponseAction {
        status: 503,
        ..DirectResponseAction::default()
    })
}

fn action(timeout: HttpTimeout) -> RouteAction {
    let per_request = timeout
        .per_request
        .map_or(PER_REQUEST_MS, resources::Span::millis);
    RouteAction {
        timeout: Some(millis(per_request)),
        idle_timeout: timeout.idle.map(|idle| millis(idle.millis())),
        ..RouteAction::default()
    }
}

pub(super) fn route(matched: RouteMatch, action: RouteKind) -> Route {
    Route {
        r#match: Some(matched),
        action: Some(action),
        ..Route::default()
    }
}

pub(super) fn virtual_host(name: &str, domains: Vec<String>, routes: Vec<Route>) -> VirtualHost {
    VirtualHost {
        name: name.to_owned(),
        domains,
        routes,
        ..VirtualHost::default()
    }
}

pub(super) fn configuration(name: &str, virtual_hosts: Vec<VirtualHost>) -> RouteConfiguration {
    RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts,
        ..RouteConfiguration::default()
    }
}
