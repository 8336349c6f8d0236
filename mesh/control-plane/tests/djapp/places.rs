//! Where Envoys listen, by which version of IP, and what of several ports becomes where nothing is
//! redirected.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::address::Address as AddressKind;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use mesh_control_plane::envoy::{CLUSTER, LISTENER, Ports, Snapshot};
use mesh_control_plane::mesh::Meshes;
use prost::Message as _;

use crate::{mesh, parse, route};

/// A caller of two services on three ports, and what it calls. `of_mesh` and `of_node` are fields
/// of the mesh and of the node `songs`.
fn several(of_mesh: &str, of_node: &str) -> String {
    let head = "apiVersion: appmesh.k8s.aws/v1beta2";
    let listener = |port: u16| format!("{{portMapping: {{port: {port}, protocol: http}}}}");
    let (two, one) = (
        format!("{}, {}", listener(80), listener(8_080)),
        listener(9_090),
    );
    let service = |name: &str| {
        format!(
            "---\n{head}\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec: {{awsName: {name}, provider: {{virtualNode: {{virtualNodeRef: {{name: {name}}}}}}}}}\n"
        )
    };
    let node = |name: &str, listeners: &str, discovery: &str, backends: &str| {
        format!(
            "---\n{head}\nkind: VirtualNode\nmetadata: {{name: {name}}}\nspec:\n  listeners: [{listeners}]\n  \
             serviceDiscovery: {{dns: {{hostname: {name}.example.com{discovery}}}}}\n  backends: [{backends}]\n"
        )
    };
    let backend =
        |name: &str| format!("{{virtualService: {{virtualServiceRef: {{name: {name}}}}}}}");
    [
        format!("{head}\nkind: Mesh\nmetadata: {{name: m}}\nspec: {{namespaceSelector: {{}}{of_mesh}}}\n"),
        node("caller", &two, "", &format!("{}, {}", backend("songs"), backend("albums"))),
        node("songs", &two, of_node, ""),
        node("albums", &one, "", ""),
        service("songs"),
        service("albums"),
    ]
    .concat()
}

/// Of a node in the namespace that manifests without one are of.
fn snapshot(meshes: &Meshes, node: &str, ports: &Ports) -> Snapshot {
    let id = format!("mesh/m/virtualNode/{node}_default");
    Snapshot::new(&meshes.node_of(&id).unwrap(), ports)
}

fn listener(snapshot: &Snapshot, name: &str) -> Listener {
    Listener::decode(&snapshot.of(LISTENER)[name].value[..]).unwrap()
}

/// Host and whether IPv4 comes in at it too.
fn bound(listener: &Listener) -> (String, bool) {
    match listener.address.clone().unwrap().address.unwrap() {
        AddressKind::SocketAddress(address) => (address.address, address.ipv4_compat),
        other => panic!("{other:?}"),
    }
}

const EGRESS: &str = "lds_egress_0.0.0.0_15001";
const INGRESS: &str = "lds_ingress_0.0.0.0_15000";

/// Without redirection all ports share one chain without a port match, and each name is unique.
#[test]
fn several_ports_are_served_where_nothing_is_redirected() {
    let meshes = mesh(&several("", ""));
    let any: Option<SocketAddr> = "127.0.0.1:0".parse().ok();
    let ports = Ports {
        ingress: any,
        egress: any,
        application: any,
    };
    let sent = snapshot(&meshes, "caller", &ports);
    for name in [EGRESS, INGRESS] {
        let chains = listener(&sent, name).filter_chains;
        assert_eq!(chains.len(), 1, "{name}");
        assert_eq!(chains[0].filter_chain_match, None, "{name}");
    }
    let hosts = route(&sent, "rds_egress_http_80").virtual_hosts;
    let domains: Vec<_> = hosts.iter().flat_map(|host| host.domains.clone()).collect();
    assert_eq!(
        domains,
        ["songs", "songs:80", "songs:8080", "albums", "albums:9090"]
    );
    let names: BTreeSet<_> = hosts.iter().map(|host| &host.name).collect();
    assert_eq!(names.len(), hosts.len());
    // Redirected, each port has its own.
    let redirected = snapshot(&meshes, "caller", &Ports::default());
    assert_eq!(listener(&redirected, INGRESS).filter_chains.len(), 2);
    for port in [80, 8_080, 9_090] {
        route(&redirected, &format!("rds_egress_http_{port}"));
    }
}

/// IP preferences of mesh and node, and the resulting DNS lookup family.
#[test]
fn dns_lookup_follows_the_preference() {
    let of_mesh = |preference| format!(", meshServiceDiscovery: {{ipPreference: {preference}}}");
    let of_node = |preference| format!(", ipPreference: {preference}");
    // Envoy's enum: AUTO, V4_ONLY, V6_ONLY, V4_PREFERRED, ALL.
    for (mesh_says, node_says, family) in [
        (String::new(), String::new(), 4),
        (of_mesh("IPv4_PREFERRED"), String::new(), 3),
        (of_mesh("IPv6_PREFERRED"), String::new(), 0),
        (of_mesh("IPv4_ONLY"), String::new(), 1),
        (of_mesh("IPv6_ONLY"), String::new(), 2),
        (String::new(), of_node("IPv4_ONLY"), 1),
        (of_mesh("IPv4_ONLY"), of_node("IPv6_ONLY"), 2),
    ] {
        let meshes = mesh(&several(&mesh_says, &node_says));
        let sent = snapshot(&meshes, "caller", &Ports::default());
        let name = "cds_egress_m_songs_default_http_80";
        let cluster = Cluster::decode(&sent.of(CLUSTER)[name].value[..]).unwrap();
        assert_eq!(cluster.dns_lookup_family, family, "{mesh_says} {node_says}");
    }
    let (_, refused) = parse(&several("", &of_node("IPv5")));
    assert!(refused[0].why.contains("ipPreference"), "{refused:?}");
}

/// As in App Mesh: with a preference Envoy listens on both IP versions, and reaches the application
/// by the preferred one.
#[test]
fn listeners_follow_the_preference() {
    for (preference, host, own) in [
        ("", ("0.0.0.0", false), "127.0.0.1"),
        (", ipPreference: IPv4_ONLY", ("::", true), "127.0.0.1"),
        (", ipPreference: IPv6_PREFERRED", ("::", true), "::1"),
    ] {
        let meshes = mesh(&several("", preference));
        let sent = snapshot(&meshes, "songs", &Ports::default());
        let expected = (host.0.to_owned(), host.1);
        for name in [INGRESS, EGRESS] {
            assert_eq!(bound(&listener(&sent, name)), expected, "{preference}");
        }
        let name = "cds_ingress_m_songs_default_http_80";
        let cluster = Cluster::decode(&sent.of(CLUSTER)[name].value[..]).unwrap();
        assert!(
            format!("{cluster:?}").contains(&format!("address: \"{own}\"")),
            "{cluster:?}"
        );
    }
}
