//! What callers want where no pod runs.

use super::*;

/// With no pod of its own, an object has the demand that its callers count, by both kinds of names
/// of clusters.
#[test]
fn serves_demand_without_pods() {
    let api = TestApi::new();
    api.deployment("jazz-v1");
    api.service("jazz-v1", &[("app", "jazz")]);
    api.service("metal", &[("app", "metal")]);
    api.reports(
        running("dj", "dj-a"),
        vec![
            outbound("cds_egress_m_jazz-v1_prod_http_9080", 7),
            outbound("outbound|9080||metal.prod.svc.cluster.local", 5),
            outbound("outbound|9090||metal.prod.svc.cluster.local", 1),
            outbound("outbound|443||api.example.com", 99),
        ],
    );
    api.reports(
        running("dj", "dj-b"),
        vec![outbound("cds_egress_m_jazz-v1_prod_http_9080", 2)],
    );
    for (object, value) in [
        ("deployments.apps/jazz-v1", "9"),
        ("services/jazz-v1", "9"),
        ("services/metal", "6"),
    ] {
        let answer = ask(&api, &format!("{object}/{RPS}"));
        assert_eq!(answer.item()["value"], value, "{object}");
        assert_eq!(answer.source(), "callers");
    }
    // A pod that is only accepted cannot tell yet; one that runs tells itself.
    api.exists(pending("jazz-v1", "jazz-a"));
    let deployment = format!("deployments.apps/jazz-v1/{RPS}");
    assert_eq!(ask(&api, &deployment).source(), "callers");
    api.reports(running("jazz-v1", "jazz-a"), vec![inbound(4)]);
    let own = ask(&api, &deployment);
    assert_eq!((own.source(), &own.item()["value"]), ("pods", &json!("4")));
}

/// A demand of 0 is a number where callers are known, and no number where calls may hide.
#[test]
fn makes_no_demand_up() {
    let api = TestApi::new();
    let cluster = "cds_egress_m_jazz_prod_http_9080";
    let deployment = format!("deployments.apps/jazz/{RPS}");
    api.reports(running("dj", "dj-a"), vec![outbound(cluster, 0)]);
    assert_eq!(ask(&api, &deployment).item()["value"], "0");
    api.reports(running("mute", "quiet"), vec![outbound("", 0)]);
    assert_eq!(ask(&api, &deployment).item()["value"], "0");
    api.reports(running("mute", "loud"), vec![outbound("other", 3)]);
    let (code, message) = ask(&api, &deployment).refusal();
    assert_eq!(code, 503);
    assert!(
        message.contains("send no requests, but pod prod/loud does not count its requests"),
        "{message}"
    );
    // A caller without a value makes the sum too low.
    let starting = running("dj", "dj-b");
    let link = api.connect(&starting.key, REPORTED);
    let broken = aggregator_core::report::Report {
        vms_expected: 2,
        ..report(REPORTED, vec![outbound(cluster, 3)])
    };
    api.store.apply(REPORTED, &link, &broken).unwrap();
    api.exists(starting);
    let (code, message) = ask(&api, &deployment).refusal();
    assert_eq!(code, 503);
    assert!(
        message.contains("since 1 of its callers have no value: 1 lost a Wasm VM"),
        "{message}"
    );
}

/// Clusters of which nothing tells where they lead are named, counted, and can be told by the
/// operator's list.
#[test]
fn names_clusters_that_lead_nowhere_known() {
    let ask_orders = |api: &TestApi| {
        api.reports(
            running("dj", "dj-a"),
            vec![outbound("orders-upstream", 8), outbound("", 1)],
        );
        ask(api, &format!("services/orders/{RPS}"))
    };
    let api = TestApi::new();
    let (code, message) = ask_orders(&api).refusal();
    assert_eq!(code, 404);
    assert!(
        message.ends_with(
            "none of the 1 clusters that pods call is known to lead to it; the destination of 1, such as \
             \"orders-upstream\", is unknown: set it by --cluster-destination"
        ),
        "{message}"
    );
    assert_eq!(api.refused("unmapped_cluster"), 1);
    let list = ["orders-upstream=service/prod/orders"];
    let api = TestApi::with_metrics(crate::MetricSettings {
        clusters: crate::cluster_names::ClusterNames::new(list).unwrap(),
        ..crate::MetricSettings::default()
    });
    assert_eq!(ask_orders(&api).item()["value"], "8");
}

/// What callers cannot tell is said, not guessed at from what they can.
#[test]
fn limits_demand_to_what_callers_tell() {
    let api = TestApi::new();
    api.reports(
        running("dj", "dj-a"),
        vec![outbound("cds_egress_m_jazz_prod_http_9080", 7)],
    );
    for (metric, expected) in [
        (
            "appmesh_upstream_requests_per_second",
            "its callers report only requests_per_second and inflight_requests",
        ),
        ("appmesh_error_ratio", "its callers report only"),
        (
            "appmesh_requests_per_second?metricLabelSelector=code_class%3D5xx",
            "is not divided by direction=outbound, cluster or code_class",
        ),
        (
            "appmesh_requests_per_second?metricLabelSelector=direction%3Doutbound",
            "is not divided by",
        ),
    ] {
        let (code, message) = ask(&api, &format!("services/jazz/{metric}")).refusal();
        assert_eq!(code, 404, "{metric}");
        assert!(message.contains(expected), "{message}");
    }
}
