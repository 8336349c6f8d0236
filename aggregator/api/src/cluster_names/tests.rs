use super::*;

fn service(namespace: &str, name: &str) -> Destination {
    Destination::Service {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

fn node(namespace: &str, name: &str) -> Destination {
    Destination::VirtualNode {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

/// App Mesh's names, as its control plane gives them, with meshes and prefixes of any spelling.
#[test]
fn reads_app_mesh_names() {
    for (cluster, expected) in [
        (
            "cds_egress_dj-app_metal-v1_prod_http_9080",
            node("prod", "metal-v1"),
        ),
        (
            "cds_egress_my_odd_mesh_metal-v1_prod_grpc_50051",
            node("prod", "metal-v1"),
        ),
        ("app_egress_m_jazz_prod_http2_9080", node("prod", "jazz")),
        ("cds_egress_m_jazz.b_prod_tcp_1", node("prod", "jazz.b")),
        ("cds_ingress_dj-app_dj_prod_http_9080", Destination::Own),
        (
            "cds_ingress_howto-k8s-connection-pools_green_howto-k8s-connection-pools_http_8080",
            Destination::Own,
        ),
        ("cds_egress_dj-app_amazonaws", Destination::Elsewhere),
        ("cds_egress_dj-app_mesh-allow-all", Destination::Elsewhere),
    ] {
        let names = ClusterNames::default();
        assert_eq!(names.destination(cluster), Some(expected), "{cluster}");
    }
}

/// Istio's names, with subsets and in the form of its gateways.
#[test]
fn reads_istio_names() {
    for (cluster, expected) in [
        (
            "outbound|9080||metal.prod.svc.cluster.local",
            service("prod", "metal"),
        ),
        (
            "outbound|9080|v1|metal.prod.svc.my.domain",
            service("prod", "metal"),
        ),
        (
            "outbound_.9080_._.metal.prod.svc.cluster.local",
            service("prod", "metal"),
        ),
        (
            "outbound_.9080_.v1_.metal.prod.svc.cluster.local",
            service("prod", "metal"),
        ),
        ("outbound|443||api.example.com", Destination::Elsewhere),
        ("outbound|443||prod.svc", Destination::Elsewhere),
        ("inbound|9080||", Destination::Own),
        (
            "inbound|9080|http|metal.prod.svc.cluster.local",
            Destination::Own,
        ),
        ("InboundPassthroughClusterIpv4", Destination::Own),
        ("PassthroughCluster", Destination::Elsewhere),
        ("BlackHoleCluster", Destination::Elsewhere),
    ] {
        let names = ClusterNames::default();
        assert_eq!(names.destination(cluster), Some(expected), "{cluster}");
    }
}

/// What looks nearly like one of them is not guessed at.
#[test]
fn does_not_guess() {
    for cluster in [
        "",
        "other",
        "jazz",
        "local_service",
        "cds_egress",
        "cds_egress_m",
        "cds_egress_m_jazz_http_9080",
        "cds_egress_m_jazz_prod_http_0",
        "cds_egress_m_jazz_prod_http_99999",
        "cds_egress_m_jazz_prod_udp_9080",
        "cds_egress_m_Jazz_prod_http_9080",
        "cds_egress_m_jazz_pr.od_http_9080",
        "cds_ingress_m_gw_self_redirect_http_15001x",
        "outbound|x||metal.prod.svc.cluster.local",
        "outbound|9080|metal.prod.svc.cluster.local",
        "sideways|9080||metal.prod.svc.cluster.local",
        "prometheus_stats",
    ] {
        assert_eq!(
            ClusterNames::default().destination(cluster),
            None,
            "{cluster}"
        );
    }
}

/// The operator's list knows what no pattern knows, and wins over one that would.
#[test]
fn takes_the_list_first() {
    let names = ClusterNames::new([
        "orders-upstream=service/prod/orders",
        "a=b=deployment/prod/shop",
        "cds_egress_m_jazz_prod_http_9080=statefulset/music/jazz",
    ])
    .unwrap();
    assert_eq!(
        names.destination("orders-upstream"),
        Some(service("prod", "orders"))
    );
    let shop = names.destination("a=b").unwrap();
    assert!(shop.is_workload("prod", Workload::Deployment, "shop"));
    assert!(!shop.is_workload("prod", Workload::StatefulSet, "shop"));
    assert!(!shop.is_workload("test", Workload::Deployment, "shop"));
    assert!(!shop.is_service("prod", "shop"));
    let jazz = names
        .destination("cds_egress_m_jazz_prod_http_9080")
        .unwrap();
    assert!(jazz.is_workload("music", Workload::StatefulSet, "jazz"));
    assert!(!jazz.is_service("prod", "jazz"));
}

/// A virtual node stands for the service and the workload of its name, a service for itself alone.
#[test]
fn tells_who_is_meant() {
    let node = node("prod", "jazz-v1");
    assert!(node.is_service("prod", "jazz-v1"));
    assert!(node.is_workload("prod", Workload::Deployment, "jazz-v1"));
    assert!(!node.is_workload("prod", Workload::Deployment, "jazz"));
    let service = service("prod", "jazz");
    assert!(service.is_service("prod", "jazz"));
    assert!(!service.is_service("test", "jazz"));
    assert!(!service.is_workload("prod", Workload::Deployment, "jazz"));
    for nobody in [Destination::Own, Destination::Elsewhere] {
        assert!(!nobody.is_service("prod", "jazz"));
        assert!(!nobody.is_workload("prod", Workload::Job, "jazz"));
    }
}

/// A wrong entry is refused by name.
#[test]
fn refuses_wrong_entries() {
    for (rules, expected) in [
        (
            vec!["orders"],
            "\"orders\" is not of the form CLUSTER=KIND/NAMESPACE/NAME",
        ),
        (
            vec!["a=service/orders"],
            "\"a=service/orders\" is not of the form CLUSTER=KIND/NAMESPACE/NAME",
        ),
        (
            vec!["=service/prod/orders"],
            "\"=service/prod/orders\" is not of the form CLUSTER=KIND/NAMESPACE/NAME",
        ),
        (
            vec!["a=pod/prod/orders"],
            "\"a=pod/prod/orders\": unknown kind \"pod\"; known kinds: service, deployment, replicaset, \
             statefulset, daemonset, job",
        ),
        (
            vec!["a=service/Prod/orders"],
            "\"a=service/Prod/orders\": \"Prod\" is not valid: at most 63 lower-case letters, digits and '-', \
             beginning and ending with a letter or digit",
        ),
        (
            vec!["a=service/prod/a", "a=service/prod/b"],
            "the cluster \"a\" is given more than once",
        ),
    ] {
        let error = ClusterNames::new(rules).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    let many = (0..=CLUSTER_RULES_MAX).map(|n| format!("c{n}=service/prod/a"));
    assert_eq!(
        ClusterNames::new(many).unwrap_err(),
        ClusterRuleError::TooMany
    );
}

proptest::proptest! {
    /// Whatever a sidecar names its clusters, reading the name ends without a panic.
    #[test]
    fn survives_any_name(cluster in "(cds_|app_)?(egress|ingress|outbound|inbound)?[_|.a-z0-9]{0,40}") {
        let _ = ClusterNames::default().destination(&cluster);
    }
}
