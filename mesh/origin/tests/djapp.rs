//! djapp's custom resources as Envoy's configuration, and what is refused.
#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use mesh_origin::envoy::{CLUSTER, LISTENER, Place, ROUTE, Snapshot};
use mesh_origin::mesh::Mesh;
use prost::Message as _;

const DJAPP: &str = include_str!("../../../tests/mesh/djapp.yaml");

fn mesh(text: &str) -> Mesh {
    let (mesh, refused) = Mesh::parse([("djapp.yaml", text)]);
    assert_eq!(refused, []);
    mesh
}

fn snapshot(mesh: &Mesh, node: &str) -> Snapshot {
    let id = format!("mesh/dj-app/virtualNode/{node}_prod");
    Snapshot::new(mesh, mesh.node_of(&id).unwrap(), &Place::default())
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
            "cds_egress_dj-app_jazz-v1_prod_http_9080",
            "cds_egress_dj-app_jazz-v2_prod_http_9080",
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
    // Who calls nobody has no listener for calls.
    assert_eq!(
        names(&snapshot(&mesh, "jazz-v1"), LISTENER),
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
fn health_checks_and_retries_are_taken_over() {
    let dj = snapshot(&mesh(DJAPP), "dj");
    let jazz = &dj.resources[CLUSTER]["cds_egress_dj-app_jazz-v1_prod_http_9080"];
    let jazz = Cluster::decode(&jazz.value[..]).unwrap();
    let check = &jazz.health_checks[0];
    assert_eq!(check.interval.unwrap().seconds, 5);
    assert_eq!(check.unhealthy_threshold.unwrap().value, 2);
    let route = route(&dj, "rds_egress_http_9080");
    let Some(Action::Route(action)) = &route.virtual_hosts[0].routes[0].action else {
        panic!("no route");
    };
    let retries = action.retry_policy.as_ref().unwrap();
    assert_eq!(retries.retry_on, "gateway-error,connect-failure");
    assert_eq!(retries.num_retries.unwrap().value, 2);
}

#[test]
fn http2_is_spoken_to_who_speaks_it() {
    let http2 = DJAPP
        .replace("protocol: http\n", "protocol: http2\n")
        .replace("httpRoute:", "http2Route:");
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
        "mesh/dj-app/virtualNode/metal-v1_prod",
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

/// What is not served is refused by name, and the rest is served.
#[test]
fn nothing_is_ignored() {
    let virtual_node = |spec: &str| {
        format!(
            "{DJAPP}---\napiVersion: appmesh.k8s.aws/v1beta2\nkind: VirtualNode\nmetadata: {{name: x, namespace: prod}}\nspec: {spec}\n"
        )
    };
    let kind = |kind: &str, spec: &str| {
        format!(
            "{DJAPP}---\napiVersion: appmesh.k8s.aws/v1beta2\nkind: {kind}\nmetadata: {{name: x, namespace: prod}}\nspec: {spec}\n"
        )
    };
    for (text, what, why) in [
        (
            virtual_node(
                "{listeners: [{portMapping: {port: 1, protocol: http}, tls: {mode: STRICT}}]}",
            ),
            "VirtualNode prod/x",
            "tls",
        ),
        (
            virtual_node("{listeners: [{portMapping: {port: 1, protocol: grpc}}]}"),
            "VirtualNode prod/x",
            "grpc",
        ),
        (
            virtual_node(
                "{listeners: [{portMapping: {port: 1, protocol: http}, outlierDetection: {}}]}",
            ),
            "VirtualNode prod/x",
            "outlierDetection",
        ),
        (
            kind("VirtualGateway", "{}"),
            "VirtualGateway prod/x",
            "the kind VirtualGateway is not served",
        ),
        (
            kind(
                "VirtualService",
                "{provider: {virtualNode: {virtualNodeRef: {name: nobody}}}}",
            ),
            "VirtualService prod/x",
            "nobody",
        ),
        (
            kind("VirtualService", "{}"),
            "VirtualService prod/x",
            "spec.provider",
        ),
        (
            kind(
                "VirtualRouter",
                "{listeners: [], routes: [{name: r, httpRoute: {match: {prefix: /, headers: []}, action: {weightedTargets: []}}}]}",
            ),
            "VirtualRouter prod/x",
            "headers",
        ),
    ] {
        let (mesh, refused) = Mesh::parse([("djapp.yaml", text.as_str())]);
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert_eq!(refused[0].what, what);
        assert!(refused[0].why.contains(why), "{}", refused[0]);
        assert_eq!(weights(&snapshot(&mesh, "dj")).len(), 2);
    }
    // What is nothing of App Mesh is left alone, and what is no YAML is refused by its file.
    let (_, refused) = Mesh::parse([
        ("a.yaml", "kind: Deployment\napiVersion: apps/v1\n"),
        ("b.yaml", "{"),
    ]);
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].what, "b.yaml");
}

/// What refers to nothing, and what Envoy would reject as a whole.
#[test]
fn what_leads_nowhere_is_refused() {
    for (text, what, why) in [
        (
            DJAPP.replace(
                "name: jazz-v2\n              weight",
                "name: jazz-v3\n              weight",
            ),
            "VirtualRouter prod/jazz-router",
            "no VirtualNode jazz-v3",
        ),
        (
            DJAPP
                .replace("weight: 95", "weight: 0")
                .replace("weight: 5\n", "weight: 0\n"),
            "VirtualRouter prod/jazz-router",
            "add up to 0",
        ),
        (
            format!(
                "{DJAPP}---\napiVersion: appmesh.k8s.aws/v1beta2\nkind: VirtualService\nmetadata: {{name: zz, namespace: prod}}\nspec: {{awsName: jazz.prod.svc.cluster.local, provider: {{virtualNode: {{virtualNodeRef: {{name: dj}}}}}}}}\n"
            ),
            "VirtualService prod/zz",
            "is taken",
        ),
        (
            DJAPP.replace(
                "virtualServiceRef:\n          name: jazz",
                "virtualServiceRef:\n          name: folk",
            ),
            "VirtualNode prod/dj",
            "no VirtualService folk",
        ),
    ] {
        let (_, refused) = Mesh::parse([("djapp.yaml", text.as_str())]);
        let first = &refused[0];
        assert_eq!(first.what, what, "{refused:?}");
        assert!(first.why.contains(why), "{first}");
    }
}
