//! Fails open with an event.

use serde_json::{Value, json};
use tests_support::clock::wait_for;
use tests_support::kubernetes::ApiServer;
use tests_support::kubernetes::objects::EVENT;

use crate::program::{PATIENCE, Program, admitted, pod, review_of};
use crate::self_managed::ready;

async fn ask(program: &Program, ca: &str, review: &Value) {
    let reply = program.client(ca).review(review).await.unwrap();
    let (_, response) = admitted(review, &reply);
    assert!(response["warnings"].is_array());
}

async fn events(server: &ApiServer, count: usize) -> Vec<Value> {
    let found = wait_for("events", PATIENCE, async || {
        let (_, events) = server.objects().list(EVENT, "prod");
        Ok((events.len() >= count).then_some(events))
    });
    found.await.unwrap()
}

/// The owner of a pod that could not be injected hears why, once; without an owner its namespace
/// does; a rehearsal raises none; and when events are refused, reviews are answered all the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_hears_of_a_pod_that_was_not_injected() {
    let (server, program, ca) = ready().await;
    let mut host = pod();
    host["spec"]["hostNetwork"] = true.into();
    let review = review_of(Some(&host));
    let mut rehearsal = review.clone();
    rehearsal["request"]["dryRun"] = true.into();
    ask(&program, &ca, &rehearsal).await;
    for _ in 0..5 {
        ask(&program, &ca, &review).await;
    }
    let of = |outcome: &str| format!("events_total{{outcome=\"{outcome}\"}}");
    program.wait_metric(&of("repeated"), 4.0).await;
    program.wait_metric(&of("raised"), 1.0).await;
    let event = events(&server, 1).await.remove(0);
    assert_eq!(
        event["involvedObject"],
        json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "namespace": "prod",
            "name": "jazz-7d9c6b5f4", "uid": "2f4a7c0e-1c55-4c47-9a5e-2a2f3c1f8f11",
        })
    );
    assert_eq!(event["type"], "Warning");
    assert_eq!(event["reason"], "NotInjected");
    assert_eq!(
        event["message"],
        "a pod was admitted without meshmeter: the pod uses hostNetwork"
    );
    host["metadata"]["ownerReferences"] = Value::Null;
    ask(&program, &ca, &review_of(Some(&host))).await;
    let events = events(&server, 2).await;
    assert!(
        events
            .iter()
            .any(|event| event["involvedObject"]["kind"] == "Namespace")
    );
    assert_eq!(events.len(), 2);

    server.set_outage(Some(http::StatusCode::FORBIDDEN));
    host["spec"]["volumes"] = json!([{"name": "meshmeter-config"}]);
    host["spec"]["hostNetwork"] = false.into();
    ask(&program, &ca, &review_of(Some(&host))).await;
    program.wait_metric(&of("failed"), 1.0).await;
}
