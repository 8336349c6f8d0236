//! Clusters.

use std::net::SocketAddr;

use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, DnsLookupFamily, EdsClusterConfig, LbPolicy,
};
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::address::Address as AddressKind;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address, Http2ProtocolOptions, SocketAddress};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions,
};
use envoy_types::pb::google::protobuf::Duration;
use prost::Name as _;

use super::policies::Policy;
use super::{ads, any, limits, tls};
use crate::mesh::{Key, Mesh, node_name};
use crate::resources::{ConnectionPool, Dns, IpPreference, Listener, Protocol, ResponseType};

/// Name of the cluster for `port` of a workload.
pub(super) fn egress_name(mesh: &Mesh, target: &Key, port: u16, policy: &Policy) -> Option<String> {
    let node = mesh.nodes.get(target)?;
    let listener = node.listener(port)?;
    let protocol = listener.port_mapping.protocol.as_str();
    let name = node_name(target, node);
    let suffix = policy.suffix();
    Some(format!(
        "cds_egress_{}_{name}_{protocol}_{port}{suffix}",
        mesh.name
    ))
}

/// The cluster for `port` of a workload: by EDS if its endpoints are known, else by DNS.
pub(super) fn egress(
    mesh: &Mesh,
    target: &Key,
    port: u16,
    policy: &Policy,
) -> Option<(Cluster, Option<ClusterLoadAssignment>)> {
    let name = egress_name(mesh, target, port, policy)?;
    let node = mesh.nodes.get(target)?;
    let listener = node.listener(port)?;
    let protocol = listener.port_mapping.protocol;
    let endpoints = mesh.endpoints.get(target).and_then(|all| all.get(&port));
    let discovery = node.service_discovery.as_ref()?;
    // Without a pod that is known, Cloud Map would answer nothing; there is no name to resolve.
    let empty = Vec::new();
    let endpoints = endpoints.or_else(|| discovery.cloud_map().map(|_| &empty));
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
        let dns = discovery.dns()?;
        Cluster {
            dns_lookup_family: family(mesh.ip_preference_of(node)).into(),
            ..by_dns(&name, dns, port, protocol)
        }
    };
    let health_check = listener.health_check.as_ref();
    cluster
        .health_checks
        .extend(health_check.map(limits::health_check));
    let outliers = listener.outlier_detection.as_ref();
    cluster.outlier_detection = outliers.map(limits::outlier_detection);
    tls::set(&mut cluster, policy.tls(), node, listener);
    Some((cluster, load_assignment))
}

/// A cluster that connects to the original destination of a redirected connection.
pub(super) fn original_dst(name: &str) -> Cluster {
    Cluster {
        lb_policy: LbPolicy::ClusterProvided.into(),
        ..cluster(name, DiscoveryType::OriginalDst, None, Protocol::Http)
    }
}

/// The cluster of the application itself, within the limits of its listener.
pub(super) fn application(name: &str, address: SocketAddr, listener: &Listener) -> Cluster {
    let endpoints = assignment(name, vec![self::address(address)]);
    let protocol = listener.port_mapping.protocol;
    Cluster {
        circuit_breakers: Some(limits::circuit_breakers(listener.connection_pool)),
        ..cluster(name, DiscoveryType::Static, Some(endpoints), protocol)
    }
}

/// The cluster of a gateway's own listener for the second pass, within the limits of the first.
pub(super) fn self_redirect(
    name: &str,
    own: SocketAddr,
    protocol: Protocol,
    pool: Option<ConnectionPool>,
) -> Cluster {
    let endpoints = assignment(name, vec![address(own)]);
    Cluster {
        circuit_breakers: Some(limits::circuit_breakers(pool)),
        ..cluster(name, DiscoveryType::Static, Some(endpoints), protocol)
    }
}

fn by_dns(name: &str, dns: &Dns, port: u16, protocol: Protocol) -> Cluster {
    let kind = match dns.response_type {
        ResponseType::LoadBalancer => DiscoveryType::LogicalDns,
        ResponseType::Endpoints => DiscoveryType::StrictDns,
    };
    let host = assignment(name, vec![socket(&dns.hostname, port)]);
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
        circuit_breakers: Some(limits::circuit_breakers(None)),
        ..Cluster::default()
    };
    if protocol.is_http2() {
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
