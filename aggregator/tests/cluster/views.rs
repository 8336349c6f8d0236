//! What people see, in a cluster: as discovery says, with the HPAs that the cluster has, and with
//! the rights of who asks.

use serde_json::{Value, json};
use tests_support::clock::wait_for;
use tests_support::kubernetes::objects::AUTOSCALER;

use crate::control_plane::{Cluster, PATIENCE, PODS};

const VIEW: &str = "/apis/view.meshmeter.io/v1";

fn autoscaler(desired: u32) -> Value {
    json!({
        "metadata": {"namespace": "demo", "name": "llm"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "llm"},
            "minReplicas": 1,
            "maxReplicas": 9,
            "metrics": [{"type": "Pods", "pods": {
                "metric": {"name": "appmesh_requests_per_second"},
                "target": {"type": "AverageValue", "averageValue": "10"},
            }}],
        },
        "status": {"currentReplicas": 2, "desiredReplicas": desired, "conditions": [
            {"type": "ScalingActive", "status": "True", "reason": "ValidMetricFound", "message": "m"},
        ]},
    })
}

/// Every resource that discovery lists answers, in the whole cluster or in a namespace.
#[tokio::test(flavor = "multi_thread")]
async fn discovery_lists_what_is_served() {
    let cluster = Cluster::start(&[]).await;
    cluster.server.allow("jane");
    cluster.server.objects().apply(AUTOSCALER, autoscaler(2));
    let jane = cluster.front_proxy("jane");
    wait_for("the HPA", PATIENCE, async || {
        let reply = cluster
            .get(&format!("{VIEW}/namespaces/demo/timelines/llm"), &jane)
            .await;
        Ok((reply.status == 200).then_some(()))
    })
    .await
    .unwrap();
    // As the autoscaler, whose read is explained.
    let reader = "system:serviceaccount:kube-system:horizontal-pod-autoscaler";
    cluster.server.allow(reader);
    assert_eq!(
        cluster.get(PODS, &cluster.front_proxy(reader)).await.status,
        200
    );
    let resources = cluster.get(VIEW, &jane).await.json();
    for resource in resources["resources"].as_array().unwrap() {
        let name = resource["name"].as_str().unwrap();
        if name == "page" {
            // HTML, with tests of its own.
            continue;
        }
        let place = match (name, resource["namespaced"] == true) {
            ("explanations" | "timelines", _) => format!("namespaces/demo/{name}/llm"),
            (_, true) => format!("namespaces/demo/{name}"),
            (_, false) => name.to_owned(),
        };
        let reply = cluster.get(&format!("{VIEW}/{place}"), &jane).await;
        let document = reply.json();
        assert_eq!(reply.status, 200, "{place}: {document}");
        assert_eq!(document["kind"], resource["kind"], "{place}");
        assert_eq!(document["apiVersion"], "view.meshmeter.io/v1", "{place}");
    }
    cluster.stop().await;
}

/// The HPA of a workload is beside it, and the change of its status is in the timeline.
#[tokio::test(flavor = "multi_thread")]
async fn autoscalers_are_followed() {
    let cluster = Cluster::start(&[]).await;
    cluster.server.allow("jane");
    let jane = cluster.front_proxy("jane");
    let desired = async |wanted: u32| {
        wait_for("the HPA's status", PATIENCE, async || {
            let path = format!("{VIEW}/namespaces/demo/workloads?history=false");
            let list = cluster.get(&path, &jane).await.json();
            let is_wanted = list["items"][0]["hpas"][0]["desiredReplicas"] == wanted;
            Ok(is_wanted.then_some(()))
        })
        .await
        .unwrap();
    };
    cluster.server.objects().apply(AUTOSCALER, autoscaler(2));
    desired(2).await;
    wait_for("the first state in the ledger", PATIENCE, async || {
        let path = format!("{VIEW}/namespaces/demo/reads?replica=self");
        let own = cluster.get(&path, &jane).await.json();
        Ok(own["changes"].as_array().map(|_| ()))
    })
    .await
    .unwrap();
    cluster.server.objects().apply(AUTOSCALER, autoscaler(5));
    desired(5).await;
    wait_for("the change in the ledger", PATIENCE, async || {
        let path = format!("{VIEW}/namespaces/demo/reads?replica=self");
        let own = cluster.get(&path, &jane).await.json();
        let changes = own["changes"].as_array().cloned().unwrap_or_default();
        let last = changes
            .last()
            .is_some_and(|change| change["desiredReplicas"] == 5);
        Ok((last && changes[0]["desiredReplicas"] == 2).then_some(()))
    })
    .await
    .unwrap();
    cluster.stop().await;
}

/// Without the permission to watch HPAs the aggregator is ready, and says what it does not know.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_permission_is_said() {
    let server = tests_support::kubernetes::ApiServer::start().await.unwrap();
    server.set_forbidden(AUTOSCALER, true);
    let cluster = Cluster::with(server, &[]).await;
    cluster.server.allow("jane");
    let jane = cluster.front_proxy("jane");
    let health = cluster.get(&format!("{VIEW}/health"), &jane).await.json();
    let unknown = health["replicas"][0]["unknown"][0].as_str().unwrap();
    assert!(
        unknown.contains("horizontalpodautoscalers is forbidden"),
        "{unknown}"
    );
    let refused = cluster
        .get(&format!("{VIEW}/namespaces/demo/explanations/llm"), &jane)
        .await;
    let status = refused.json();
    assert_eq!(status["details"]["causes"][0]["reason"], "UnknownHPA");
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .contains("cannot be watched"),
        "{status}"
    );
    // Nobody may see everything; the refusal says what to do.
    let john = cluster.front_proxy("john");
    let refused = cluster
        .get(&format!("{VIEW}/workloads"), &john)
        .await
        .json();
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.ends_with("at the cluster scope; name a namespace that you may see"),
        "{message}"
    );
    cluster.stop().await;
}
