//! Pods that get their sidecar here have their virtual node looked up in the cluster.

use serde_json::{Value, json};
use tests_support::clock::wait_for;
use tests_support::kubernetes::ApiServer;
use tests_support::kubernetes::custom::{MESH, VIRTUAL_NODE};
use tests_support::kubernetes::objects::{NAMESPACE, WEBHOOK_CONFIGURATION};

use crate::program::{PATIENCE, Program, admitted, configuration, pod, review_of};
use crate::self_managed::{bundle, start};

const FLAGS: [&str; 3] = [
    "--inject-envoy",
    "--envoy-image=registry/envoy:1",
    "--redirect-image=registry/redirect:1",
];

/// A cluster with a mesh of the pods' namespace.
async fn cluster() -> ApiServer {
    let server = ApiServer::start().await.unwrap();
    let objects = server.objects();
    objects.apply(WEBHOOK_CONFIGURATION, configuration());
    let labels = json!({"mesh": "dj-app"});
    let namespace = json!({"metadata": {"name": "prod", "labels": labels}});
    objects.apply(NAMESPACE, namespace);
    let spec = json!({"namespaceSelector": {"matchLabels": labels}});
    objects.apply(MESH, json!({"metadata": {"name": "dj-app"}, "spec": spec}));
    server
}

/// A virtual node of the pods that have `labels`.
fn node(server: &ApiServer, name: &str, labels: &Value) {
    let spec = json!({
        "podSelector": {"matchLabels": labels},
        "listeners": [{"portMapping": {"port": 9080, "protocol": "http"}}],
        "serviceDiscovery": {"dns": {"hostname": format!("{name}.prod.svc.cluster.local")}},
    });
    let metadata = json!({"namespace": "prod", "name": name});
    let object = json!({"metadata": metadata, "spec": spec});
    server.objects().apply(VIRTUAL_NODE, object);
}

/// What the pod of the reviews becomes.
async fn injected(server: &ApiServer, program: &Program) -> Value {
    let mut pod = pod();
    pod["spec"]["containers"] = json!([{"name": "jazz", "image": "registry/jazz:1"}]);
    pod["metadata"]["annotations"] = Value::Null;
    let review = review_of(Some(&pod));
    let client = program.client(&bundle(server).unwrap());
    admitted(&review, &client.review(&review).await.unwrap()).0
}

/// Whether it has an Envoy.
fn is_injected(pod: &Value) -> bool {
    let spec = &pod["spec"];
    let lists = ["containers", "initContainers"].map(|list| spec[list].as_array());
    let mut all = lists.into_iter().flatten().flatten();
    all.any(|container| container["name"] == "envoy")
}

/// A pod is of the virtual node that selects it, also of one that comes later; of none or of
/// several it is left as it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_of_the_node_that_selects_it() {
    let server = cluster().await;
    let app = pod()["metadata"]["labels"]["app"].clone();
    node(&server, "dj", &json!({"app": "dj"}));
    let program = start(&server, &FLAGS).await;
    program.wait_ready().await;
    let skipped = "reviews_total{result=\"skipped\",reason=\"no_virtual_node\"}";

    let pod = injected(&server, &program).await;
    assert!(!is_injected(&pod));
    program.wait_metric(skipped, 1.0).await;

    node(&server, "jazz", &json!({"app": app}));
    let became = wait_for("the node", PATIENCE, async || {
        let pod = injected(&server, &program).await;
        Ok(is_injected(&pod).then_some(pod))
    });
    let pod = became.await.unwrap();
    // Wherever in the pod: the tests of the injector know where.
    let id = "mesh/dj-app/virtualNode/jazz_prod";
    assert!(pod.to_string().contains(id), "{pod:#}");

    node(&server, "jazz-too", &json!({"app": app}));
    let left = wait_for("two nodes", PATIENCE, async || {
        let pod = injected(&server, &program).await;
        Ok((!is_injected(&pod)).then_some(()))
    });
    left.await.unwrap();
}
