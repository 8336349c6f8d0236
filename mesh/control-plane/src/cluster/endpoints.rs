//! Addresses of a workload's pods, from its service and the slices of that.

use std::net::{IpAddr, SocketAddr};

use super::objects::{Endpoint, Service, Slice};
use crate::mesh::Key;

/// Addresses of one workload at most: as many as kube-proxy takes of a service.
pub(crate) const ENDPOINTS_MAX: usize = 5_000;

/// The label by which a slice names its service.
pub(crate) const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// The service that has this name in DNS: `SERVICE.NAMESPACE`, with `.svc` or all of
/// `.svc.cluster.local`.
pub(crate) fn service_of(hostname: &str) -> Option<Key> {
    let hostname = hostname.trim_end_matches('.');
    let hostname = hostname.strip_suffix(".cluster.local").unwrap_or(hostname);
    let hostname = hostname.strip_suffix(".svc").unwrap_or(hostname);
    let (service, namespace) = hostname.split_once('.')?;
    let one = !service.is_empty() && !namespace.is_empty() && !namespace.contains('.');
    one.then(|| Key::new(namespace, service))
}

/// Where connections to `port` of the service's name end up; `None` if only DNS knows.
///
/// A service translates its port into that of its pods, which the slices name. A port that the
/// service does not have is the pods' own, and so is that of a headless service: its name leads to
/// pods.
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
    // Whoever has no selector has slices that somebody else makes, or a name that somebody else
    // answers for.
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
    // As App Mesh does by default, version 4 if there is any.
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
    // As kube-proxy does: rather who is about to end than nobody.
    let mut chosen = those(&all, is_ready);
    if chosen.is_empty() {
        chosen = those(&all, is_serving);
    }
    Some(chosen)
}

fn those(all: &[(&Endpoint, SocketAddr)], wanted: fn(&Endpoint) -> bool) -> Vec<SocketAddr> {
    let wanted = all.iter().filter(|(endpoint, _)| wanted(endpoint));
    let mut addresses: Vec<_> = wanted.map(|(_, address)| *address).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// All addresses of an endpoint are the same pod's.
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

    fn told(service: &Service, slices: &[&Slice], port: u16) -> Option<Vec<String>> {
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

    /// The port of the service is the pods' own, another one, or none of the service's.
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
        assert_eq!(told(&plain, &[&pods], 80), mapped);
        let own = Some(strings(&["10.0.0.1:9080", "10.0.0.2:9080"]));
        assert_eq!(told(&plain, &[&pods], 9080), own);
        let headless =
            service(&json!({"clusterIP": "None", "selector": {"app": "jazz"}, "ports": ports}));
        let own = Some(strings(&["10.0.0.1:80", "10.0.0.2:80"]));
        assert_eq!(told(&headless, &[&pods], 80), own);
        // Pods of before the port had its name.
        let old = slice(
            &json!([{"name": "old", "port": 1}]),
            &json!([{"addresses": ["10.0.0.3"]}]),
        );
        assert_eq!(told(&plain, &[&pods, &old], 80), mapped);
    }

    #[test]
    fn only_the_ready_are_called() {
        let jazz = service(&json!({"selector": {"app": "jazz"}, "ports": [{"port": 9080}]}));
        let ports = json!([{"name": "", "port": 9080}]);
        let ended = json!({"addresses": ["10.0.0.1"], "conditions": {"ready": false, "serving": false, "terminating": true}});
        let ending = json!({"addresses": ["10.0.0.2"], "conditions": {"ready": false, "serving": true, "terminating": true}});
        let starting = json!({"addresses": ["10.0.0.3"], "conditions": {"ready": false}});
        let ready = json!({"addresses": ["10.0.0.4"], "conditions": {"ready": true}});
        let all = slice(&ports, &json!([ended, ending, starting, ready]));
        assert_eq!(
            told(&jazz, &[&all], 9080),
            Some(strings(&["10.0.0.4:9080"]))
        );
        let few = slice(&ports, &json!([ended, ending, starting]));
        assert_eq!(
            told(&jazz, &[&few], 9080),
            Some(strings(&["10.0.0.2:9080"]))
        );
        let none = slice(&ports, &json!([ended, starting]));
        assert_eq!(told(&jazz, &[&none], 9080), Some(strings(&[])));
        assert_eq!(told(&jazz, &[], 9080), Some(strings(&[])));
    }

    #[test]
    fn only_dns_knows_the_rest() {
        let bare = service(&json!({"clusterIP": "10.9.0.1", "ports": [{"port": 9080}]}));
        assert_eq!(told(&bare, &[], 9080), None);
        let external = service(&json!({"type": "ExternalName", "externalName": "example.com"}));
        assert_eq!(told(&external, &[], 9080), None);
        let by_hand = slice(
            &json!([{"port": 9080}]),
            &json!([{"addresses": ["10.0.0.1"]}]),
        );
        assert_eq!(
            told(&bare, &[&by_hand], 9080),
            Some(strings(&["10.0.0.1:9080"]))
        );
        let six = slice(
            &json!([{"port": 9080}]),
            &json!([{"addresses": ["fd00::1"]}]),
        );
        assert_eq!(
            told(&bare, &[&six], 9080),
            Some(strings(&["[fd00::1]:9080"]))
        );
        assert_eq!(
            told(&bare, &[&six, &by_hand], 9080),
            Some(strings(&["10.0.0.1:9080"]))
        );
    }
}
