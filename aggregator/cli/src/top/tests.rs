use clap::Parser as _;
use serde_json::{Value, json};
use tests_support::kubernetes::ApiServer;

use super::*;
use crate::Operator;
use crate::args::examples::PluginArgs;
use crate::testing::{hold, texts};

/// The flags of `top`, from words.
pub(super) fn args(words: &str) -> TopArgs {
    let words = format!("x top {words}");
    let parsed = PluginArgs::try_parse_from(words.split_whitespace()).unwrap();
    match parsed.command {
        Operator::Top(args) => *args,
        other => panic!("{other:?}"),
    }
}

/// Pods in every state, one of them with a name that would clear the screen.
pub(super) fn pods() -> List<Value> {
    let pod = |name: &str, state: &str, more: Value| {
        let mut pod = json!({
            "namespace": "prod", "name": name, "state": state, "ready": true, "filterVersion": "0.2.0",
            "workload": {"kind": "Deployment", "name": "jazz-v1"},
        });
        pod.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        pod
    };
    let history: Vec<_> = (0..60)
        .map(|at| (at > 9).then(|| f64::from(at % 20)))
        .collect();
    List::new(
        "PodList",
        vec![
            pod(
                "jazz-v1-7d4b9c5f6d-8mlkq",
                "live",
                json!({
                    "requestsPerSecond": 41.25, "attemptsPerSecond": 82.5, "inflight": 3.5, "errorRatio": 0.0,
                    "windowMs": 2000, "ageMs": 850, "history": history,
                }),
            ),
            // Idle: 0 is 0.
            pod(
                "jazz-v1-7d4b9c5f6d-x2x4q",
                "live",
                json!({
                    "requestsPerSecond": 0.0, "attemptsPerSecond": 0.0, "inflight": 0.0, "errorRatio": null,
                    "windowMs": 2000, "ageMs": 1200, "history": [0.0, 0.0],
                }),
            ),
            pod(
                "jazz-v1-7d4b9c5f6d-zzt9p",
                "held",
                json!({
                    "requestsPerSecond": 1200.5, "attemptsPerSecond": 0.004, "inflight": 0.01, "errorRatio": 0.125,
                    "windowMs": 30000, "ageMs": 9100, "filterVersion": "0.1.0", "ready": false,
                }),
            ),
            pod(
                "jazz-v1-7d4b9c5f6d-new12",
                "new",
                json!({
                    "reason": "new", "message": "began to report less than a second ago", "ready": null,
                }),
            ),
            pod(
                "pod\u{1b}[2J\u{202e}evil",
                "unknown",
                json!({
                    "reason": "never_reported", "message": "never reported\n(check that the filter is injected)",
                    "filterVersion": "", "workload": null,
                }),
            ),
        ],
    )
}

pub(super) fn workloads() -> List<Value> {
    List::new(
        "WorkloadList",
        vec![
            json!({
                "group": "Workload", "kind": "Deployment", "namespace": "prod", "name": "jazz-v1",
                "pods": {"live": 3, "held": 1}, "requestsPerSecond": 240.0, "attemptsPerSecond": 0.0,
                "inflight": 12.25, "errorRatio": 0.0004, "windowMs": 2000, "ageMs": 4000, "skew": 1.375,
                "history": [1.0, 2.0, null, 4.0],
                "hpas": [{"name": "jazz", "minReplicas": 2, "maxReplicas": 10, "currentReplicas": 4, "desiredReplicas": 6},
                         {"name": "new", "minReplicas": 1, "maxReplicas": 2, "currentReplicas": null, "desiredReplicas": null}],
            }),
            json!({
                "group": "Workload", "kind": "StatefulSet", "namespace": "prod", "name": "metal-v1",
                "pods": {"gone": 1, "odd": 2}, "requestsPerSecond": null, "attemptsPerSecond": null,
                "inflight": null, "errorRatio": null, "windowMs": null, "ageMs": null, "skew": null,
            }),
            json!({
                "group": "Workload", "kind": "Deployment", "namespace": "test", "name": "idle", "pods": {},
                "skew": null,
            }),
        ],
    )
}

/// Each form, at several widths; sentences were read one by one.
#[test]
fn tables_hold() {
    for (name, words, list, room) in [
        ("pods", "pods", pods(), None),
        ("pods-terminal", "pods", pods(), Some(140)),
        ("pods-narrow", "pods -A --sort-by name", pods(), Some(72)),
        ("pods-wide", "pods -o wide --sort-by age", pods(), None),
        (
            "pods-no-headers",
            "pods --no-headers --sort-by state",
            pods(),
            None,
        ),
        ("workloads", "workloads -A", workloads(), Some(120)),
        ("workloads-wide", "workloads -A -o wide", workloads(), None),
        (
            "names",
            "workloads -o name --sort-by name",
            workloads(),
            None,
        ),
        ("yaml", "workloads -o yaml", workloads(), None),
    ] {
        let lines = lines(&list, &args(words), room, room.is_some()).unwrap();
        let text = texts(lines);
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
        hold(&format!("top/{name}"), &text);
    }
}

/// JSON is the whole document, also what this version does not know.
#[test]
fn json_is_the_document() {
    let mut list = pods();
    list.items[0]["fromTheFuture"] = json!({"a": [1, null]});
    let text = texts(lines(&list, &args("pods -o json"), None, false).unwrap());
    let read: List<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(read, list);
}

/// The time stands before each row, the columns' names once.
#[test]
fn repeated_lines_have_a_time() {
    for (words, is_first, expected) in [
        ("pods --watch", true, "TIME      NAME"),
        ("pods --watch", false, "14:10:00  jazz-v1-7d4b9c5f6d-zzt9p"),
        (
            "pods --watch --no-headers",
            true,
            "14:10:00  jazz-v1-7d4b9c5f6d-zzt9p",
        ),
    ] {
        let args = args(words);
        let mut lines = lines(&pods(), &args, None, false).unwrap();
        stamp(&mut lines, "14:10:00", &args, is_first);
        let text = texts(lines);
        assert!(text.starts_with(expected), "{words}: {text}");
    }
}

/// Selector, namespace and pages are asked for; a name that is not there is an error.
#[tokio::test]
async fn pages_are_put_together() {
    let server = ApiServer::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubeconfig");
    server.write_kubeconfig(&file).unwrap();
    let path = "/apis/view.meshmeter.io/v1/namespaces/prod/pods";
    let mut first = pods();
    first.items.truncate(2);
    first.metadata.continue_token = "to be continued".to_owned();
    let mut second = pods();
    second.items.drain(..2);
    server.set_page(path, http::StatusCode::OK, json!(first));
    let next = format!(
        "{path}?labelSelector=app%3Djazz&history=false&limit=500&continue=to%20be%20continued"
    );
    server.set_page(&next, http::StatusCode::OK, json!(second));
    let flags = format!("-n prod -l app=jazz --kubeconfig {}", file.display());
    let connection = |args: &TopArgs| {
        let args = args.connection.clone();
        async move { Connection::open(&args, Program::Plugin).await.unwrap() }
    };
    let of_all = args(&format!("pods {flags}"));
    let list = fetch(&connection(&of_all).await, &of_all, false)
        .await
        .unwrap();
    assert_eq!(list.items, pods().items);
    let of_one = args(&format!("pods nobody {flags}"));
    let error = fetch(&connection(&of_one).await, &of_one, false)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "no nobody among the pods here: see `kubectl meshmeter top pods -A`"
    );
    let of_services = args(&format!("services {flags}"));
    let error = fetch(&connection(&of_services).await, &of_services, false)
        .await
        .unwrap_err();
    assert!(
        matches!(error, ConnectionError::NotInstalled { .. }),
        "{error}"
    );
}
