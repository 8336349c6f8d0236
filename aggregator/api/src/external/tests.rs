//! External metrics, asked by URL as clients send them.

use serde_json::json;

use crate::testing::{EXTERNAL, TestApi, TestResponse, inbound, outbound, running};

fn api() -> TestApi {
    let api = TestApi::new();
    api.deployment("jazz");
    api.service("jazz", &[("app", "jazz")]);
    api.reports(running("jazz", "jazz-a"), vec![inbound(3)]);
    api.reports(running("jazz", "jazz-b"), vec![inbound(1)]);
    api.reports(
        running("metal", "metal-a"),
        vec![inbound(10), outbound("cds_egress_m_folk_prod_http_9080", 6)],
    );
    api
}

fn ask(api: &TestApi, rest: &str) -> TestResponse {
    api.get(&format!("{EXTERNAL}/namespaces/prod/{rest}"))
}

/// One item whose labels say what was summed, byte for byte as Go's types print it; the name in any
/// case, and the window the true one: of a first report only the whole is known.
#[test]
fn serves_one_sum() {
    let api = api();
    let answer = ask(
        &api,
        "Appmesh_Requests_per_Second?labelSelector=deployment%3Djazz%2Cwindow%3D5s",
    );
    assert_eq!(
        answer.body,
        r#"{"kind":"ExternalMetricValueList","apiVersion":"external.metrics.k8s.io/v1beta1","metadata":{},"#
            .to_owned()
            + r#""items":[{"metricName":"appmesh_requests_per_second","#
            + r#""metricLabels":{"deployment":"jazz","namespace":"prod","source":"pods","window":"5s"},"#
            + r#""timestamp":"2026-11-23T18:15:23Z","window":10,"value":"4"}]}"#
    );
    assert_eq!(answer.headers["meshmeter-signal-age-ms"], "700");
}

/// Pods by their labels in full syntax, a service, an owner, the whole namespace, or who calls it.
#[test]
fn selects_what_is_summed() {
    let api = api();
    for (selector, value, source) in [
        ("", "14", "pods"),
        ("app+in+%28jazz%2Cmetal%29", "14", "pods"),
        ("app%21%3Djazz", "10", "pods"),
        ("service+in+%28jazz%29", "4", "pods"),
        ("replicaset%3Djazz-1", "4", "pods"),
        ("service%3Dfolk", "6", "callers"),
        ("app%3Dmetal%2Cdirection%3Doutbound", "6", "pods"),
    ] {
        let answer = ask(
            &api,
            &format!("appmesh_requests_per_second?labelSelector={selector}"),
        );
        let item = answer.item();
        assert_eq!(item["value"], value, "{selector}");
        assert_eq!(item["metricLabels"]["source"], source, "{selector}");
    }
    let whole = ask(&api, "appmesh_requests_per_second").item();
    assert_eq!(
        whole["metricLabels"],
        json!({"namespace": "prod", "source": "pods"})
    );
}

/// What cannot be followed is refused by name.
#[test]
fn refuses_by_name() {
    let api = api();
    let rps = "appmesh_requests_per_second";
    for (rest, code, expected) in [
        (
            "queue".to_owned(),
            404,
            "could not find the external metric queue; known metrics: appmesh_error_ratio, ",
        ),
        (
            format!("{rps}?labelSelector=service%3Djazz%2Cdeployment%3Djazz"),
            400,
            "and ",
        ),
        (
            format!("{rps}?labelSelector=app%3Djazz%2Cservice%3Djazz"),
            400,
            "labelSelector: service names the pods already, so the label \"app\" cannot select",
        ),
        (
            format!("{rps}?labelSelector=service"),
            400,
            "labelSelector: service: only service=NAME is supported, with one name",
        ),
        (
            format!("{rps}?labelSelector=service%3DJazz"),
            400,
            "labelSelector: service: \"Jazz\" is not valid",
        ),
        (
            format!("{rps}?labelSelector=window%3D5"),
            400,
            "labelSelector: window: \"5\" is not valid",
        ),
        (
            format!("{rps}?metricLabelSelector=window%3D5s"),
            400,
            "metricLabelSelector: external metrics are selected by labelSelector alone",
        ),
        (
            format!("{rps}?labelSelector=app%3Dfolk"),
            404,
            "there are no pods matching app=folk in namespace prod; 3 pods are known",
        ),
    ] {
        let (got, message) = ask(&api, &rest).refusal();
        assert_eq!(got, code, "{rest}");
        assert!(message.contains(expected), "{message}");
    }
}

/// A pod that was selected and does not report is a doubt; in the whole namespace it is one without
/// a sidecar.
#[test]
fn doubts_silent_pods_that_were_selected() {
    let api = api();
    api.exists(running("jazz", "jazz-c"));
    let selected = ask(&api, "appmesh_requests_per_second?labelSelector=app%3Djazz");
    let (code, message) = selected.refusal();
    assert_eq!(code, 503);
    assert!(
        message.starts_with(
            "the sum of appmesh_requests_per_second of pods matching app=jazz in namespace prod would be too low"
        ),
        "{message}"
    );
    let whole = ask(&api, "appmesh_requests_per_second").item();
    assert_eq!(whole["value"], "14");
}
