//! Addresses of a workload's pods, from its service and slices.

use std::net::{IpAddr, SocketAddr};

use super::objects::{Endpoint, Service, Slice};
use crate::mesh::Key;

/// Addresses of one workload at most: as many as kube-proxy uses of a service.
pub(crate) const ENDPOINTS_MAX: usize = 5_000;

/// Label of a slice with the name of its service.
pub(crate) const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// The service with this DNS name: `SERVICE.NAMESPACE`, with `.svc` or `.svc.cluster.local`.
pub fn service_of(hostname: &str) -> Option<Key> {
    let hostname = hostname.trim_end_matches('.');
    let hostname = hostname.strip_suffix(".cluster.local").unwrap_or(hostname);
    let hostname = hostname.strip_suffix(".svc").unwrap_or(hostname);
    let (service, namespace) = hostname.split_once('.')?;
    let is_service = !service.is_empty() && !namespace.is_empty() && !namespace.contains('.');
    is_service.then(|| Key::new(namespace, service))
}

/// The pods that connections to `port` of the service's name reach; `None` if only DNS can tell.
///
/// A service maps its port to the pods' target port, which the slices contain. A port that the
/// service does not have is a port of the pods, and so is any port of a headless service, whose
/// name resolves to pods.
pub(crate) fn addresses(
    service: &Service,
    slices: &[&Slice],
    port: u16,
) -> Option<Vec<SocketAddr>> {
    let external = service.spec.r#type == "ExternalName";
    let headless = service.spec.cluster_ip == "None";
    let of_ips: Vec<_> = slices
        .iter()
        .filter(|slice| ["IPv4", "IPv6"].contains(&slice.address_type.as_str()))
        .collect();
    // A service without selector has slices only if another controller or user makes them; without
    // slices, nothing but its name is known.
    if external || (of_ips.is_empty() && (!slices.is_empty() || service.spec.selector.is_empty())) {
        return None;
    }
    let tcp = |protocol: &Option<String>| protocol.as_deref().is_none_or(|name| name == "TCP");
    let mut ports = service.spec.ports.iter();
    let translated = ports.find(|other| other.port == port && tcp(&other.protocol));
    let pod_port = |slice: &Slice| match translated.filter(|_| !headless) {
        None => Some(port),
        Some(named) => {
            let mut ports = slice.ports.iter();
            let found = ports.find(|other| other.name == named.name && tcp(&other.protocol))?;
            Some(found.port.unwrap_or(port))
        }
    };
    // One family only, IPv4 before IPv6, as App Mesh does by default: a pod's second address would
    // be a second endpoint.
    let family = of_ips.iter().map(|slice| slice.address_type.as_str()).min();
    let all: Vec<(&Endpoint, SocketAddr)> = of_ips
        .iter()
        .filter(|slice| Some(slice.address_type.as_str()) == family)
        .filter_map(|slice| Some((slice, pod_port(slice)?)))
        .flat_map(|(slice, port)| {
            let endpoints = slice.endpoints.iter();
            endpoints.filter_map(move |endpoint| Some((endpoint, address(endpoint, port)?)))
        })
        .collect();
    // As kube-proxy does: terminating pods that still serve, if none is ready.
    let mut chosen = addresses_where(&all, is_ready);
    if chosen.is_empty() {
        chosen = addresses_where(&all, is_serving);
    }
    Some(chosen)
}

fn addresses_where(
    all: &[(&Endpoint, SocketAddr)],
    condition: fn(&Endpoint) -> bool,
) -> Vec<SocketAddr> {
    let matching = all.iter().filter(|(endpoint, _)| condition(endpoint));
    let mut addresses: Vec<_> = matching.map(|(_, address)| *address).collect();
    // Sorted, so that the order of watch events does not change the version sent to Envoy.
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// The first address: all addresses of an endpoint belong to one pod.
fn address(endpoint: &Endpoint, port: u16) -> Option<SocketAddr> {
    let ip: IpAddr = endpoint.addresses.first()?.parse().ok()?;
    Some(SocketAddr::new(ip, port))
}

/// <https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#conditions>
fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.ready.unwrap_or(true)
}

fn is_serving(endpoint: &Endpoint) -> bool {
    let serving = endpoint.conditions.serving.unwrap_or(is_ready(endpoint));
    serving && endpoint.conditions.terminating.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(spec: &Value) -> Service {
        let service = json!({"metadata": {"name": "jazz", "namespace": "prod"}, "spec": spec});
        serde_json::from_value(service).unwrap()
    }

    fn slice(ports: &Value, endpoints: &Value) -> Slice {
        let family = if endpoints.to_string().contains("::") {
            "IPv6"
        } else {
            "IPv4"
        };
        let slice = json!({"metadata": {"name": "jazz-x", "namespace": "prod"}, "addressType": family,
                           "ports": ports, "endpoints": endpoints});
        serde_json::from_value(slice).unwrap()
    }

    fn resolved(service: &Service, slices: &[&Slice], port: u16) -> Option<Vec<String>> {
        let addresses = addresses(service, slices, port)?;
        Some(addresses.iter().map(ToString::to_string).collect())
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn reads_names_of_services() {
        let jazz = Some(Key::new("prod", "jazz"));
        for name in [
            "jazz.prod",
            "jazz.prod.svc",
            "jazz.prod.svc.cluster.local",
            "jazz.prod.svc.cluster.local.",
        ] {
            assert_eq!(service_of(name), jazz, "{name}");
        }
        for name in [
            "jazz",
            "a.jazz.prod.svc.cluster.local",
            "www.example.com",
            ".prod",
            "",
        ] {
            assert_eq!(service_of(name), None, "{name}");
        }
    }

    /// A mapped port, a port that the service does not have, and a headless service.
    #[test]
    fn ports_are_those_of_the_pods() {
        let ports =
            json!([{"name": "web", "port": 80, "targetPort": 8080}, {"name": "other", "port": 81}]);
        let plain =
            service(&json!({"clusterIP": "10.9.0.1", "selector": {"app": "jazz"}, "ports": ports}));
        let pods = slice(
            &json!([{"name": "web", "port": 8080}, {"name": "other", "port": 8081}]),
            &json!([{"addresses": ["10.0.0.2"], "conditions": {"ready": true}},
                    {"addresses": ["10.0.0.1"], "conditions": {}}]),
        );
        let mapped = Some(strings(&["10.0.0.1:8080", "10.0.0.2:8080"]));
        assert_eq!(resolved(&plain, &[&pods], 80), mapped);
        let own = Some(strings(&["10.0.0.1:9080", "10.0.0.2:9080"]));
        assert_eq!(resolved(&plain, &[&pods], 9080), own);
        let headless =
            service(&json!({"clusterIP": "None", "selector": {"app": "jazz"}, "ports": ports}));
        let own = Some(strings(&["10.0.0.1:80", "10.0.0.2:80"]));
        assert_eq!(resolved(&headless, &[&pods], 80), own);
        // A slice from before the port had this name.
        let old = slice(
            &json!([{"name": "old", "port": 1}]),
            &json!([{"addresses": ["10.0.0.3"]}]),
        );
        assert_eq!(resolved(&plain, &[&pods, &old], 80), mapped);
    }

    #[test]
    fn ready_pods_come_before_terminating_ones() {
        let jazz = service(&json!({"selector": {"app": "jazz"}, "ports": [{"port": 9080}]}));
        let ports = json!([{"name": "", "port": 9080}]);
        let ended = json!({"addresses": ["10.0.0.1"], "conditions": {"ready": false, "serving": false, "terminating": true}});
        let ending = json!({"addresses": ["10.0.0.2"], "conditions": {"ready": false, "serving": true, "terminating": true}});
        let starting = json!({"addresses": ["10.0.0.3"], "conditions": {"ready": false}});
        let ready = json!({"addresses": ["10.0.0.4"], "conditions": {"ready": true}});
        let all = slice(&ports, &json!([ended, ending, starting, ready]));
        assert_eq!(
            resolved(&jazz, &[&all], 9080),
            Some(strings(&["10.0.0.4:9080"]))
        );
        let few = slice(&ports, &json!([ended, ending, starting]));
        assert_eq!(
            resolved(&jazz, &[&few], 9080),
            Some(strings(&["10.0.0.2:9080"]))
        );
        let none = slice(&ports, &json!([ended, starting]));
        assert_eq!(resolved(&jazz, &[&none], 9080), Some(strings(&[])));
        assert_eq!(resolved(&jazz, &[], 9080), Some(strings(&[])));
    }

    #[test]
    fn only_dns_knows_the_rest() {
        let bare = service(&json!({"clusterIP": "10.9.0.1", "ports": [{"port": 9080}]}));
        assert_eq!(resolved(&bare, &[], 9080), None);
        let external = service(&json!({"type": "ExternalName", "externalName": "example.com"}));
        assert_eq!(resolved(&external, &[], 9080), None);
        let by_hand = slice(
            &json!([{"port": 9080}]),
            &json!([{"addresses": ["10.0.0.1"]}]),
        );
        assert_eq!(
            resolved(&bare, &[&by_hand], 9080),
            Some(strings(&["10.0.0.1:9080"]))
        );
        let six = slice(
            &json!([{"port": 9080}]),
            &json!([{"addresses": ["fd00::1"]}]),
        );
        assert_eq!(
            resolved(&bare, &[&six], 9080),
            Some(strings(&["[fd00::1]:9080"]))
        );
        assert_eq!(
            resolved(&bare, &[&six, &by_hand], 9080),
            Some(strings(&["10.0.0.1:9080"]))
        );
    }
}
