//! Objects as the API serves them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    Hpa, Metric, Policy, PolicyKind, Rules, SelectPolicy, Source, SpecError, Target, TargetRef,
};

fn object(spec: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"namespace": "prod", "name": "jazz", "labels": {"a": "b"}},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "jazz-v1"},
            "maxReplicas": 6,
        },
        "status": {"currentReplicas": 1, "desiredReplicas": 1, "currentMetrics": null},
    });
    for (field, value) in spec.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    object
}

fn read(spec: &Value) -> Result<Hpa, SpecError> {
    Hpa::from_json(&object(spec))
}

#[test]
fn reads_every_source_and_target() {
    let target = |target: Value| json!({"name": "cpu", "container": "app", "target": target});
    let hpa = read(&json!({"minReplicas": 2, "metrics": [
        {"type": "Pods", "pods": {"metric": {"name": "rps"},
            "target": {"type": "AverageValue", "averageValue": "10500m"}}},
        {"type": "Object", "object": {
            "describedObject": {"apiVersion": "v1", "kind": "Service", "name": "jazz"},
            "metric": {"name": "rps", "selector": {"matchLabels": {"window": "15s"}}},
            "target": {"type": "Value", "value": "2k"}}},
        {"type": "External", "external": {"metric": {"name": "rps"},
            "target": {"type": "AverageValue", "averageValue": 5}}},
        {"type": "Resource", "resource": target(json!({"type": "Utilization", "averageUtilization": 50}))},
        {"type": "ContainerResource", "containerResource": target(
            json!({"type": "AverageValue", "averageValue": "500m"}))},
    ]}));
    let hpa = hpa.unwrap();
    assert_eq!(
        (hpa.namespace.as_str(), hpa.name.as_str()),
        ("prod", "jazz")
    );
    assert_eq!((hpa.min, hpa.max, hpa.behavior), (2, 6, None));
    let scaled = TargetRef {
        api_version: "apps/v1".to_owned(),
        kind: "Deployment".to_owned(),
        name: "jazz-v1".to_owned(),
    };
    assert_eq!(hpa.target, scaled);
    let targets: Vec<_> = hpa.metrics.iter().map(|metric| metric.target).collect();
    let expected = [
        Target::Average(10_500),
        Target::Value(2_000_000),
        Target::Average(5_000),
        Target::Utilization(50),
        Target::Average(500),
    ];
    assert_eq!(targets, expected);
    let printed: Vec<_> = hpa.metrics.iter().map(Metric::to_string).collect();
    let expected = [
        "pods metric rps",
        "metric rps of Service/jazz",
        "external metric rps",
        "cpu of the pods",
        "cpu of the container app",
    ];
    assert_eq!(printed, expected);
    assert_eq!(hpa.metrics[1].selector(), "window=15s");
}

#[test]
fn applies_the_defaults_of_kubernetes() {
    let hpa = read(&json!({"metrics": null})).unwrap();
    let cpu = Metric {
        source: Source::Resource,
        name: "cpu".to_owned(),
        target: Target::Utilization(80),
    };
    assert_eq!((hpa.min, hpa.metrics.as_slice()), (1, [cpu].as_slice()));
    assert_eq!(hpa.down_window(), Duration::from_mins(5));
    let behavior = |behavior: Value| {
        let hpa = read(&json!({"behavior": behavior})).unwrap();
        hpa.behavior.unwrap()
    };
    let empty = behavior(json!({}));
    assert_eq!((empty.up, empty.down), (Rules::up(), Rules::down()));
    let own = behavior(json!({
        "scaleUp": {"tolerance": "20m", "stabilizationWindowSeconds": 0, "selectPolicy": "Min"},
        "scaleDown": {"stabilizationWindowSeconds": 60, "policies": [
            {"type": "Pods", "value": 1, "periodSeconds": 30}]},
    }));
    let up = Rules {
        select: SelectPolicy::Min,
        tolerance: Some(0.02),
        ..Rules::up()
    };
    let down = Rules {
        stabilization: Some(Duration::from_mins(1)),
        policies: vec![Policy {
            kind: PolicyKind::Pods,
            value: 1,
            period: Duration::from_secs(30),
        }],
        ..Rules::down()
    };
    assert_eq!((own.up, own.down), (up, down));
}

#[test]
fn says_what_is_wrong() {
    let pods = |target: Value| json!({"metrics": [{"type": "Pods", "pods": {"metric": {"name": "rps"}, "target": target}}]});
    for (spec, message) in [
        (
            json!({"minReplicas": 7}),
            "maxReplicas is 6, less than minReplicas, 7",
        ),
        (
            json!({"metrics": [{"type": "Node"}]}),
            "spec.metrics[0]: type \"Node\" is unknown",
        ),
        (
            json!({"metrics": [{"type": "Pods"}]}),
            "without the field of this type",
        ),
        (
            pods(json!({"averageValue": "ten"})),
            "\"ten\" is no quantity",
        ),
        (pods(json!({"averageValue": "0"})), "not above 0"),
        (pods(json!({})), "neither value nor average"),
        (json!({"maxReplicas": "six"}), "invalid type"),
    ] {
        let error = read(&spec).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

/// The status says whether it was the autoscaler that scaled to zero.
#[test]
fn knows_its_own_zero() {
    let mut object = object(&json!({"minReplicas": 0}));
    assert!(!Hpa::from_json(&object).unwrap().scaled_to_zero);
    object["status"]["conditions"] =
        json!([{"type": "ScaledToZero", "status": "True", "reason": "ScaledToZero"}]);
    assert!(Hpa::from_json(&object).unwrap().scaled_to_zero);
}
