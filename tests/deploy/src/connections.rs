//! Every connection that the programs of an installation make, and some that nobody should: a
//! table, held against the policies among its manifests. Takes rendered objects, whatever rendered
//! them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use tests_manifests::Object;

use crate::pods::{Template, templates, variables};
use crate::policies::{Connection, End, Labels, Pod, Policies, labels};
use crate::{list, text};

/// Namespaces of a cluster that are not among the manifests: (name, labels).
const NAMESPACES: [(&str, &[(&str, &str)]); 6] = [
    ("meshmeter", &[]),
    ("kube-system", &[]),
    ("monitoring", &[]),
    // Meshed by the injector; meshed by other means (Istio, a bootstrap of one's own); a tenant
    // without sidecars.
    ("shop", &[("meshmeter.io/inject", "enabled")]),
    ("istio-shop", &[("istio-injection", "enabled")]),
    ("stranger", &[]),
];
/// Pods that are not among the manifests: (name, namespace, label `app`).
const PODS: [(&str, &str, &str); 6] = [
    ("dns", "kube-system", "kube-dns"),
    ("prometheus", "monitoring", "prometheus"),
    ("sidecar", "shop", "cart"),
    ("other sidecar", "istio-shop", "cart"),
    ("stranger", "stranger", "miner"),
    ("stranger of ours", "meshmeter", "miner"),
];
/// What is no pod: (name, address).
const ADDRESSES: [(&str, &str); 8] = [
    ("kube-apiserver", "172.31.255.1"),
    ("node-local DNS", "169.254.20.10"),
    ("AWS", "52.94.133.131"),
    ("AWS by IPv6", "2600:1f18::1"),
    ("Pod Identity", "169.254.170.23"),
    ("Pod Identity by IPv6", "fd00:ec2::23"),
    ("IMDS", "169.254.169.254"),
    ("internet", "203.0.113.7"),
];
const KUBELET: &str = "kubelet";
/// What the services with names of their own are called in the table.
const AGGREGATOR: &str = "meshmeter";
const INJECTOR: &str = "meshmeter-injector";
const CONTROL_PLANE: &str = "meshmeter-control-plane";
const TEST: &str = "meshmeter-test";

/// A port: by the name that the pod which listens declares it under, or by number.
#[derive(Clone, Copy, Debug)]
enum Port {
    Named(&'static str),
    Tcp(u16),
    Udp(u16),
}

use Port::{Named, Tcp, Udp};

/// What has to get through wherever both ends are there: (from, to, port).
const ALLOWED: [(&str, &str, Port); 34] = [
    ("sidecar", AGGREGATOR, Named("grpc-ingest")),
    ("other sidecar", AGGREGATOR, Named("grpc-ingest")),
    ("kube-apiserver", AGGREGATOR, Named("api")),
    ("prometheus", AGGREGATOR, Named("http-admin")),
    (KUBELET, AGGREGATOR, Named("http-admin")),
    (AGGREGATOR, "dns", Udp(53)),
    (AGGREGATOR, "dns", Tcp(53)),
    (AGGREGATOR, "node-local DNS", Udp(53)),
    (AGGREGATOR, "node-local DNS", Tcp(53)),
    (AGGREGATOR, "kube-apiserver", Tcp(443)),
    (AGGREGATOR, "kube-apiserver", Tcp(6443)),
    ("kube-apiserver", INJECTOR, Named("https")),
    ("prometheus", INJECTOR, Named("http-admin")),
    (KUBELET, INJECTOR, Named("http-admin")),
    (INJECTOR, "dns", Udp(53)),
    (INJECTOR, "dns", Tcp(53)),
    (INJECTOR, "node-local DNS", Udp(53)),
    (INJECTOR, "node-local DNS", Tcp(53)),
    (INJECTOR, "kube-apiserver", Tcp(443)),
    (INJECTOR, "kube-apiserver", Tcp(6443)),
    ("sidecar", CONTROL_PLANE, Named("grpc-xds")),
    ("prometheus", CONTROL_PLANE, Named("http-admin")),
    (KUBELET, CONTROL_PLANE, Named("http-admin")),
    (CONTROL_PLANE, "dns", Udp(53)),
    (CONTROL_PLANE, "dns", Tcp(53)),
    (CONTROL_PLANE, "node-local DNS", Udp(53)),
    (CONTROL_PLANE, "node-local DNS", Tcp(53)),
    (CONTROL_PLANE, "kube-apiserver", Tcp(443)),
    (CONTROL_PLANE, "kube-apiserver", Tcp(6443)),
    (TEST, "dns", Udp(53)),
    (TEST, "dns", Tcp(53)),
    (TEST, "node-local DNS", Udp(53)),
    (TEST, "kube-apiserver", Tcp(443)),
    (TEST, "kube-apiserver", Tcp(6443)),
];

/// What a writer of samples needs besides: of a receiver in the cluster, and of AMP with each
/// source of credentials.
const WRITER_IN_CLUSTER: [(&str, &str, Port); 1] = [(AGGREGATOR, "prometheus", Tcp(9090))];
const WRITER_TO_AMP: [(&str, &str, Port); 4] = [
    (AGGREGATOR, "AWS", Tcp(443)),
    (AGGREGATOR, "AWS by IPv6", Tcp(443)),
    (AGGREGATOR, "Pod Identity", Tcp(80)),
    (AGGREGATOR, "Pod Identity by IPv6", Tcp(80)),
];

/// What must not get through where policies close the namespace.
const DENIED: [(&str, &str, Port); 27] = [
    (AGGREGATOR, AGGREGATOR, Named("http-admin")),
    ("stranger", AGGREGATOR, Named("http-admin")),
    ("sidecar", AGGREGATOR, Named("http-admin")),
    ("internet", AGGREGATOR, Named("http-admin")),
    ("internet", AGGREGATOR, Named("grpc-ingest")),
    ("stranger of ours", AGGREGATOR, Named("http-admin")),
    (INJECTOR, AGGREGATOR, Named("http-admin")),
    (CONTROL_PLANE, AGGREGATOR, Named("http-admin")),
    ("stranger", AGGREGATOR, Tcp(22)),
    ("prometheus", AGGREGATOR, Tcp(22)),
    (AGGREGATOR, "stranger", Tcp(8080)),
    (AGGREGATOR, "prometheus", Tcp(22)),
    (AGGREGATOR, "IMDS", Tcp(80)),
    (AGGREGATOR, "internet", Tcp(80)),
    (AGGREGATOR, "internet", Udp(53)),
    ("stranger", INJECTOR, Named("http-admin")),
    (INJECTOR, "stranger", Tcp(8080)),
    (INJECTOR, "IMDS", Tcp(80)),
    ("stranger", CONTROL_PLANE, Named("grpc-xds")),
    ("other sidecar", CONTROL_PLANE, Named("grpc-xds")),
    ("internet", CONTROL_PLANE, Named("grpc-xds")),
    ("stranger", CONTROL_PLANE, Named("http-admin")),
    (CONTROL_PLANE, "stranger", Tcp(8080)),
    (CONTROL_PLANE, "IMDS", Tcp(80)),
    ("stranger", TEST, Tcp(8080)),
    (TEST, "stranger", Tcp(8080)),
    ("stranger", "stranger of ours", Tcp(8080)),
];

/// What is wrong with the policies among `objects`, a line each; empty if every connection fares as
/// it should. Where no policy closes the whole namespace nothing may be refused: an installation
/// without policies has no half of them.
pub fn faults(objects: &[Object]) -> Result<Vec<String>> {
    let closed = objects.iter().any(is_default_deny);
    let mut allowed = ALLOWED.to_vec();
    let url = receiver(objects)?;
    if let Some(url) = &url {
        if url.contains(".amazonaws.com/") {
            allowed.extend(WRITER_TO_AMP);
        } else {
            allowed.extend(WRITER_IN_CLUSTER);
        }
    }
    let mut policies = Policies::read(objects)?;
    for (name, given) in NAMESPACES {
        policies.set_namespace(
            name,
            given
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        );
    }
    let mut faults = Vec::new();
    // Network plugins differ in whether `ipBlock` means addresses of pods as well.
    for address in [None, Some("10.1.2.3".parse()?)] {
        let ends = ends(objects, address)?;
        for (rows, should) in [(allowed.as_slice(), true), (&DENIED, !closed)] {
            for (from, to, port) in rows {
                let Some(connection) = connection(&ends, from, to, *port)? else {
                    continue;
                };
                let refusal = policies.refusal(&connection)?;
                let what = format!("{from} -> {to} {port:?}");
                match refusal {
                    Some(who) if should => faults.push(format!("{what}: refused, {who}")),
                    None if !should => faults.push(format!("{what}: let through")),
                    _ => {}
                }
            }
        }
    }
    faults.sort();
    faults.dedup();
    Ok(faults)
}

/// How many rows of the tables are about pods that `objects` make.
pub fn rows(objects: &[Object]) -> Result<usize> {
    let ends = ends(objects, None)?;
    let mut rows = 0;
    for (from, to, port) in ALLOWED.iter().chain(&DENIED) {
        rows += usize::from(connection(&ends, from, to, *port)?.is_some());
    }
    Ok(rows)
}

fn is_default_deny(object: &Object) -> bool {
    let spec = &object.value["spec"];
    object.kind == "NetworkPolicy"
        && spec["podSelector"] == serde_json::json!({})
        && list(&spec["ingress"]).is_empty()
        && list(&spec["egress"]).is_empty()
}

/// Where samples are written to, if they are.
fn receiver(objects: &[Object]) -> Result<Option<String>> {
    for template in templates(objects) {
        for container in template.containers() {
            if let Some(url) = variables(container, objects)?.remove("MESHMETER_REMOTE_WRITE_URL") {
                return Ok(Some(url));
            }
        }
    }
    Ok(None)
}

fn ends(objects: &[Object], address: Option<IpAddr>) -> Result<BTreeMap<String, End>> {
    let mut ends = BTreeMap::from([(KUBELET.to_owned(), End::OwnNode)]);
    for (name, namespace, app) in PODS {
        let labels = Labels::from([("app".to_owned(), app.to_owned())]);
        let pod = Pod {
            namespace: namespace.to_owned(),
            labels,
            ports: BTreeMap::new(),
            address,
        };
        ends.insert(name.to_owned(), End::Pod(pod));
    }
    for (name, address) in ADDRESSES {
        ends.insert(name.to_owned(), End::Address(address.parse()?));
    }
    for template in templates(objects) {
        let pod = pod(&template, address)?;
        ends.insert(template.object.name.clone(), End::Pod(pod));
    }
    Ok(ends)
}

fn pod(template: &Template<'_>, address: Option<IpAddr>) -> Result<Pod> {
    let mut ports = BTreeMap::new();
    for container in template.containers() {
        for port in list(&container["ports"]) {
            let protocol = port["protocol"].as_str().unwrap_or("TCP").to_owned();
            let number = port["containerPort"].as_u64().context("containerPort")?;
            ports.insert(
                (text(&port["name"]).to_owned(), protocol),
                number.try_into()?,
            );
        }
    }
    Ok(Pod {
        namespace: template.object.namespace.clone().context("namespace")?,
        labels: labels(&template.value["metadata"]["labels"]),
        ports,
        address,
    })
}

/// `None` if an end is not installed.
fn connection(
    ends: &BTreeMap<String, End>,
    from: &str,
    to: &str,
    port: Port,
) -> Result<Option<Connection>> {
    let (Some(from), Some(to)) = (ends.get(from), ends.get(to)) else {
        return Ok(None);
    };
    let (protocol, port) = match port {
        Tcp(port) => ("TCP", port),
        Udp(port) => ("UDP", port),
        Named(name) => {
            let End::Pod(pod) = to else {
                return Ok(None);
            };
            let key = (name.to_owned(), "TCP".to_owned());
            let port = pod.ports.get(&key);
            ("TCP", *port.with_context(|| format!("no port {name}"))?)
        }
    };
    Ok(Some(Connection {
        from: from.clone(),
        to: to.clone(),
        protocol,
        port,
    }))
}
