//! What one Envoy is told: listeners, clusters and routes, under the names that Amazon's control plane gave them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::{
    AggregatedConfigSource, ApiVersion, ConfigSource, TrafficDirection,
    config_source::ConfigSourceSpecifier,
};
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType as FilterConfig;
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener};
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds, http_connection_manager::RouteSpecifier,
    http_filter::ConfigType as HttpConfig,
};
use envoy_types::pb::google::protobuf::Any;
use prost::Name;
use xxhash_rust::xxh3::xxh3_64;

use crate::mesh::{Key, Mesh, node_name, service_name};
use crate::resources::{Protocol, VirtualNodeSpec};

mod clusters;
mod routes;

/// Where redirected traffic enters and leaves.
const INGRESS: &str = "0.0.0.0:15000";
const EGRESS: &str = "0.0.0.0:15001";

/// Where an Envoy listens, and where its application does. In a pod the defaults; a sidecar whose traffic is not
/// redirected says otherwise in its node's metadata.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Place {
    /// Metadata `meshmeter.ingress`.
    pub ingress: Option<SocketAddr>,
    /// Metadata `meshmeter.egress`.
    pub egress: Option<SocketAddr>,
    /// Metadata `meshmeter.application`.
    pub application: Option<SocketAddr>,
}

/// Resources by type URL and name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Each is encoded.
    pub resources: BTreeMap<&'static str, BTreeMap<String, Any>>,
}

/// Types in the order in which they are told.
pub const TYPES: [&str; 3] = [CLUSTER, LISTENER, ROUTE];
/// Type of clusters.
pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
/// Type of listeners.
pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
/// Type of routes.
pub const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";

// === impl Snapshot ===

impl Snapshot {
    /// What the Envoy of `node` is told.
    pub fn new(mesh: &Mesh, node: (&Key, &VirtualNodeSpec), place: &Place) -> Self {
        let mut snapshot = Self::default();
        snapshot.ingress(mesh, node, place);
        snapshot.egress(mesh, node, place);
        snapshot
    }

    /// Changes with what is told of a type.
    pub fn version(&self, type_url: &str) -> String {
        let mut bytes = Vec::new();
        for (name, resource) in self.resources.get(type_url).into_iter().flatten() {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(&resource.value);
        }
        format!("{:016x}", xxh3_64(&bytes))
    }

    fn add<M: Name>(&mut self, type_url: &'static str, name: &str, message: &M) {
        let of_type = self.resources.entry(type_url).or_default();
        of_type.insert(name.to_owned(), any(message));
    }

    fn cluster(&mut self, cluster: &Cluster) {
        self.add(CLUSTER, &cluster.name, cluster);
    }

    fn route(&mut self, route: &RouteConfiguration) {
        self.add(ROUTE, &route.name, route);
    }

    /// One chain for each port of the node; by port where there are several.
    fn ingress(&mut self, mesh: &Mesh, (key, node): (&Key, &VirtualNodeSpec), place: &Place) {
        if node.listeners.is_empty() {
            return;
        }
        let several = node.listeners.len() > 1;
        let mut chains = Vec::new();
        for listener in &node.listeners {
            let (port, protocol) = (listener.port_mapping.port, listener.port_mapping.protocol);
            let own = node_name(key, node);
            let cluster = format!(
                "cds_ingress_{}_{own}_{}_{port}",
                mesh.name,
                protocol.as_str()
            );
            let route = format!("rds_ingress_{}_{port}", protocol.as_str());
            let address = place
                .application
                .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], port)));
            self.cluster(&clusters::fixed(&cluster, &[address], protocol));
            let timeout = listener
                .timeout
                .as_ref()
                .and_then(|timeout| match protocol {
                    Protocol::Http => timeout.http,
                    Protocol::Http2 => timeout.http2,
                });
            self.route(&routes::ingress(&route, &cluster, timeout));
            chains.push(chain(several.then_some(port), "ingress", &route));
        }
        let listener = listener(
            "lds_ingress_0.0.0.0_15000",
            place.ingress,
            INGRESS,
            TrafficDirection::Inbound,
            chains,
        );
        self.add(LISTENER, &listener.name, &listener);
    }

    /// One virtual host for each name that the node calls, in one route for each port.
    fn egress(&mut self, mesh: &Mesh, (key, node): (&Key, &VirtualNodeSpec), place: &Place) {
        let mut by_port: BTreeMap<(u16, &'static str), Vec<routes::Host>> = BTreeMap::new();
        let mut called: BTreeSet<(Key, u16)> = BTreeSet::new();
        let backends = node.backends.iter();
        let backends = backends.map(|backend| &backend.virtual_service.virtual_service_ref);
        // Each once: Envoy takes no name twice.
        let backends: BTreeSet<_> = backends
            .map(|reference| Key::of(reference, &key.namespace))
            .collect();
        for service in backends {
            // The mesh has said which are not there.
            let Some(spec) = mesh.services.get(&service) else {
                continue;
            };
            for host in routes::hosts(mesh, &service, spec, &service_name(&service, spec)) {
                called.extend(host.targets.iter().cloned());
                by_port
                    .entry((host.port, host.protocol.as_str()))
                    .or_default()
                    .push(host);
            }
        }
        for (target, port) in &called {
            if let Some(cluster) = clusters::egress(mesh, target, *port) {
                self.cluster(&cluster);
            }
        }
        let several = by_port.len() > 1;
        let mut chains = Vec::new();
        for ((port, protocol), hosts) in by_port {
            let route = format!("rds_egress_{protocol}_{port}");
            self.route(&routes::egress(mesh, &route, &hosts));
            chains.push(chain(several.then_some(port), "egress", &route));
        }
        if chains.is_empty() {
            return;
        }
        let listener = listener(
            "lds_egress_0.0.0.0_15001",
            place.egress,
            EGRESS,
            TrafficDirection::Outbound,
            chains,
        );
        self.add(LISTENER, &listener.name, &listener);
    }
}

fn listener(
    name: &str,
    address: Option<SocketAddr>,
    default: &str,
    direction: TrafficDirection,
    filter_chains: Vec<FilterChain>,
) -> Listener {
    // In a pod, chains of several ports are told apart by where a connection was going.
    let redirected = address.is_none();
    let address = address.or_else(|| default.parse().ok());
    Listener {
        name: name.to_owned(),
        address: address.map(clusters::address),
        filter_chains,
        traffic_direction: direction.into(),
        listener_filters: if redirected {
            vec![original_destination()]
        } else {
            Vec::new()
        },
        ..Listener::default()
    }
}

fn original_destination() -> envoy_types::pb::envoy::config::listener::v3::ListenerFilter {
    use envoy_types::pb::envoy::config::listener::v3::listener_filter::ConfigType;
    use envoy_types::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
    envoy_types::pb::envoy::config::listener::v3::ListenerFilter {
        name: "envoy.filters.listener.original_dst".to_owned(),
        config_type: Some(ConfigType::TypedConfig(any(&OriginalDst::default()))),
        ..Default::default()
    }
}

fn chain(port: Option<u16>, prefix: &str, route: &str) -> FilterChain {
    use envoy_types::pb::envoy::config::listener::v3::FilterChainMatch;
    use envoy_types::pb::google::protobuf::UInt32Value;
    let router = HttpFilter {
        name: "envoy.filters.http.router".to_owned(),
        config_type: Some(HttpConfig::TypedConfig(any(&Router::default()))),
        ..HttpFilter::default()
    };
    let manager = HttpConnectionManager {
        stat_prefix: prefix.to_owned(),
        http_filters: vec![router],
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: Some(ads()),
            route_config_name: route.to_owned(),
        })),
        ..HttpConnectionManager::default()
    };
    let filter = Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(FilterConfig::TypedConfig(any(&manager))),
    };
    FilterChain {
        filter_chain_match: port.map(|port| FilterChainMatch {
            destination_port: Some(UInt32Value { value: port.into() }),
            ..FilterChainMatch::default()
        }),
        filters: vec![filter],
        ..FilterChain::default()
    }
}

fn ads() -> ConfigSource {
    ConfigSource {
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..ConfigSource::default()
    }
}

fn any<M: Name>(message: &M) -> Any {
    Any {
        type_url: format!("type.googleapis.com/{}", M::full_name()),
        value: message.encode_to_vec(),
    }
}
