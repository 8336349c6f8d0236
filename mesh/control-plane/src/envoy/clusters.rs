//! Clusters.

use std::net::SocketAddr;

use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, DnsLookupFamily, EdsClusterConfig, LbPolicy,
};
use envoy_types::pb::envoy::config::cluster::v3::{CircuitBreakers, Cluster};
use envoy_types::pb::envoy::config::core::v3::address::Address as AddressKind;
use envoy_types::pb::envoy::config::core::v3::health_check::{HealthChecker, HttpHealthCheck};
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{
    Address, HealthCheck, Http2ProtocolOptions, RoutingPriority, SocketAddress,
};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions,
};
use envoy_types::pb::google::protobuf::{Duration, UInt32Value};
use prost::Name as _;

use super::{ads, any};
use crate::mesh::{Key, Mesh, node_name};
use crate::resources::{self, IpPreference, Protocol};

const OWN_HOST: &str = "127.0.0.1";

/// Limit of concurrent connections, requests and retries of a cluster: unlimited as in App Mesh.
/// Envoy's defaults are 1,024, and 3 retries.
const UNLIMITED: u32 = 2_147_483_647;

/// Name of the cluster for `port` of a workload.
pub(super) fn egress_name(mesh: &Mesh, target: &Key, port: u16) -> Option<String> {
    let node = mesh.nodes.get(target)?;
    let listener = node
        .listeners
        .iter()
        .find(|listener| listener.port_mapping.port == port)?;
    let protocol = listener.port_mapping.protocol.as_str();
    let name = node_name(target, node);
    Some(format!("cds_egress_{}_{name}_{protocol}_{port}", mesh.name))
}

/// The cluster for `port` of a workload: by EDS if its endpoints are known, else by DNS.
pub(super) fn egress(
    mesh: &Mesh,
    target: &Key,
    port: u16,
) -> Option<(Cluster, Option<ClusterLoadAssignment>)> {
    let name = egress_name(mesh, target, port)?;
    let node = mesh.nodes.get(target)?;
    let listener = node
        .listeners
        .iter()
        .find(|listener| listener.port_mapping.port == port)?;
    let protocol = listener.port_mapping.protocol;
    let endpoints = mesh.endpoints.get(target).and_then(|all| all.get(&port));
    let load_assignment = endpoints.map(|endpoints| {
        let endpoints = endpoints.iter().map(|endpoint| address(*endpoint));
        assignment(&name, endpoints.collect())
    });
    let mut cluster = if load_assignment.is_some() {
        Cluster {
            eds_cluster_config: Some(EdsClusterConfig {
                eds_config: Some(ads()),
                ..EdsClusterConfig::default()
            }),
            // By default Envoy keeps a removed endpoint while its health checks pass; a pod that
            // left its slice is about to end.
            ignore_health_on_host_removal: true,
            ..cluster(&name, DiscoveryType::Eds, None, protocol)
        }
    } else {
        let hostname = &node.service_discovery.as_ref()?.dns.hostname;
        Cluster {
            dns_lookup_family: family(mesh.ip_preference_of(node)).into(),
            ..by_dns(&name, hostname, port, protocol)
        }
    };
    cluster
        .health_checks
        .extend(listener.health_check.as_ref().map(health_check));
    Some((cluster, load_assignment))
}

/// A cluster that connects to the original destination of a redirected connection.
pub(super) fn original_dst(name: &str) -> Cluster {
    Cluster {
        lb_policy: LbPolicy::ClusterProvided.into(),
        ..cluster(name, DiscoveryType::OriginalDst, None, Protocol::Http)
    }
}

pub(super) fn fixed(name: &str, endpoints: &[SocketAddr], protocol: Protocol) -> Cluster {
    let endpoints = endpoints.iter().map(|endpoint| address(*endpoint));
    let endpoints = assignment(name, endpoints.collect());
    cluster(name, DiscoveryType::Static, Some(endpoints), protocol)
}

fn by_dns(name: &str, hostname: &str, port: u16, protocol: Protocol) -> Cluster {
    let kind = DiscoveryType::LogicalDns;
    let host = assignment(name, vec![socket(hostname, port)]);
    cluster(name, kind, Some(host), protocol)
}

/// Address families that Envoy resolves. Without a preference both: IPv6 comes first as in App
/// Mesh, but Envoy also tries IPv4 if that fails (Happy Eyeballs).
fn family(preference: Option<IpPreference>) -> DnsLookupFamily {
    match preference {
        None => DnsLookupFamily::All,
        Some(IpPreference::V4Preferred) => DnsLookupFamily::V4Preferred,
        Some(IpPreference::V6Preferred) => DnsLookupFamily::Auto,
        Some(IpPreference::V4Only) => DnsLookupFamily::V4Only,
        Some(IpPreference::V6Only) => DnsLookupFamily::V6Only,
    }
}

fn assignment(name: &str, addresses: Vec<Address>) -> ClusterLoadAssignment {
    let endpoint = |address| LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: Some(address),
            ..Endpoint::default()
        })),
        ..LbEndpoint::default()
    };
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints: addresses.into_iter().map(endpoint).collect(),
            ..LocalityLbEndpoints::default()
        }],
        ..ClusterLoadAssignment::default()
    }
}

fn cluster(
    name: &str,
    kind: DiscoveryType,
    load_assignment: Option<ClusterLoadAssignment>,
    protocol: Protocol,
) -> Cluster {
    let mut cluster = Cluster {
        name: name.to_owned(),
        connect_timeout: Some(Duration {
            seconds: 1,
            nanos: 0,
        }),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(kind.into())),
        load_assignment,
        circuit_breakers: Some(CircuitBreakers {
            thresholds: [RoutingPriority::Default, RoutingPriority::High]
                .map(unlimited)
                .to_vec(),
            ..CircuitBreakers::default()
        }),
        ..Cluster::default()
    };
    if protocol == Protocol::Http2 {
        let explicit = ExplicitHttpConfig {
            protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(
                Http2ProtocolOptions::default(),
            )),
        };
        let options = HttpProtocolOptions {
            upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)),
            ..HttpProtocolOptions::default()
        };
        cluster
            .typed_extension_protocol_options
            .insert(HttpProtocolOptions::full_name(), any(&options));
    }
    cluster
}

fn unlimited(priority: RoutingPriority) -> Thresholds {
    let unlimited = Some(UInt32Value { value: UNLIMITED });
    Thresholds {
        priority: priority.into(),
        max_connections: unlimited,
        max_pending_requests: unlimited,
        max_requests: unlimited,
        max_retries: unlimited,
        ..Thresholds::default()
    }
}

fn health_check(check: &resources::HealthCheck) -> HealthCheck {
    let count = |value| Some(UInt32Value { value });
    HealthCheck {
        timeout: Some(millis(check.timeout_millis)),
        interval: Some(millis(check.interval_millis)),
        unhealthy_threshold: count(check.unhealthy_threshold),
        healthy_threshold: count(check.healthy_threshold),
        alt_port: check.port.and_then(|port| count(port.into())),
        health_checker: Some(HealthChecker::HttpHealthCheck(HttpHealthCheck {
            host: OWN_HOST.to_owned(),
            path: check.path.clone(),
            codec_client_type: i32::from(check.protocol == Protocol::Http2),
            ..HttpHealthCheck::default()
        })),
        ..HealthCheck::default()
    }
}

pub(super) fn millis(millis: u64) -> Duration {
    Duration {
        seconds: i64::try_from(millis / 1000).unwrap_or(i64::MAX),
        nanos: i32::try_from(millis % 1000 * 1_000_000).unwrap_or(0),
    }
}

pub(super) fn address(address: SocketAddr) -> Address {
    socket(&address.ip().to_string(), address.port())
}

/// Listener address for IPv4 and IPv6.
pub(super) fn both(port: u16) -> Address {
    Address {
        address: Some(AddressKind::SocketAddress(SocketAddress {
            address: "::".to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(port.into())),
            ipv4_compat: true,
            ..SocketAddress::default()
        })),
    }
}

fn socket(host: &str, port: u16) -> Address {
    Address {
        address: Some(AddressKind::SocketAddress(SocketAddress {
            address: host.to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(port.into())),
            ..SocketAddress::default()
        })),
    }
}
