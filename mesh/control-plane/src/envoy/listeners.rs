//! Listeners and their filter chains.

use std::net::SocketAddr;

use envoy_types::pb::envoy::config::accesslog::v3::AccessLog;
use envoy_types::pb::envoy::config::core::v3::{Address, TrafficDirection};
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType as FilterConfig;
use envoy_types::pb::envoy::config::listener::v3::listener_filter::ConfigType;
use envoy_types::pb::envoy::config::listener::v3::{
    Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter,
};
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds, http_connection_manager::RouteSpecifier,
    http_connection_manager::PathWithEscapedSlashesAction, http_connection_manager::UpgradeConfig,
    http_filter::ConfigType as HttpConfig,
};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::weighted_cluster::ClusterWeight;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::{
    ClusterSpecifier, WeightedCluster,
};
use envoy_types::pb::google::protobuf::{BoolValue, UInt32Value};
use prost::Name;

use super::{Ports, ads, any, clusters, millis, tls};
use crate::mesh::Mesh;
use crate::resources::{Egress, Span, TcpTimeout};

/// Ports to which inbound and outbound traffic is redirected.
const INGRESS: u16 = 15_000;
const EGRESS: u16 = 15_001;

/// Port on which [`AMAZON`] is always reachable.
const TLS: u16 = 443;
/// Reachable from every mesh.
const AMAZON: &str = "*.amazonaws.com";

/// Names of the clusters for destinations outside of a mesh.
#[derive(Debug)]
pub(super) struct ExternalClusters {
    pub(super) amazon: String,
    pub(super) all: String,
}

// === impl ExternalClusters ===

impl ExternalClusters {
    pub(super) fn of(mesh: &Mesh) -> Self {
        Self {
            amazon: format!("cds_egress_{}_amazonaws", mesh.name),
            all: format!("cds_egress_{}_mesh-allow-all", mesh.name),
        }
    }

    /// Chains in addition to those of these ports. Envoy matches the destination port first: since
    /// port 443 has a chain for [`AMAZON`], allowing everything needs a second one for that port.
    pub(super) fn chains(
        &self,
        ports: &[u16],
        egress: Egress,
        logs: &[AccessLog],
    ) -> Vec<FilterChain> {
        let of_port = |port: Option<u16>, names: &[&str]| FilterChainMatch {
            server_names: names.iter().map(|name| (*name).to_owned()).collect(),
            ..port.map(destination).unwrap_or_default()
        };
        let mut chains = vec![outside(of_port(Some(TLS), &[AMAZON]), &self.amazon, logs)];
        if egress == Egress::AllowAll {
            chains.push(outside(of_port(None, &[]), &self.all, logs));
            if !ports.contains(&TLS) {
                chains.push(outside(of_port(Some(TLS), &[]), &self.all, logs));
            }
        }
        chains
    }
}

pub(super) fn ingress(ports: &Ports, both: bool, chains: Vec<FilterChain>) -> Listener {
    let name = "lds_ingress_0.0.0.0_15000";
    let address = address(ports.ingress, INGRESS, both);
    let mut listener = listener(
        name,
        ports.ingress.is_none(),
        address,
        TrafficDirection::Inbound,
        chains,
    );
    tell_tls(&mut listener);
    listener
}

pub(super) fn egress(ports: &Ports, both: bool, chains: Vec<FilterChain>) -> Listener {
    let name = "lds_egress_0.0.0.0_15001";
    let address = address(ports.egress, EGRESS, both);
    let mut listener = listener(
        name,
        ports.egress.is_none(),
        address,
        TrafficDirection::Outbound,
        chains,
    );
    let by_name = |chain: &FilterChain| {
        let matched = chain.filter_chain_match.as_ref();
        matched.is_some_and(|matched| !matched.server_names.is_empty())
    };
    if listener.filter_chains.iter().any(by_name) {
        inspect_tls(&mut listener, INSPECT_MS);
    }
    listener
}

/// A listener of a gateway, to which clients connect without redirection.
pub(super) fn gateway(
    configured: Option<SocketAddr>,
    port: u16,
    both: bool,
    chains: Vec<FilterChain>,
) -> Listener {
    let name = format!("lds_ingress_0.0.0.0_{port}");
    let address = address(configured, port, both);
    let mut listener = listener(&name, false, address, TrafficDirection::Inbound, chains);
    tell_tls(&mut listener);
    listener
}

/// The listener of a gateway for the second pass of its requests.
pub(super) fn self_redirect(own: SocketAddr, chain: FilterChain) -> Listener {
    let name = "lds_egress_0.0.0.0_15001";
    let address = clusters::address(own);
    listener(
        name,
        false,
        address,
        TrafficDirection::Outbound,
        vec![chain],
    )
}

/// Lets the filter chains of PERMISSIVE listeners be told apart.
fn tell_tls(listener: &mut Listener) {
    let chains = listener.filter_chains.iter();
    let inspected: Vec<_> = chains
        .filter(|chain| tls::is_for_tls_alone(chain))
        .collect();
    let is_tcp = |filter: &Filter| filter.name == TCP_PROXY;
    let has_tcp = inspected
        .iter()
        .any(|chain| chain.filters.iter().any(is_tcp));
    if !inspected.is_empty() {
        let wait = if has_tcp { INSPECT_MS } else { INSPECT_HTTP_MS };
        inspect_tls(listener, wait);
    }
}

/// Lets filter chains match on what the client says in TLS.
fn inspect_tls(listener: &mut Listener, wait_ms: u64) {
    let inspector = filter(
        "envoy.filters.listener.tls_inspector",
        &TlsInspector::default(),
    );
    listener.listener_filters.push(inspector);
    // The inspector waits for the client's first bytes, but with some protocols (mail, databases)
    // the server speaks first: continue without them.
    listener.continue_on_listener_filters_timeout = true;
    listener.listener_filters_timeout = Some(millis(wait_ms));
}

/// Wait of the TLS inspector for the first bytes of a client, in milliseconds.
const INSPECT_MS: u64 = 300;
/// The same where clients speak first, in milliseconds: Envoy's default.
const INSPECT_HTTP_MS: u64 = 15_000;

const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";

fn listener(
    name: &str,
    redirected: bool,
    address: Address,
    direction: TrafficDirection,
    filter_chains: Vec<FilterChain>,
) -> Listener {
    // Restores the destination of a redirected connection, which filter chains match.
    let name_of_filter = "envoy.filters.listener.original_dst";
    let original = redirected.then(|| filter(name_of_filter, &OriginalDst::default()));
    Listener {
        name: name.to_owned(),
        address: Some(address),
        filter_chains,
        traffic_direction: direction.into(),
        listener_filters: original.into_iter().collect(),
        ..Listener::default()
    }
}

/// As in App Mesh, IPv4 only, unless the workload or its mesh has an IP preference: then `both`.
fn address(configured: Option<SocketAddr>, port: u16, both: bool) -> Address {
    match configured {
        Some(address) => clusters::address(address),
        None if both => clusters::both(port),
        None => clusters::address(SocketAddr::from(([0, 0, 0, 0], port))),
    }
}

fn filter<M: Name>(name: &str, config: &M) -> ListenerFilter {
    ListenerFilter {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(any(config))),
        ..ListenerFilter::default()
    }
}

fn destination(port: u16) -> FilterChainMatch {
    FilterChainMatch {
        destination_port: Some(UInt32Value { value: port.into() }),
        ..FilterChainMatch::default()
    }
}

/// HTTP by the route configuration `route`; for connections to `port`, if given.
pub(super) fn http(
    port: Option<u16>,
    prefix: &str,
    route: &str,
    logs: &[AccessLog],
) -> FilterChain {
    let manager = manager(prefix, route, logs);
    let name = "envoy.filters.network.http_connection_manager";
    chain(port.map(destination), name, &manager)
}

/// HTTP of clients outside of the mesh, whose paths are normalized before they match, as in App
/// Mesh.
pub(super) fn gateway_http(route: &str, logs: &[AccessLog]) -> FilterChain {
    let manager = HttpConnectionManager {
        normalize_path: Some(BoolValue { value: true }),
        merge_slashes: true,
        path_with_escaped_slashes_action: PathWithEscapedSlashesAction::KeepUnchanged.into(),
        ..manager("ingress", route, logs)
    };
    chain(
        None,
        "envoy.filters.network.http_connection_manager",
        &manager,
    )
}

fn manager(prefix: &str, route: &str, logs: &[AccessLog]) -> HttpConnectionManager {
    let router = HttpFilter {
        name: "envoy.filters.http.router".to_owned(),
        config_type: Some(HttpConfig::TypedConfig(any(&Router::default()))),
        ..HttpFilter::default()
    };
    HttpConnectionManager {
        stat_prefix: prefix.to_owned(),
        access_log: logs.to_vec(),
        http_filters: vec![router],
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: Some(ads()),
            route_config_name: route.to_owned(),
        })),
        // Envoy answers 403 to an upgrade that is not allowed.
        upgrade_configs: vec![UpgradeConfig {
            upgrade_type: "websocket".to_owned(),
            ..UpgradeConfig::default()
        }],
        ..HttpConnectionManager::default()
    }
}

/// Bytes to clusters by weight; for connections to `port`, if given.
pub(super) fn tcp(
    port: Option<u16>,
    prefix: &str,
    clusters: Vec<(String, u32)>,
    timeout: TcpTimeout,
    logs: &[AccessLog],
) -> FilterChain {
    // Envoy rejects a weight of 0.
    let weighted = clusters.into_iter().filter(|(_, weight)| *weight > 0);
    let weighted = weighted.map(|(name, weight)| ClusterWeight {
        name,
        weight,
        ..ClusterWeight::default()
    });
    let clusters = weighted.collect();
    let proxy = TcpProxy {
        stat_prefix: prefix.to_owned(),
        cluster_specifier: Some(ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters,
        })),
        // App Mesh has no default: connections of databases may say nothing for hours. 0 means
        // never; Envoy's default is an hour.
        idle_timeout: Some(millis(timeout.idle.map_or(0, Span::millis))),
        access_log: logs.to_vec(),
        ..TcpProxy::default()
    };
    chain(port.map(destination), TCP_PROXY, &proxy)
}

/// Bytes to a cluster outside of the mesh.
fn outside(matched: FilterChainMatch, cluster: &str, logs: &[AccessLog]) -> FilterChain {
    let proxy = TcpProxy {
        stat_prefix: "egress".to_owned(),
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        access_log: logs.to_vec(),
        ..TcpProxy::default()
    };
    let anything = matched == FilterChainMatch::default();
    chain((!anything).then_some(matched), TCP_PROXY, &proxy)
}

fn chain<M: Name>(
    filter_chain_match: Option<FilterChainMatch>,
    name: &str,
    config: &M,
) -> FilterChain {
    let filter = Filter {
        name: name.to_owned(),
        config_type: Some(FilterConfig::TypedConfig(any(config))),
    };
    FilterChain {
        filter_chain_match,
        filters: vec![filter],
        ..FilterChain::default()
    }
}
