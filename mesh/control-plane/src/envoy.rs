//! The resources of one Envoy: listeners, clusters, endpoints and routes, named as by AWS App
//! Mesh's control plane.
//!
//! Addresses of pods are sent by EDS: pods come and go all day, and neither a cluster with its
//! connections nor a route has to change for that.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use envoy_types::pb::envoy::config::accesslog::v3::AccessLog;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::{
    AggregatedConfigSource, ApiVersion, ConfigSource, config_source::ConfigSourceSpecifier,
};
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::{FilterChain, Listener};
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::google::protobuf::{Any, Duration};
use prost::Name;
use xxhash_rust::xxh3::xxh3_64;

use crate::mesh::{Mesh, Workload, node_name, ports, service_name};
use crate::resources::{Egress, IpPreference, Listener as NodeListener, Protocol, TcpTimeout};
use hosts::Host;

mod access_log;
mod clusters;
mod gateway;
mod hosts;
mod limits;
mod listeners;
mod matches;
mod policies;
mod retries;
mod routes;
mod tls;

/// Addresses of an Envoy and its application. All `None` in a pod with redirected traffic; other
/// sidecars set them in their node's metadata.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Ports {
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
    pub resources: BTreeMap<&'static str, BTreeMap<String, Any>>,
}

/// In the order in which they are sent.
pub const TYPES: [&str; 4] = [CLUSTER, ENDPOINT, LISTENER, ROUTE];
pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
pub const ENDPOINT: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
pub const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";

// === impl Snapshot ===

impl Snapshot {
    /// The resources of all Envoys of `workload`.
    pub fn new(workload: &Workload<'_>, ports: &Ports) -> Self {
        let mut snapshot = Self::default();
        snapshot.ingress(workload, ports);
        snapshot.egress(workload, ports);
        snapshot
    }

    /// A hash of the names and contents of a type.
    pub fn version(&self, type_url: &str) -> String {
        version(self.of(type_url).iter())
    }

    /// Resources of a type, by name.
    pub fn of(&self, type_url: &str) -> &BTreeMap<String, Any> {
        static EMPTY: BTreeMap<String, Any> = BTreeMap::new();
        self.resources.get(type_url).unwrap_or(&EMPTY)
    }

    /// A copy in which clusters whose discovery type changed since `before`, from DNS to EDS or
    /// back, are as they were there.
    pub(crate) fn keeping_discovery_types_of(&self, before: &Self) -> Self {
        let mut kept = self.clone();
        let endpoints = [before, self].map(|of| of.of(ENDPOINT));
        for (name, cluster) in before.of(CLUSTER) {
            let [had, has] = endpoints.map(|of| of.get(name));
            if !self.of(CLUSTER).contains_key(name) || had.is_some() == has.is_some() {
                continue;
            }
            let mut put = |type_url, resource: Option<&Any>| {
                let of_type = kept.resources.entry(type_url).or_default();
                match resource {
                    Some(resource) => of_type.insert(name.clone(), resource.clone()),
                    None => of_type.remove(name),
                }
            };
            put(CLUSTER, Some(cluster));
            put(ENDPOINT, had);
        }
        kept
    }

    fn add<M: Name>(&mut self, type_url: &'static str, name: &str, message: &M) {
        let of_type = self.resources.entry(type_url).or_default();
        of_type.insert(name.to_owned(), any(message));
    }

    fn cluster(&mut self, cluster: &Cluster) {
        self.add(CLUSTER, &cluster.name, cluster);
    }

    fn endpoints(&mut self, endpoints: &ClusterLoadAssignment) {
        self.add(ENDPOINT, &endpoints.cluster_name, endpoints);
    }

    fn listener(&mut self, listener: &Listener) {
        self.add(LISTENER, &listener.name, listener);
    }

    fn route(&mut self, route: &RouteConfiguration) {
        self.add(ROUTE, &route.name, route);
    }

    /// A filter chain for each port of the node, matched by port if there are several.
    fn ingress(&mut self, workload: &Workload<'_>, ports: &Ports) {
        let Workload { mesh, key, spec } = workload;
        // Without redirection a connection has no original destination to match: the first port
        // stands for all.
        let redirected = ports.ingress.is_none();
        let count = if redirected { spec.listeners.len() } else { 1 };
        let preference = workload.ip_preference();
        let own_host: IpAddr = match preference {
            Some(IpPreference::V6Preferred | IpPreference::V6Only) => Ipv6Addr::LOCALHOST.into(),
            _ => Ipv4Addr::LOCALHOST.into(),
        };
        let several = redirected && spec.listeners.len() > 1;
        let logs = access_log::of(spec.logging.as_ref());
        let mut chains = Vec::new();
        for listener in spec.listeners.iter().take(count) {
            let port = listener.port_mapping.port;
            let protocol = listener.port_mapping.protocol.as_str();
            let own = node_name(key, spec);
            let cluster = format!("cds_ingress_{}_{own}_{protocol}_{port}", mesh.name);
            let address = ports
                .application
                .unwrap_or_else(|| SocketAddr::new(own_host, port));
            self.cluster(&clusters::application(&cluster, address, listener));
            let chain = self.ingress_chain(listener, cluster, several, &logs);
            let protocol = listener.port_mapping.protocol;
            chains.extend(tls::chains(chain, listener.tls.as_ref(), protocol));
        }
        if !chains.is_empty() {
            self.listener(&listeners::ingress(ports, preference.is_some(), chains));
        }
    }

    fn ingress_chain(
        &mut self,
        listener: &NodeListener,
        cluster: String,
        several: bool,
        logs: &[AccessLog],
    ) -> FilterChain {
        let (port, protocol) = (listener.port_mapping.port, listener.port_mapping.protocol);
        let timeout = listener.timeout.unwrap_or_default();
        let matched = several.then_some(port);
        if protocol == Protocol::Tcp {
            let timeout = timeout.tcp.unwrap_or_default();
            let clusters = vec![(cluster, 1)];
            return listeners::tcp(matched, "ingress", clusters, timeout, logs);
        }
        let route = format!("rds_ingress_{}_{port}", protocol.as_str());
        self.route(&routes::ingress(&route, &cluster, timeout.of(protocol)));
        listeners::http(matched, "ingress", &route, logs)
    }

    /// A route configuration for each port, with a virtual host for each backend's name; and the
    /// traffic that may leave the mesh.
    fn egress(&mut self, workload: &Workload<'_>, ports: &Ports) {
        let mesh = workload.mesh;
        // Without redirection a connection has no original destination to match: the hosts of all
        // ports share one route configuration.
        let redirected = ports.egress.is_none();
        let mut by_port = hosts_by_port(workload);
        if !redirected && let Some(first) = by_port.keys().next().copied() {
            let all = std::mem::take(&mut by_port).into_values().flatten();
            by_port.insert(first, all.collect());
        }
        self.targets(mesh, by_port.values().flatten());
        let external = listeners::ExternalClusters::of(mesh);
        let logs = access_log::of(workload.spec.logging.as_ref());
        let rest = (mesh.egress == Egress::AllowAll).then_some(external.all.as_str());
        let mut chains = Vec::new();
        for (port, hosts) in &by_port {
            let matched = redirected.then_some(*port);
            let rest = rest.filter(|_| redirected);
            chains.extend(self.egress_chain(mesh, (matched, *port), hosts, rest, &logs));
        }
        if redirected {
            self.cluster(&clusters::original_dst(&external.amazon));
            if let Some(name) = rest {
                self.cluster(&clusters::original_dst(name));
            }
            let mesh_ports: Vec<u16> = by_port.keys().copied().collect();
            chains.extend(external.chains(&mesh_ports, mesh.egress, &logs));
        }
        if !chains.is_empty() {
            let both = workload.ip_preference().is_some();
            self.listener(&listeners::egress(ports, both, chains));
        }
    }

    fn targets<'a>(&mut self, mesh: &Mesh, hosts: impl Iterator<Item = &'a Host>) {
        let targets = hosts.flat_map(Host::targets);
        // Policies of one name are one.
        let targets: BTreeMap<_, _> = targets
            .map(|(target, port, policy)| ((target, port, policy.suffix()), policy))
            .collect();
        for ((target, port, _), policy) in targets {
            if let Some((cluster, endpoints)) = clusters::egress(mesh, target, port, policy) {
                self.cluster(&cluster);
                if let Some(endpoints) = endpoints {
                    self.endpoints(&endpoints);
                }
            }
        }
    }

    /// HTTP to hosts by name, else TCP to the only host. HTTP/1.1, HTTP/2 and gRPC share a port:
    /// Envoy detects the protocol of a connection.
    fn egress_chain(
        &mut self,
        mesh: &Mesh,
        (matched, port): (Option<u16>, u16),
        hosts: &[Host],
        rest: Option<&str>,
        logs: &[AccessLog],
    ) -> Option<FilterChain> {
        let by_name = hosts.iter().filter(|host| host.protocol != Protocol::Tcp);
        let by_name: Vec<_> = by_name.collect();
        let Some(protocol) = by_name.iter().map(|host| host.protocol).min() else {
            let host = hosts.first()?;
            let route = host.routes.first()?;
            let targets = route.targets.iter().filter_map(|(key, port, weight)| {
                let name = clusters::egress_name(mesh, key, *port, &host.policy)?;
                Some((name, *weight))
            });
            let idle = route.timeout.idle;
            let (targets, timeout) = (targets.collect::<Vec<_>>(), TcpTimeout { idle });
            return (!targets.is_empty())
                .then(|| listeners::tcp(matched, "egress", targets, timeout, logs));
        };
        let route = format!("rds_egress_{}_{port}", protocol.as_str());
        self.route(&routes::egress(mesh, &route, &by_name, rest));
        Some(listeners::http(matched, "egress", &route, logs))
    }
}

/// The backends of a workload by port.
fn hosts_by_port(Workload { mesh, key, spec }: &Workload<'_>) -> BTreeMap<u16, Vec<Host>> {
    let mut by_port: BTreeMap<u16, Vec<Host>> = BTreeMap::new();
    // `mesh::check` has reported missing services, and those without a port of their own.
    let services = mesh.backends_of(key, spec);
    let tcp_owners = ports::tcp_owners(mesh, &services);
    let policies = policies::of_backends(key, spec);
    for service in &services {
        let Some(of_service) = mesh.services.get(service) else {
            continue;
        };
        let name = service_name(service, of_service);
        let policy = policies.of(service);
        for host in hosts::of_service(mesh, service, of_service, &name, &policy) {
            let is_owner = tcp_owners.get(&host.port) == Some(service);
            if host.protocol != Protocol::Tcp || is_owner {
                by_port.entry(host.port).or_default().push(host);
            }
        }
    }
    by_port
}

/// A hash of names and contents: all replicas send the same version for the same resources.
pub(crate) fn version<'a>(resources: impl Iterator<Item = (&'a String, &'a Any)>) -> String {
    let mut bytes = Vec::new();
    for (name, resource) in resources {
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(&resource.value);
    }
    format!("{:016x}", xxh3_64(&bytes))
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

fn millis(millis: u64) -> Duration {
    Duration {
        seconds: i64::try_from(millis / 1000).unwrap_or(i64::MAX),
        nanos: i32::try_from(millis % 1000 * 1_000_000).unwrap_or(0),
    }
}
