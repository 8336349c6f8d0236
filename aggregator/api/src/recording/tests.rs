//! Requests by URL, and what the ledger then says of them.

use aggregator_core::pod::{Phase, PodInfo};
use http::Request;
use serde_json::{Value, json};

use super::*;
use crate::testing::{EXTERNAL, NOW, TestApi, V2, inbound, running, wall};

const RPS: &str = "appmesh_requests_per_second";
const HPA_USER: &str = "system:serviceaccount:kube-system:horizontal-pod-autoscaler";

/// Two pods of jazz with 30 and 40 requests a second, one that never reported, and their
/// Deployment.
fn jazz() -> TestApi {
    let api = TestApi::new();
    api.deployment("jazz");
    api.reports(running("jazz", "jazz-a"), vec![inbound(30)]);
    api.reports(running("jazz", "jazz-b"), vec![inbound(40)]);
    api.exists(running("jazz", "jazz-c"));
    api
}

/// An HPA in namespace prod of Deployment `target`, with `metrics` and three replicas.
fn autoscaler(api: &TestApi, name: &str, target: &str, metrics: &Value) {
    let object = json!({
        "metadata": {"namespace": "prod", "name": name},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target},
            "minReplicas": 1,
            "maxReplicas": 20,
            "metrics": metrics,
        },
        "status": {"currentReplicas": 3, "desiredReplicas": 3},
    });
    let info = aggregator_directory::read_autoscaler(&object).unwrap();
    api.directory.upsert_autoscaler(info).unwrap();
}

fn of_pods(average: &str) -> Value {
    let target = json!({"type": "AverageValue", "averageValue": average});
    json!([{"type": "Pods", "pods": {"metric": {"name": RPS}, "target": target}}])
}

fn ask(api: &TestApi, user: &str, path: &str) {
    let mut request = Request::get(path)
        .header(USER_AGENT, "kube-controller-manager/v1.36.2")
        .body(())
        .unwrap();
    request.extensions_mut().insert(Reader(user.to_owned()));
    api.send(request);
}

fn pods(selector: &str) -> String {
    format!("{V2}/namespaces/prod/pods/*/{RPS}?labelSelector={selector}")
}

/// The newest read of namespace prod.
fn newest(api: &TestApi) -> Value {
    let list = api.view("namespaces/prod/reads").list();
    assert_eq!(list["kind"], "ReadList");
    list["items"][0].clone()
}

/// A read of pods is recorded with the HPA, what it wants, and each pod, whether it has a value or
/// not.
#[test]
fn records_each_pod() {
    let api = jazz();
    autoscaler(&api, "jazz-hpa", "jazz", &of_pods("20"));
    let pending = PodInfo {
        phase: Phase::Pending,
        ..running("jazz", "jazz-b")
    };
    api.exists(pending);
    ask(&api, HPA_USER, &pods("app%3Djazz"));
    let read = newest(&api);
    let expected = json!({
        "atUnixMs": wall(NOW).0,
        "user": HPA_USER,
        "userAgent": "kube-controller-manager/v1.36.2",
        "hpa": "jazz-hpa",
        "metric": RPS,
        "object": "pods",
        "selector": "app=jazz",
        "code": 200,
        "sumMilli": 70_000,
        "source": "pods",
        "pods": 2,
        "ageMs": 700,
        "windowMs": 10_000,
        "leftOut": {"never_reported": 1},
        // 30 are more than 20, but with 0 for the others the mean is 10: it stays at 3.
        "computedReplicas": 3,
        "each": [
            {"name": "jazz-a", "valueMilli": 30_000, "windowMs": 10_000, "ageMs": 700, "state": "live"},
            {"name": "jazz-b", "valueMilli": 40_000, "windowMs": 10_000, "ageMs": 700, "state": "live", "pending": true},
            {"name": "jazz-c", "valueMilli": null, "windowMs": 0, "ageMs": 0, "state": "never_reported"},
        ],
    });
    assert_eq!(read, expected);
}

/// Refusals are recorded with their sentences, and only shown in the namespace asked for.
#[test]
fn records_refusals() {
    let api = jazz();
    autoscaler(&api, "jazz-hpa", "jazz", &of_pods("20"));
    ask(
        &api,
        "jane",
        &format!("{V2}/namespaces/prod/services/folk/{RPS}"),
    );
    let read = newest(&api);
    assert_eq!(read["code"], 404);
    let message = read["message"].as_str().unwrap();
    assert!(message.contains("for service prod/folk"), "{message}");
    assert_eq!(read["object"], "services/folk");
    assert_eq!(read["sumMilli"], Value::Null);
    let other = api.view("namespaces/test/reads").list();
    assert_eq!(other["items"], json!([]));
}

/// Metrics of an HPA for Deployment jazz as a whole, of which it wants 35 in all.
fn of_total(kind: &str, rest: Value) -> Value {
    let mut metric = rest;
    metric["target"] = json!({"type": "Value", "value": "35"});
    json!([{"type": kind, kind.to_lowercase(): metric}])
}

/// The HPA is named where user, metric, object and selectors leave one, and its arithmetic follows.
#[test]
fn names_the_hpa() {
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "jazz"});
    let of_object = of_total(
        "Object",
        json!({"metric": {"name": RPS}, "describedObject": deployment}),
    );
    let selector = json!({"matchLabels": {"deployment": "jazz"}});
    let of_external = of_total(
        "External",
        json!({"metric": {"name": RPS, "selector": selector}}),
    );
    let object = format!("{V2}/namespaces/prod/deployments.apps/jazz/{RPS}");
    let external = format!("{EXTERNAL}/namespaces/prod/{RPS}?labelSelector=deployment%3Djazz");
    let other_window = pods("app%3Djazz") + "&metricLabelSelector=window%3D15s";
    let (pods, same_pods, other_pods) = (
        pods("app%3Djazz"),
        pods("app%3Djazz,pod!%3Dx"),
        pods("app%3Dmetal"),
    );
    let of_pods = of_pods("10");
    for (what, metrics, path, user, expected) in [
        ("pods", &of_pods, &pods, HPA_USER, Some(7)),
        ("somebody else", &of_pods, &pods, "jane", None),
        ("another selector", &of_pods, &same_pods, HPA_USER, Some(7)),
        ("other pods", &of_pods, &other_pods, HPA_USER, None),
        ("another window", &of_pods, &other_window, HPA_USER, None),
        ("an object", &of_object, &object, HPA_USER, Some(6)),
        ("no metric of it", &of_pods, &object, HPA_USER, None),
        ("outside", &of_external, &external, HPA_USER, Some(6)),
    ] {
        let api = TestApi::new();
        api.deployment("jazz");
        for pod in ["jazz-a", "jazz-b"] {
            api.reports(running("jazz", pod), vec![inbound(35)]);
        }
        api.reports(running("metal", "metal-a"), vec![inbound(10)]);
        autoscaler(&api, "jazz-hpa", "jazz", metrics);
        ask(&api, user, path);
        let read = newest(&api);
        assert_eq!(read["code"], 200, "{what}: {read}");
        let hpa = expected.map_or("", |_| "jazz-hpa");
        assert_eq!(read["hpa"].as_str().unwrap_or_default(), hpa, "{what}");
        assert_eq!(read["computedReplicas"].as_u64(), expected, "{what}");
    }
}

/// Where two HPAs may have asked, none is named: of one target, or of targets without pods.
#[test]
fn names_none_of_two() {
    let api = jazz();
    autoscaler(&api, "one", "jazz", &of_pods("20"));
    ask(&api, HPA_USER, &pods("app%3Dfolk"));
    let read = newest(&api);
    assert_eq!(
        (read["code"].as_u64(), &read["hpa"]),
        (Some(404), &json!("one"))
    );
    autoscaler(&api, "folk", "folk", &of_pods("20"));
    ask(&api, HPA_USER, &pods("app%3Dfolk"));
    assert_eq!(
        newest(&api)["hpa"],
        "folk",
        "the only one whose target has no pods"
    );
    autoscaler(&api, "two", "jazz", &of_pods("10"));
    autoscaler(&api, "folk-2", "folk", &of_pods("10"));
    for selector in ["app%3Djazz", "app%3Dfolk"] {
        ask(&api, HPA_USER, &pods(selector));
        assert_eq!(newest(&api)["hpa"], Value::Null, "{selector}");
    }
}

/// The last read of each HPA is a metric, until the HPA is gone.
#[test]
fn measures_what_hpas_read() {
    let api = jazz();
    autoscaler(&api, "jazz-hpa", "jazz", &of_pods("20"));
    autoscaler(&api, "folk-hpa", "folk", &of_pods("20"));
    for (user, selector) in [
        (HPA_USER, "app%3Djazz"),
        ("jane", "app%3Djazz"),
        (HPA_USER, "app%3Dfolk"),
    ] {
        ask(&api, user, &pods(selector));
    }
    let series = |hpa: &str| {
        let metrics = api.metrics();
        let prefix = "meshmeter_hpa_";
        let of_hpa = format!("namespace=\"prod\",hpa=\"{hpa}\",metric=\"{RPS}\"");
        let lines = metrics.lines().filter(|line| line.contains(&of_hpa));
        let lines = lines.map(|line| line.replace(&of_hpa, "").replace(prefix, ""));
        lines.collect::<Vec<_>>()
    };
    let expected = [
        "read_age_seconds{} 0.7",
        "read_value_ratio{} 1.75",
        "read_pods_left_out{} 1.0",
        "reads_total{,result=\"answered\"} 1",
        "reads_total{,result=\"refused\"} 0",
    ];
    assert_eq!(series("jazz-hpa"), expected);
    let expected = [
        "read_pods_left_out{} 0.0",
        "reads_total{,result=\"answered\"} 0",
        "reads_total{,result=\"refused\"} 1",
    ];
    assert_eq!(series("folk-hpa"), expected);
    api.directory.remove_autoscaler("prod", "jazz-hpa");
    assert!(series("jazz-hpa").is_empty());
}
