use super::*;
use crate::path::ApiVersion;

const NOW: UnixMillis = UnixMillis(1_795_457_724_500);

fn path(object: Object) -> MetricPath {
    MetricPath {
        version: ApiVersion::V1Beta2,
        namespace: "prod".to_owned(),
        object,
        metric: "appmesh_requests_per_second".to_owned(),
    }
}

fn reading(name: &str, milli: u64, age_ms: u64, window_s: u64) -> Reading {
    Reading {
        pod: PodKey::new("prod", name),
        value: Milli(milli),
        events: Milli(0),
        timestamp: UnixMillis(NOW.0 - age_ms),
        window: Duration::from_secs(window_s),
        held: false,
    }
}

fn answer(readings: &[Reading], missing: &[(&str, Missing)]) -> Answer {
    Answer {
        readings: readings.to_vec(),
        missing: missing
            .iter()
            .map(|(name, why)| (PodKey::new("prod", name), *why))
            .collect(),
    }
}

fn serve(object: Object, label_selector: &str, answer: &Answer) -> Result<Served, Refusal> {
    let question = Question {
        path: &path(object),
        metric: "appmesh_requests_per_second",
        label_selector,
        metric_selector: Selector::default(),
    };
    question.serve(NOW, answer)
}

fn items(served: &Served) -> Vec<serde_json::Value> {
    let list: serde_json::Value = serde_json::from_slice(&served.body).unwrap();
    list["items"].as_array().unwrap().clone()
}

/// A pod without a value is left out, never served as 0; the age is that of the oldest value.
#[test]
fn leaves_out_pods_without_a_value() {
    let answer = answer(
        &[reading("a", 1_500, 700, 2), reading("b", 0, 1_300, 2)],
        &[("c", Missing::VmLost), ("d", Missing::New)],
    );
    let served = serve(Object::Pods, "app=jazz", &answer).unwrap();
    let items = items(&served);
    assert_eq!(items.len(), 2);
    assert_eq!(items[0]["value"], "1500m");
    assert_eq!(items[1]["value"], "0");
    assert_eq!(items[1]["timestamp"], "2026-11-23T18:15:23Z");
    assert_eq!(served.age, Duration::from_millis(1_300));
}

/// If no pod has a value the answer is a 404 that says how many match and what to check.
#[test]
fn explains_an_empty_answer() {
    let nobody = answer(
        &[],
        &[("a", Missing::NeverReported), ("b", Missing::NeverReported)],
    );
    let refusal = serve(Object::Pods, "app=jazz", &nobody).unwrap_err();
    assert_eq!(
        (refusal.kind, refusal.reason),
        (Kind::NotFound, Reason::NoValue)
    );
    assert_eq!(
        refusal.message,
        "no sidecar of pods matching app=jazz in namespace prod has reported; 2 pods match, 0 report; \
         check that the filter is injected"
    );
    let lost = answer(&[], &[("a", Missing::VmLost)]);
    let refusal = serve(Object::Pod("a".into()), "", &lost).unwrap_err();
    assert_eq!(
        refusal.message,
        "pod prod/a has no value of appmesh_requests_per_second: \
         it lost a Wasm VM, so that its totals may be too low (restart the pod)"
    );
}

/// A namespace is the sum of its pods, as old as the oldest and over the longest window.
#[test]
fn sums_a_namespace() {
    let answer = answer(
        &[reading("a", 1_500, 700, 2), reading("b", 500, 2_300, 5)],
        &[("c", Missing::Gone), ("d", Missing::NeverReported)],
    );
    let served = serve(Object::Namespace, "", &answer).unwrap();
    let items = items(&served);
    assert_eq!(items.len(), 1);
    assert_eq!(items[0]["value"], "2");
    assert_eq!(items[0]["windowSeconds"], 5);
    assert_eq!(items[0]["describedObject"]["kind"], "Namespace");
    assert_eq!(served.age, Duration::from_millis(2_300));
}

/// A sum that would be too low is an error: the autoscaler freezes instead of scaling down.
#[test]
fn refuses_a_doubtful_sum() {
    for why in [Missing::VmLost, Missing::New, Missing::NotCounted] {
        let answer = answer(&[reading("a", 1_500, 700, 2)], &[("b", why)]);
        let refusal = serve(Object::Namespace, "", &answer).unwrap_err();
        assert_eq!(
            (refusal.kind, refusal.reason),
            (Kind::Unavailable, Reason::Doubt),
            "{why:?}"
        );
        assert!(
            refusal
                .message
                .contains("since 1 of its pods have no value: 1 "),
            "{}",
            refusal.message
        );
    }
}

/// A namespace in which nothing reports has no sum; it is not 0.
#[test]
fn refuses_an_empty_sum() {
    let refusal = serve(
        Object::Namespace,
        "",
        &answer(&[], &[("a", Missing::NeverReported)]),
    )
    .unwrap_err();
    assert_eq!(
        (refusal.kind, refusal.reason),
        (Kind::NotFound, Reason::NoValue)
    );
    assert!(
        refusal.message.contains("1 pod matches, 0 report"),
        "{}",
        refusal.message
    );
}

/// A number that would wrap in the autoscaler is an error that names the pod.
#[test]
fn refuses_what_would_wrap() {
    let huge = answer(
        &[reading("a", u64::MAX, 0, 2), reading("b", u64::MAX, 0, 2)],
        &[],
    );
    let refusal = serve(Object::Pods, "", &huge).unwrap_err();
    assert_eq!(
        (refusal.kind, refusal.reason),
        (Kind::Internal, Reason::OutOfRange)
    );
    assert!(
        refusal.message.starts_with("pod prod/a: the value "),
        "{}",
        refusal.message
    );
    let refusal = serve(Object::Namespace, "", &huge).unwrap_err();
    assert!(
        refusal.message.starts_with("namespace prod: the value "),
        "{}",
        refusal.message
    );
}
