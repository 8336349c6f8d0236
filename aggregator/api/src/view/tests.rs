//! Lists and health as people get them.

use aggregator_core::pod::{Owner, PodInfo, PodKey};
use aggregator_directory::{AutoscalerInfo, AutoscalerStatus, ObjectKey};
use serde_json::Value;

use crate::testing::{TestApi, inbound, pending, running};

fn autoscaler(name: &str, target: &str, status: Option<AutoscalerStatus>) -> AutoscalerInfo {
    AutoscalerInfo {
        namespace: "prod".into(),
        name: name.into(),
        target: ObjectKey::new("prod", "apps", "Deployment", target),
        target_api_version: "apps/v1".into(),
        min_replicas: 1,
        max_replicas: 9,
        spec: Err("spec.metrics[0]: of no type".to_owned()),
        spec_bytes: 1,
        status,
    }
}

fn items(document: &Value) -> &Vec<Value> {
    document["items"].as_array().unwrap()
}

fn names(document: &Value) -> Vec<&str> {
    let names = items(document).iter().map(|item| item["name"].as_str());
    names.collect::<Option<_>>().unwrap()
}

/// Two pods of jazz, one that reports and one that does not, and one that nobody counts.
fn fleet() -> TestApi {
    let api = TestApi::new();
    api.deployment("jazz");
    for pod in [
        running("jazz", "jazz-a"),
        running("jazz", "jazz-b"),
        running("metal", "metal-a"),
    ] {
        api.directory.upsert(pod).unwrap();
    }
    api.reports(running("jazz", "jazz-a"), vec![inbound(20)]);
    api.service("jazz", &[("app", "jazz")]);
    api
}

/// Rates and state of each pod; who never reported says why, and has no number.
#[test]
fn lists_pods() {
    let api = fleet();
    let list = api.view("namespaces/prod/pods").list();
    assert_eq!(names(&list), ["jazz-a", "jazz-b", "metal-a"]);
    assert_eq!(list["kind"], "PodList");
    let [counted, silent, ..] = &items(&list)[..] else {
        panic!("{list}");
    };
    assert_eq!(counted["requestsPerSecond"], 20.0);
    assert_eq!(counted["state"], "live");
    assert_eq!(counted["workload"]["kind"], "Deployment");
    assert_eq!(counted["labels"]["app"], "jazz");
    assert_eq!(counted["errorRatio"], Value::Null, "not counted is not 0");
    assert_eq!(counted["history"].as_array().unwrap().len(), 60);
    assert_eq!(silent["requestsPerSecond"], Value::Null);
    assert_eq!(
        (&silent["state"], &silent["reason"]),
        (&"unknown".into(), &"no_sidecar".into())
    );
    assert!(
        silent["message"]
            .as_str()
            .unwrap()
            .starts_with("pod prod/jazz-b never reported")
    );
    let injected = PodInfo {
        injected: true,
        ..running("jazz", "jazz-b")
    };
    api.directory.upsert(injected).unwrap();
    let list = api
        .view("pods?labelSelector=app%3Djazz&history=false")
        .list();
    assert_eq!(names(&list), ["jazz-a", "jazz-b"]);
    assert_eq!(items(&list)[1]["reason"], "never_reported");
    assert!(items(&list)[0].get("history").is_none());
}

/// Page after page has each pod once, whatever comes between.
#[test]
fn pages_are_stable() {
    let api = fleet();
    let first = api.view("pods?limit=2").list();
    assert_eq!(names(&first), ["jazz-a", "jazz-b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    let token = first["metadata"]["continue"].as_str().unwrap().to_owned();
    api.directory.upsert(running("jazz", "jazz-0")).unwrap();
    api.directory.remove(&PodKey::new("prod", "jazz-b"));
    let second = api
        .view(&format!(
            "pods?limit=2&continue={}",
            token.replace('/', "%2F")
        ))
        .list();
    assert_eq!(names(&second), ["metal-a"]);
    assert!(second["metadata"].get("continue").is_none());
    let (code, message) = api.view("pods?continue=x").refusal();
    assert_eq!(
        (code, message.starts_with("continue: ")),
        (400, true),
        "{message}"
    );
}

/// Sums by workload, namespace and service, with the HPA of each; what has no value adds nothing.
#[test]
fn lists_groups() {
    let api = fleet();
    let status = AutoscalerStatus {
        current_replicas: 1,
        desired_replicas: 2,
        ..AutoscalerStatus::default()
    };
    for info in [
        autoscaler("jazz", "jazz", Some(status)),
        autoscaler("new", "jazz", None),
        autoscaler("idle", "folk", None),
    ] {
        api.directory.upsert_autoscaler(info).unwrap();
    }
    let list = api.view("workloads").list();
    assert_eq!(names(&list), ["folk", "jazz", "metal-1"]);
    let [idle, jazz, metal] = &items(&list)[..] else {
        panic!("{list}");
    };
    assert_eq!(
        (&idle["pods"], &idle["requestsPerSecond"]),
        (&serde_json::json!({}), &Value::Null)
    );
    assert_eq!(jazz["kind"], "Deployment");
    assert_eq!(jazz["requestsPerSecond"], 20.0);
    assert_eq!(jazz["pods"], serde_json::json!({"live": 1, "unknown": 1}));
    assert_eq!(jazz["skew"], Value::Null, "one value has none");
    assert_eq!(jazz["hpas"][0]["desiredReplicas"], 2);
    assert_eq!(jazz["hpas"][1]["desiredReplicas"], Value::Null);
    assert_eq!(metal["kind"], "ReplicaSet");
    api.reports(running("jazz", "jazz-b"), vec![inbound(60)]);
    let jazz = &api.view("namespaces/prod/services").list()["items"][0];
    assert_eq!(
        (&jazz["kind"], &jazz["requestsPerSecond"]),
        (&"Service".into(), &80.0.into())
    );
    assert_eq!(jazz["skew"], 1.5);
    for path in ["namespaces", "namespaces/prod"] {
        let list = api.view(path).list();
        assert_eq!(names(&list), ["prod"]);
        assert_eq!(items(&list)[0]["requestsPerSecond"], 80.0);
    }
    assert!(items(&api.view("namespaces/none").list()).is_empty());
    let (code, message) = api.view("workloads?labelSelector=a").refusal();
    assert_eq!(code, 400);
    assert!(message.starts_with("labelSelector: only pods"), "{message}");
}

/// Who is not counted, by workload and reason; a pod that does not run yet is not missed.
#[test]
fn tells_health() {
    let api = fleet();
    api.directory.upsert(pending("metal", "metal-b")).unwrap();
    api.store
        .note_build(&PodKey::new("prod", "jazz-a"), "0.2.0");
    let health: Value = serde_json::from_str(&api.view("health").body).unwrap();
    let rows = health["uncounted"].as_array().unwrap();
    let rows: Vec<_> = rows
        .iter()
        .map(|row| format!("{} {} {}", row["workload"], row["reason"], row["pods"]))
        .collect();
    let expected = [
        r#""Deployment/jazz" "no_sidecar" 1"#,
        r#""ReplicaSet/metal-1" "no_sidecar" 1"#,
    ];
    assert_eq!(rows, expected);
    assert_eq!(health["sidecars"][0]["version"], "0.2.0");
    let replica = &health["replicas"][0];
    assert_eq!(
        (&replica["pods"]["live"], &replica["requestsPerSecond"]),
        (&1.into(), &20.0.into())
    );
    let own: Value = serde_json::from_str(&api.view("health?replica=self").body).unwrap();
    assert!(own["uncounted"].as_array().unwrap().is_empty());
}

/// Refusals of explanations have a reason that programs tell apart.
#[test]
fn refusals_have_causes() {
    let api = fleet();
    let info = autoscaler("jazz", "jazz", None);
    api.directory.upsert_autoscaler(info).unwrap();
    for (path, reason, text) in [
        (
            "namespaces/prod/explanations/none",
            "UnknownHPA",
            "there is no HorizontalPodAutoscaler prod/none",
        ),
        (
            "namespaces/prod/timelines/jazz",
            "UnreadableSpec",
            "spec.metrics[0]: of no type",
        ),
    ] {
        let response = api.view(path);
        let status: Value = serde_json::from_str(&response.body).unwrap();
        assert_eq!(status["code"], 404);
        assert_eq!(status["details"]["causes"][0]["reason"], reason);
        let message = status["message"].as_str().unwrap();
        assert!(message.contains(text), "{message}");
    }
    let (code, message) = api
        .get("/apis/custom.metrics.k8s.io/v1beta2/namespaces/prod/reads")
        .refusal();
    assert_eq!(code, 404);
    assert!(
        message.contains("/apis/view.meshmeter.io/v1/namespaces/prod/reads"),
        "{message}"
    );
    let watch = api.view("pods?watch=true").refusal();
    assert_eq!(
        watch,
        (
            405,
            "watch is not supported on resources of kind \"pods.view.meshmeter.io\"".to_owned()
        )
    );
}

/// A pod of a kind that owns itself is under its own name.
#[test]
fn pods_without_an_owner_are_their_own_workload() {
    let api = TestApi::new();
    let bare = PodInfo {
        owner: None::<Owner>,
        ..running("jazz", "bare")
    };
    api.directory.upsert(bare).unwrap();
    let list = api.view("workloads").list();
    assert_eq!(
        (&items(&list)[0]["kind"], &items(&list)[0]["name"]),
        (&"Pod".into(), &"bare".into())
    );
}
