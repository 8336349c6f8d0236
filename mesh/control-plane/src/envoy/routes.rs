//! Routes.

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::route::v3::route::Action as RouteKind;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use envoy_types::pb::envoy::config::route::v3::{
    DirectResponseAction, RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch,
    VirtualHost, WeightedCluster,
};
use envoy_types::pb::google::protobuf::UInt32Value;

use super::clusters::{egress_name, millis};
use crate::mesh::{Key, Mesh, target};
use crate::resources::{
    self, HttpRetryEvent, HttpRoute, HttpTimeout, Protocol, TcpRetryEvent, VirtualServiceSpec,
};

/// App Mesh's default request timeout, in milliseconds.
const PER_REQUEST_MS: u64 = 15_000;

/// A backend's name on one port.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) port: u16,
    pub(super) protocol: Protocol,
    routes: Vec<HttpRoute>,
    namespace: String,
    pub(super) targets: Vec<(Key, u16)>,
}

/// A host for each port of the service's router or workload.
pub(super) fn hosts(mesh: &Mesh, key: &Key, service: &VirtualServiceSpec, name: &str) -> Vec<Host> {
    let provider = service.provider.clone().unwrap_or_default();
    let mut hosts = Vec::new();
    if let Some(reference) = provider.virtual_router {
        let router = Key::of(&reference.virtual_router_ref, &key.namespace);
        let Some(spec) = mesh.routers.get(&router) else {
            return hosts;
        };
        // Envoy takes the first route that matches. The sort is stable: routes of one priority
        // keep their order in the resource.
        let mut sorted: Vec<_> = spec.routes.iter().collect();
        sorted.sort_by_key(|route| route.priority.unwrap_or(u32::MAX));
        for listener in &spec.listeners {
            let (port, protocol) = (listener.port_mapping.port, listener.port_mapping.protocol);
            let of_protocol = sorted.iter().filter_map(|route| match protocol {
                Protocol::Http => route.http_route.clone(),
                Protocol::Http2 => route.http2_route.clone(),
            });
            hosts.push(host(
                mesh,
                name,
                port,
                protocol,
                of_protocol.collect(),
                &router.namespace,
            ));
        }
    }
    if let Some(reference) = provider.virtual_node {
        let node = Key::of(&reference.virtual_node_ref, &key.namespace);
        for listener in mesh
            .nodes
            .get(&node)
            .into_iter()
            .flat_map(|node| &node.listeners)
        {
            let (port, protocol) = (listener.port_mapping.port, listener.port_mapping.protocol);
            let all = HttpRoute {
                r#match: resources::Match {
                    prefix: "/".to_owned(),
                },
                action: resources::Action {
                    weighted_targets: vec![resources::WeightedTarget {
                        virtual_node_ref: reference.virtual_node_ref.clone(),
                        weight: 1,
                        port: Some(port),
                    }],
                },
                retry_policy: None,
                timeout: None,
            };
            hosts.push(host(mesh, name, port, protocol, vec![all], &key.namespace));
        }
    }
    hosts
}

fn host(
    mesh: &Mesh,
    name: &str,
    port: u16,
    protocol: Protocol,
    routes: Vec<HttpRoute>,
    namespace: &str,
) -> Host {
    let targets = routes
        .iter()
        .flat_map(|route| resolved(mesh, route, namespace));
    let targets = targets.map(|(target, port, _)| (target, port));
    Host {
        name: name.to_owned(),
        port,
        protocol,
        targets: targets.collect(),
        namespace: namespace.to_owned(),
        routes,
    }
}

/// The resolved targets of a route, with port and weight; `mesh::check` has reported the others.
/// Empty if the weights add up to 0.
fn resolved(mesh: &Mesh, route: &HttpRoute, namespace: &str) -> Vec<(Key, u16, u32)> {
    let targets = route.action.weighted_targets.iter();
    let targets = targets.filter_map(|weighted| {
        let key = Key::of(&weighted.virtual_node_ref, namespace);
        let port = target::port(&mesh.nodes, &key, weighted.port).ok()?;
        Some((key, port, weighted.weight))
    });
    let targets: Vec<_> = targets.collect();
    if targets.iter().all(|(_, _, weight)| *weight == 0) {
        return Vec::new();
    }
    targets
}

/// Routes all requests to the application.
pub(super) fn ingress(
    name: &str,
    cluster: &str,
    timeout: Option<HttpTimeout>,
) -> RouteConfiguration {
    let action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        ..action(timeout)
    };
    configuration(
        name,
        vec![virtual_host(
            "all",
            vec!["*".to_owned()],
            vec![route("/", RouteKind::Route(action))],
        )],
    )
}

/// A virtual host for each host; requests to other names go to the cluster `rest`, if given.
pub(super) fn egress(
    mesh: &Mesh,
    name: &str,
    hosts: &[Host],
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
        let routes = host
            .routes
            .iter()
            .map(|route| weighted(mesh, route, &host.namespace));
        virtual_host(&virtual_host_name, domains, routes.collect())
    };
    let mut virtual_hosts: Vec<_> = hosts.iter().map(&mut to_virtual_host).collect();
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
            vec![route("/", RouteKind::Route(action))],
        )
    }));
    configuration(name, virtual_hosts)
}

fn weighted(mesh: &Mesh, http_route: &HttpRoute, namespace: &str) -> Route {
    let prefix = &http_route.r#match.prefix;
    let targets = resolved(mesh, http_route, namespace);
    if targets.is_empty() {
        return route(prefix, unavailable());
    }
    let clusters = targets.iter().filter_map(|(key, port, weight)| {
        Some(ClusterWeight {
            name: egress_name(mesh, key, *port)?,
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
        retry_policy: Some(
            http_route
                .retry_policy
                .as_ref()
                .map_or_else(default_retries, retry_policy),
        ),
        ..action(http_route.timeout)
    };
    route(prefix, RouteKind::Route(action))
}

/// For a route without targets. Envoy rejects weighted clusters whose weights add up to 0.
fn unavailable() -> RouteKind {
    RouteKind::DirectResponse(DirectResponseAction {
        status: 503,
        ..DirectResponseAction::default()
    })
}

fn action(timeout: Option<HttpTimeout>) -> RouteAction {
    let timeout = timeout.unwrap_or_default();
    let per_request = timeout
        .per_request
        .map_or(PER_REQUEST_MS, resources::Span::millis);
    RouteAction {
        timeout: Some(millis(per_request)),
        idle_timeout: timeout.idle.map(|idle| millis(idle.millis())),
        ..RouteAction::default()
    }
}

fn retry_policy(policy: &resources::RetryPolicy) -> RetryPolicy {
    let http = policy.http_retry_events.iter().map(|event| match event {
        HttpRetryEvent::ServerError => "5xx",
        HttpRetryEvent::GatewayError => "gateway-error",
        HttpRetryEvent::ClientError => "retriable-4xx",
        HttpRetryEvent::StreamError => "refused-stream",
    });
    let tcp = policy.tcp_retry_events.iter().map(|event| match event {
        TcpRetryEvent::ConnectionError => "connect-failure",
    });
    RetryPolicy {
        retry_on: http.chain(tcp).collect::<Vec<_>>().join(","),
        num_retries: Some(UInt32Value {
            value: policy.max_retries,
        }),
        per_try_timeout: Some(millis(policy.per_retry_timeout.millis())),
        ..RetryPolicy::default()
    }
}

/// App Mesh's retries for routes without a policy, and for workloads without a router.
fn default_retries() -> RetryPolicy {
    RetryPolicy {
        retry_on: "reset,connect-failure,refused-stream,retriable-status-codes,unavailable"
            .to_owned(),
        retriable_status_codes: vec![503],
        num_retries: Some(UInt32Value { value: 2 }),
        ..RetryPolicy::default()
    }
}

fn route(prefix: &str, action: RouteKind) -> Route {
    Route {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix(prefix.to_owned())),
            ..RouteMatch::default()
        }),
        action: Some(action),
        ..Route::default()
    }
}

fn virtual_host(name: &str, domains: Vec<String>, routes: Vec<Route>) -> VirtualHost {
    VirtualHost {
        name: name.to_owned(),
        domains,
        routes,
        ..VirtualHost::default()
    }
}

fn configuration(name: &str, virtual_hosts: Vec<VirtualHost>) -> RouteConfiguration {
    RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts,
        ..RouteConfiguration::default()
    }
}
