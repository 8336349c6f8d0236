//! djapp's custom resources as Envoy's configuration, and what is refused.
#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::LbPolicy;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use mesh_control_plane::envoy::{CLUSTER, LISTENER, Ports, ROUTE, Snapshot};
use mesh_control_plane::mesh::{Meshes, RefusedObject};
use prost::Message as _;

mod defaults;
mod gateways;
mod places;
mod protocols;
mod refused;
mod taken;
mod targets;
mod tls;

const DJAPP: &str = include_str!("../../../../tests/mesh/djapp.yaml");

fn parse(text: &str) -> (Meshes, Vec<RefusedObject>) {
    Meshes::parse([("djapp.yaml", text)], &Meshes::default())
}

fn mesh(text: &str) -> Meshes {
    let (mesh, refused) = parse(text);
    assert_eq!(refused, []);
    mesh
}

/// djapp with one more object `x`.
fn with(kind: &str, spec: &str) -> String {
    format!(
        "{DJAPP}---\napiVersion: appmesh.k8s.aws/v1beta2\nkind: {kind}\nmetadata: {{name: x, namespace: prod}}\nspec: {spec}\n"
    )
}

/// `text` without one of its objects.
fn without_of(text: &str, kind: &str, name: &str) -> String {
    let object = format!("kind: {kind}\nmetadata:\n  name: {name}\n");
    let others = text.split("---\n").filter(|one| !one.contains(&object));
    let others = others.collect::<Vec<_>>().join("---\n");
    assert_ne!(others, text);
    others
}

fn snapshot(mesh: &Meshes, node: &str) -> Snapshot {
    let id = format!("mesh/dj-app/virtualNode/{node}_prod");
    Snapshot::new(&mesh.node_of(&id).unwrap(), &Ports::default())
}

fn names<'a>(snapshot: &'a Snapshot, type_url: &str) -> Vec<&'a str> {
    let of_type = snapshot.resources.get(type_url).into_iter().flatten();
    of_type.map(|(name, _)| name.as_str()).collect()
}

fn route(snapshot: &Snapshot, name: &str) -> RouteConfiguration {
    RouteConfiguration::decode(&snapshot.resources[ROUTE][name].value[..]).unwrap()
}

/// Workloads and weights of the only route of the only host.
fn weights(snapshot: &Snapshot) -> Vec<(String, u32)> {
    let route = route(snapshot, "rds_egress_http_9080");
    let Some(Action::Route(action)) = &route.virtual_hosts[0].routes[0].action else {
        panic!("no route");
    };
    let Some(ClusterSpecifier::WeightedClusters(clusters)) = &action.cluster_specifier else {
        panic!("no weights");
    };
    let clusters = clusters.clusters.iter();
    clusters
        .map(|cluster| (cluster.name.clone(), cluster.weight.unwrap().value))
        .collect()
}

#[test]
fn names_are_those_of_app_mesh() {
    let mesh = mesh(DJAPP);
    let dj = snapshot(&mesh, "dj");
    assert_eq!(
        names(&dj, LISTENER),
        ["lds_egress_0.0.0.0_15001", "lds_ingress_0.0.0.0_15000"]
    );
    assert_eq!(
        names(&dj, CLUSTER),
        [
            "cds_egress_dj-app_amazonaws",
            "cds_egress_dj-app_jazz-v1_prod_http_9080",
            "cds_egress_dj-app_jazz-v2_prod_http_9080",
            "cds_egress_dj-app_metal-v1_prod_http_9080",
            "cds_ingress_dj-app_dj_prod_http_9080",
        ]
    );
    assert_eq!(
        names(&dj, ROUTE),
        ["rds_egress_http_9080", "rds_ingress_http_9080"]
    );
    let domains = &route(&dj, "rds_egress_http_9080").virtual_hosts[0].domains;
    assert_eq!(
        domains,
        &[
            "jazz.prod.svc.cluster.local",
            "jazz.prod.svc.cluster.local:9080"
        ]
    );
    // Who calls nobody has a listener for its redirected connections all the same.
    assert_eq!(
        names(&snapshot(&mesh, "jazz-v1"), LISTENER),
        ["lds_egress_0.0.0.0_15001", "lds_ingress_0.0.0.0_15000"]
    );
    // Where nothing is redirected nothing would come in.
    let place = Ports {
        egress: "127.0.0.1:0".parse().ok(),
        ..Ports::default()
    };
    let jazz = mesh
        .node_of("mesh/dj-app/virtualNode/jazz-v1_prod")
        .unwrap();
    assert_eq!(
        names(&Snapshot::new(&jazz, &place), LISTENER),
        ["lds_ingress_0.0.0.0_15000"]
    );
}

#[test]
fn weights_are_those_of_the_router() {
    let expect = |first, second| {
        [("v1", first), ("v2", second)].map(|(version, weight)| {
            (
                format!("cds_egress_dj-app_jazz-{version}_prod_http_9080"),
                weight,
            )
        })
    };
    let before = snapshot(&mesh(DJAPP), "dj");
    assert_eq!(weights(&before), expect(95, 5));
    let shifted = DJAPP
        .replace("weight: 95", "weight: 50")
        .replace("weight: 5\n", "weight: 50\n");
    let after = snapshot(&mesh(&shifted), "dj");
    assert_eq!(weights(&after), expect(50, 50));
    assert_ne!(before.version(ROUTE), after.version(ROUTE));
    assert_eq!(before.version(CLUSTER), after.version(CLUSTER));
    assert_eq!(before.version(LISTENER), after.version(LISTENER));
}

#[test]
fn http2_is_spoken_to_who_speaks_it() {
    let http2 = DJAPP
        .replace("protocol: http\n", "protocol: http2\n")
        .replace("httpRoute:", "http2Route:");
    let http2 = http2.replace("        protocol: http\n", "        protocol: http2\n");
    let dj = snapshot(&mesh(&http2), "dj");
    let jazz = &dj.resources[CLUSTER]["cds_egress_dj-app_jazz-v1_prod_http2_9080"];
    let jazz = Cluster::decode(&jazz.value[..]).unwrap();
    assert_eq!(jazz.typed_extension_protocol_options.len(), 1);
    assert_eq!(
        names(&dj, ROUTE),
        ["rds_egress_http2_9080", "rds_ingress_http2_9080"]
    );
}

#[test]
fn another_node_or_mesh_is_not_told_anything() {
    let mesh = mesh(DJAPP);
    for id in [
        "mesh/dj-app/virtualNode/folk_prod",
        "mesh/other/virtualNode/dj_prod",
        "mesh/dj-app/virtualGateway/dj_prod",
        "",
    ] {
        assert!(mesh.node_of(id).is_none(), "{id}");
    }
    assert!(
        mesh.node_of("mesh/dj-app@123456789012/virtualNode/dj_prod")
            .is_some()
    );
}

/// What leaves the mesh: by name to Amazon, everything only where the mesh allows it, and HTTP to
/// others on a port of the mesh too.
#[test]
fn the_rest_of_the_world_is_as_the_mesh_says() {
    let chains = |mesh: &Meshes| {
        let dj = snapshot(mesh, "dj");
        let listener = &dj.resources[LISTENER]["lds_egress_0.0.0.0_15001"];
        let listener = Listener::decode(&listener.value[..]).unwrap();
        let chains = listener.filter_chains.iter().map(|chain| {
            let matched = chain.filter_chain_match.clone().unwrap_or_default();
            let port = matched.destination_port.map(|port| port.value);
            (
                port,
                matched.server_names.join(","),
                chain.filters[0].name.clone(),
            )
        });
        let chains: Vec<_> = chains.collect();
        (chains, dj)
    };
    let http = |port| {
        let name = "envoy.filters.network.http_connection_manager";
        (Some(port), String::new(), name.to_owned())
    };
    let tcp = |port, names: &str| {
        let name = "envoy.filters.network.tcp_proxy";
        (port, names.to_owned(), name.to_owned())
    };
    let amazon = tcp(Some(443), "*.amazonaws.com");
    let (dropped, dj) = chains(&mesh(DJAPP));
    assert_eq!(dropped, [http(9080), amazon.clone()]);
    let hosts = route(&dj, "rds_egress_http_9080").virtual_hosts;
    assert_eq!(hosts.len(), 2);

    let allowed = DJAPP.replacen("spec:\n", "spec:\n  egressFilter: {type: ALLOW_ALL}\n", 1);
    let (allowed, dj) = chains(&mesh(&allowed));
    assert_eq!(
        allowed,
        [http(9080), amazon, tcp(None, ""), tcp(Some(443), "")]
    );
    let rest = route(&dj, "rds_egress_http_9080").virtual_hosts[2].clone();
    assert_eq!(rest.domains, ["*"]);
    let Some(Action::Route(action)) = &rest.routes[0].action else {
        panic!("no route");
    };
    let all = "cds_egress_dj-app_mesh-allow-all";
    let to = ClusterSpecifier::Cluster(all.to_owned());
    assert_eq!(action.cluster_specifier, Some(to));
    let cluster = Cluster::decode(&dj.resources[CLUSTER][all].value[..]).unwrap();
    assert_eq!(cluster.lb_policy(), LbPolicy::ClusterProvided);
    let (_, refused) =
        parse(&DJAPP.replacen("spec:\n", "spec:\n  egressFilter: {type: SOME}\n", 1));
    assert!(
        refused[0]
            .why
            .contains("spec.egressFilter.type: unknown variant `SOME`")
    );
}

/// Two meshes, each with its namespaces; names that both want are the older one's.
#[test]
fn objects_are_of_the_mesh_of_their_namespace() {
    let namespace = |name: &str, mesh: &str| {
        format!(
            "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{mesh: {mesh}}}}}\n"
        )
    };
    let other = DJAPP
        .replace("dj-app", "other")
        .replace("namespace: prod", "namespace: dev")
        .replace("prod.svc", "dev.svc");
    let both = format!("{DJAPP}---\n{other}");
    let (_, refused) = parse(&both);
    assert!(
        refused[0].why.contains("spec.meshRef is needed"),
        "{}",
        refused[0]
    );
    let both = format!(
        "{both}{}{}",
        namespace("prod", "dj-app"),
        namespace("dev", "other")
    );
    let meshes = mesh(&both);
    assert!(meshes.node_of("mesh/other/virtualNode/dj_dev").is_some());
    assert!(meshes.node_of("mesh/other/virtualNode/dj_prod").is_none());
    let labels = [("mesh".to_owned(), "other".to_owned())].into();
    assert_eq!(meshes.mesh_of_namespace(&labels).unwrap().name, "other");
    let (meshes, refused) = parse(&format!("{DJAPP}{}", namespace("prod", "elsewhere")));
    assert!(
        refused[0]
            .why
            .contains("no Mesh selects the namespace prod"),
        "{}",
        refused[0]
    );
    assert!(meshes.node_of("mesh/dj-app/virtualNode/dj_prod").is_none());
    let young = "---\napiVersion: appmesh.k8s.aws/v1beta2\nkind: VirtualService\nmetadata: {name: aa, namespace: prod, creationTimestamp: \"2026-11-25T00:00:00Z\"}\nspec: {awsName: jazz.prod.svc.cluster.local, provider: {virtualNode: {virtualNodeRef: {name: dj}}}}\n";
    let (_, refused) = parse(&format!("{DJAPP}{young}"));
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0].what, "VirtualService prod/aa");
}

/// The webhook's question: whose pod is this?
#[test]
fn a_pod_has_one_workload() {
    let labels = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    let meshes = mesh(DJAPP);
    let jazz = labels(&[("app", "jazz"), ("version", "v2"), ("tier", "x")]);
    let workload = meshes.workload_of("prod", &jazz).unwrap().unwrap();
    assert_eq!(workload.node_id(), "mesh/dj-app/virtualNode/jazz-v2_prod");
    assert_eq!(workload.ports().collect::<Vec<_>>(), [9080]);
    assert!(meshes.workload_of("dev", &jazz).unwrap().is_none());
    assert!(
        meshes
            .workload_of("prod", &labels(&[("app", "folk")]))
            .unwrap()
            .is_none()
    );
    let meshes = mesh(&DJAPP.replace("{app: jazz, version: v2}", "{app: jazz}"));
    let several = meshes.workload_of("prod", &labels(&[("app", "jazz"), ("version", "v1")]));
    assert_eq!(
        several.unwrap_err().to_string(),
        "the pod is selected by the podSelector of several VirtualNodes: jazz-v1, jazz-v2"
    );
}
