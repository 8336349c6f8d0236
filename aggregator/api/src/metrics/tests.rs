//! Every form of resource, asked by its URL as clients send it.

use aggregator_core::pod::{Phase, PodInfo};
use aggregator_core::query::NoValue;
use aggregator_core::report::SeriesTotals;
use aggregator_core::series::Direction;
use common_time::{Monotonic, UnixMillis};
use serde_json::json;

use crate::testing::{
    NOW, REPORTED, TestApi, TestResponse, V2, inbound, outbound, pending, report, responses,
    running, series, wall,
};

mod demand;

const RPS: &str = "appmesh_requests_per_second";

fn ask(api: &TestApi, path: &str) -> TestResponse {
    api.get(&format!("{V2}/namespaces/prod/{path}"))
}

/// Two pods of jazz with 3 and 1.5 requests a second; one of metal with 10.
fn jazz_and_metal() -> TestApi {
    let api = TestApi::new();
    api.deployment("jazz");
    api.service("jazz", &[("app", "jazz")]);
    api.service("none", &[("app", "none")]);
    api.service("bare", &[]);
    let half = SeriesTotals {
        requests: Some(15),
        ..SeriesTotals::default()
    };
    api.reports(running("jazz", "jazz-a"), vec![inbound(3)]);
    api.reports(
        running("jazz", "jazz-b"),
        vec![series(Direction::Inbound, "", half)],
    );
    api.reports(running("metal", "metal-a"), vec![inbound(10)]);
    api
}

/// The lists of pods: all that match, each with its own value, in both versions, over the true
/// window: of a first report only the whole is known.
#[test]
fn lists_pods() {
    let api = jazz_and_metal();
    let answer = ask(&api, &format!("pods/%2A/{RPS}?labelSelector=app%3Djazz"));
    let list = answer.list();
    assert_eq!(list["kind"], "MetricValueList");
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    assert_eq!(
        items[1],
        json!({
            "describedObject": {"kind": "Pod", "namespace": "prod", "name": "jazz-b", "apiVersion": "v1"},
            "metric": {"name": RPS, "selector": null},
            "timestamp": "2026-11-23T18:15:23Z",
            "windowSeconds": 10,
            "value": "1500m",
        })
    );
    assert_eq!(answer.headers["meshmeter-signal-age-ms"], "700");
    assert_eq!(answer.source(), "pods");
    let old = api.get(&format!(
        "/apis/custom.metrics.k8s.io/v1beta1/namespaces/prod/pods/jazz-a/{RPS}?metricLabelSelector=window%3D5s"
    ));
    assert_eq!(
        old.item(),
        json!({
            "describedObject": {"kind": "Pod", "namespace": "prod", "name": "jazz-a", "apiVersion": "v1"},
            "metricName": RPS,
            "timestamp": "2026-11-23T18:15:23Z",
            "window": 10,
            "value": "3",
            "selector": {"matchLabels": {"window": "5s"}},
        })
    );
    assert_eq!(
        wall(REPORTED),
        UnixMillis(1_795_457_723_300),
        "the timestamp above"
    );
}

/// Every object but pods is exactly one item: the sum of its pods, described as what was asked for.
#[test]
fn sums_objects() {
    let api = jazz_and_metal();
    for (path, value, object) in [
        (
            "metrics",
            "14500m",
            json!({"kind": "Namespace", "name": "prod", "apiVersion": "v1"}),
        ),
        (
            "namespaces/prod",
            "14500m",
            json!({"kind": "Namespace", "name": "prod", "apiVersion": "v1"}),
        ),
        (
            "services/jazz",
            "4500m",
            json!({"kind": "Service", "namespace": "prod", "name": "jazz", "apiVersion": "v1"}),
        ),
        (
            "deployments.apps/jazz",
            "4500m",
            json!({"kind": "Deployment", "namespace": "prod", "name": "jazz", "apiVersion": "apps/v1"}),
        ),
        (
            "replicasets.apps/jazz-1",
            "4500m",
            json!({"kind": "ReplicaSet", "namespace": "prod", "name": "jazz-1", "apiVersion": "apps/v1"}),
        ),
        (
            "replicasets.apps/metal-1",
            "10",
            json!({"kind": "ReplicaSet", "namespace": "prod", "name": "metal-1", "apiVersion": "apps/v1"}),
        ),
    ] {
        let answer = ask(&api, &format!("{path}/{RPS}"));
        let item = answer.item();
        assert_eq!(item["value"], value, "{path}");
        assert_eq!(item["describedObject"], object, "{path}");
        assert_eq!(answer.source(), "pods");
    }
    let cluster_scoped = api.get(&format!("{V2}/namespaces/prod/{RPS}"));
    assert_eq!(cluster_scoped.item()["value"], "14500m");
    let old = api.get(&format!(
        "/apis/custom.metrics.k8s.io/v1beta1/namespaces/prod/services/jazz/{RPS}"
    ));
    assert_eq!(old.item()["metricName"], RPS);
}

/// The metrics, their selectors and the prefix of their names.
#[test]
fn serves_every_metric() {
    let api = TestApi::new();
    let codes = |list: &[(u32, u64)]| SeriesTotals {
        upstream_attempts: Some(70),
        inflight: Some(2),
        inflight_ns: Some(15_000_000_000),
        ..responses(list)
    };
    api.reports(
        running("jazz", "jazz-a"),
        vec![series(
            Direction::Inbound,
            "",
            codes(&[(200, 60), (503, 40)]),
        )],
    );
    api.reports(
        running("jazz", "jazz-b"),
        vec![series(Direction::Inbound, "", codes(&[(200, 300)]))],
    );
    for (metric, value) in [
        ("requests_per_second", "40"),
        ("upstream_requests_per_second", "14"),
        ("inflight_requests", "3"),
        ("responses_per_second", "40"),
        (
            "responses_per_second?metricLabelSelector=code_class%3D2xx",
            "36",
        ),
        (
            "requests_per_second?metricLabelSelector=code_class%3D5xx",
            "4",
        ),
        // 40 of 400, and not 40 % of one and 0 % of the other.
        ("error_ratio", "100m"),
        (
            "requests_per_second?metricLabelSelector=direction%3Doutbound",
            "0",
        ),
    ] {
        let answer = ask(&api, &format!("metrics/appmesh_{metric}"));
        assert_eq!(answer.item()["value"], value, "{metric}");
    }
    let list = ask(&api, "pods/*/appmesh_error_ratio").list();
    assert_eq!(list["items"][0]["value"], "400m");
    let refused = ask(
        &api,
        "metrics/appmesh_error_ratio?metricLabelSelector=code_class%3D5xx",
    );
    assert_eq!(refused.status, 400);
}

/// A ratio of nothing is unknown; a pod in which no request ended adds nothing to the ratio of all.
#[test]
fn leaves_ratios_of_nothing_out() {
    let api = TestApi::new();
    api.reports(running("jazz", "idle"), vec![inbound(0)]);
    let (code, message) = ask(&api, "metrics/appmesh_error_ratio").refusal();
    assert_eq!(code, 404);
    assert!(message.contains("had no request that ended"), "{message}");
    api.reports(
        running("jazz", "busy"),
        vec![series(
            Direction::Inbound,
            "",
            responses(&[(200, 30), (500, 10)]),
        )],
    );
    let answer = ask(&api, "metrics/appmesh_error_ratio");
    assert_eq!(answer.item()["value"], "250m");
}

/// Pods without a value are left out of lists, but make the sums of their objects an error: they
/// would be too low.
#[test]
fn doubts_sums_not_lists() {
    let api = jazz_and_metal();
    let starting = running("jazz", "jazz-c");
    api.connect(&starting.key, NOW);
    api.exists(starting);
    let list = ask(&api, &format!("pods/*/{RPS}?labelSelector=app%3Djazz")).list();
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    for object in ["services/jazz", "deployments.apps/jazz", "metrics"] {
        let (code, message) = ask(&api, &format!("{object}/{RPS}")).refusal();
        assert_eq!(code, 503, "{object}");
        assert!(
            message.contains("would be too low, since 1 of its pods have no value: 1 began"),
            "{message}"
        );
    }
    assert_eq!(api.refused("doubt"), 3);
}

/// A pod that never reported is no doubt while it is pending or not ready, nor in a namespace,
/// which holds pods without a sidecar; in a workload it is.
#[test]
fn allows_silence_where_it_means_nothing() {
    let api = jazz_and_metal();
    api.exists(pending("jazz", "jazz-c"));
    let deployment = format!("deployments.apps/jazz/{RPS}");
    assert_eq!(ask(&api, &deployment).item()["value"], "4500m");
    let starting = PodInfo {
        ready: Some(false),
        ..running("jazz", "jazz-c")
    };
    api.exists(starting.clone());
    assert_eq!(ask(&api, &deployment).item()["value"], "4500m");
    api.connect(&starting.key, NOW);
    assert_eq!(ask(&api, &deployment).item()["value"], "4500m");
    api.exists(PodInfo {
        ready: Some(true),
        ..running("jazz", "jazz-d")
    });
    let (code, message) = ask(&api, &deployment).refusal();
    assert_eq!(code, 503);
    assert!(message.contains("1 never reported"), "{message}");
    let namespace = ask(&api, &format!("metrics/{RPS}"));
    assert_eq!(namespace.item()["value"], "14500m");
}

/// A pod that ceased to report but runs on is a doubt; one of which no watch tells is taken to be
/// gone, and one that is not ready, as after the loss of its node, gets no requests.
#[test]
fn doubts_pods_that_run_on() {
    let api = jazz_and_metal();
    let lost = running("jazz", "jazz-c");
    let link = api.connect(&lost.key, Monotonic(NOW.0 - 60_000));
    let then = Monotonic(NOW.0 - 50_000);
    api.store
        .apply(then, &link, &report(then, vec![inbound(1)]))
        .unwrap();
    api.store.disconnect(then, &link);
    api.exists(lost.clone());
    let service = format!("services/jazz/{RPS}");
    let (code, message) = ask(&api, &service).refusal();
    assert_eq!(code, 503);
    assert!(message.contains("1 ceased to report"), "{message}");
    for elsewhere in [
        PodInfo {
            phase: Phase::Unknown,
            ..lost.clone()
        },
        PodInfo {
            ready: Some(false),
            ..lost
        },
    ] {
        api.exists(elsewhere);
        assert_eq!(ask(&api, &service).item()["value"], "4500m");
    }
}

/// A pod whose sidecar is refused is told apart from one without a sidecar, until it is accepted.
#[test]
fn says_that_streams_are_refused() {
    let api = TestApi::new();
    let address: std::net::IpAddr = "10.0.0.9".parse().unwrap();
    api.exists(PodInfo {
        ips: vec![address],
        ..running("jazz", "jazz-a")
    });
    api.exists(running("jazz", "jazz-b"));
    for (why, refused) in [
        (NoValue::TlsRefused, "its streams are refused: TLS"),
        (
            NoValue::Unauthenticated,
            "its streams are refused: identity",
        ),
        (
            NoValue::Unreadable,
            "its streams are refused: they cannot be read",
        ),
        (NoValue::StreamRefused, "its streams are refused: a limit"),
    ] {
        api.store.stream_refused(NOW, address, why);
        for (object, told) in [
            (format!("pods/jazz-a/{RPS}"), true),
            (format!("pods/*/{RPS}"), true),
            (format!("pods/jazz-b/{RPS}"), false),
        ] {
            let (code, message) = ask(&api, &object).refusal();
            assert_eq!((code, message.contains(refused)), (404, told), "{message}");
        }
    }
    api.store.stream_accepted(address);
    let (_, message) = ask(&api, &format!("pods/jazz-a/{RPS}")).refusal();
    assert!(message.contains("never reported"), "{message}");
}

/// Pods that are terminating are in no answer, and asked for by name they are not found.
#[test]
fn leaves_terminating_pods_out() {
    let api = jazz_and_metal();
    let leaving = PodInfo {
        deleting: true,
        ..running("jazz", "jazz-b")
    };
    api.exists(leaving);
    let answer = ask(&api, &format!("deployments.apps/jazz/{RPS}"));
    assert_eq!(answer.item()["value"], "3");
    let (code, message) = ask(&api, &format!("pods/jazz-b/{RPS}")).refusal();
    assert_eq!(code, 404);
    assert!(
        message.contains("it is terminating or has ended"),
        "{message}"
    );
}

/// What cannot be found is a 404 that says what is known of it.
#[test]
fn explains_what_is_unknown() {
    let api = jazz_and_metal();
    for (path, expected) in [
        (
            "services/folk",
            "for service prod/folk: no such service is known, and none of the 0 clusters that pods call leads to it",
        ),
        (
            "services/none",
            "for service prod/none: it has no pods, and none of",
        ),
        (
            "services/bare",
            "for service prod/bare: it has no selector, so its pods are not known, and",
        ),
        (
            "statefulsets.apps/jazz",
            "for statefulset prod/jazz: no such object is known, and",
        ),
        (
            "pods/folk",
            "for pods folk: no such pod is known in namespace prod",
        ),
    ] {
        let (code, message) = ask(&api, &format!("{path}/{RPS}")).refusal();
        assert_eq!(code, 404, "{path}");
        assert!(message.contains(expected), "{message}");
    }
}

/// A number that would wrap in the autoscaler is an error that names whose it is.
#[test]
fn refuses_what_would_wrap() {
    let value = aggregator_core::query::Milli(u64::MAX);
    let sum = super::sum::Sum {
        source: super::Source::Pods,
        value,
        timestamp: NOW,
        age: crate::signal_age::SignalAge::default(),
        window: std::time::Duration::from_secs(2),
        pods: 1,
    };
    let refusal = sum.quantity("service prod/jazz").unwrap_err();
    assert!(
        refusal
            .message
            .starts_with("service prod/jazz: the value 18446744073709551.615 is beyond"),
        "{}",
        refusal.message
    );
    assert_eq!(refusal.reason, crate::status::Reason::OutOfRange);
}

/// With nothing known the answer is a 404 that says how little is known.
#[test]
fn explains_that_no_pod_is_known() {
    let api = TestApi::new();
    let answer = ask(&api, &format!("pods/%2A/{RPS}?labelSelector=app%3Djazz"));
    let (code, message) = answer.refusal();
    assert_eq!(code, 404);
    assert!(
        message.contains("there are no pods matching app=jazz in namespace prod; 0 pods are known"),
        "{message}"
    );
    assert!(!answer.headers.contains_key("meshmeter-signal-age-ms"));
    api.exists(running("jazz", "jazz-a"));
    let (_, message) = ask(&api, &format!("pods/*/{RPS}?labelSelector=app%3Djazz")).refusal();
    assert_eq!(
        message,
        "no sidecar of pods matching app=jazz in namespace prod has reported; 1 pod matches, 0 report; \
         check that the filter is injected"
    );
    let (_, message) = ask(&api, &format!("pods/jazz-a/{RPS}")).refusal();
    assert!(
        message
            .starts_with("pod prod/jazz-a has no value of appmesh_requests_per_second: it never"),
        "{message}"
    );
    assert_eq!(api.refused("no_value"), 3);
}
