//! Ready once every injected pod that runs has reported.

use serde_json::{Value, json};
use tests_support::clock::wait_for;
use tests_support::kubernetes::ApiServer;
use tests_support::kubernetes::objects::POD;

use crate::control_plane::{Cluster, PATIENCE};
use crate::sidecar::{Sidecar, inbound};

fn pod(name: &str, injected: bool, phase: &str) -> Value {
    let annotations = if injected {
        json!({"meshmeter.io/injected": "0.1.0"})
    } else {
        json!({})
    };
    json!({
        "metadata": {"namespace": "demo", "name": name, "uid": format!("uid-{name}"), "annotations": annotations},
        "spec": {"initContainers": [{"name": "meshmeter-xds-proxy"}]},
        "status": {"phase": phase, "podIP": "127.0.0.1"},
    })
}

/// While one is missing it is named, however long the others report; those that are not injected or
/// do not run are not waited for.
#[tokio::test(flavor = "multi_thread")]
async fn the_missing_are_named_and_waited_for() {
    let server = ApiServer::start().await.unwrap();
    for pod in [
        pod("here", true, "Running"),
        pod("missing", true, "Running"),
        pod("plain", false, "Running"),
        pod("done", true, "Succeeded"),
    ] {
        server.objects().apply(POD, pod);
    }
    // Far longer than this test takes.
    let cluster = Cluster::begin(server, &["--ready-wait=300"]).await;
    let ingest = cluster.addresses.ingest;
    let connect = async |name: &str| {
        // Until the pods are listed nobody is let in.
        let connected = wait_for("a stream", PATIENCE, async || {
            Ok(Sidecar::try_connect("demo", ingest, name).await.ok())
        });
        let mut sidecar = connected.await.unwrap();
        sidecar.report(vec![inbound(10, 10)]).await;
        sidecar
    };
    let here = connect("here").await;
    let told = wait_for("one name", PATIENCE, async || {
        let reply = cluster.readyz().await;
        assert!(!reply.status.is_success(), "{}", reply.text());
        let text = reply.text();
        Ok(text.contains("more to: demo/missing\n").then_some(text))
    });
    let told = told.await.unwrap();
    assert!(
        told.contains("[-]settled failed: injected pods do not report yet"),
        "{told}"
    );
    let missing = connect("missing").await;
    let ready = wait_for("readiness", PATIENCE, async || {
        let reply = cluster.readyz().await;
        Ok(reply.status.is_success().then_some(reply.text()))
    });
    assert!(ready.await.unwrap().contains("[+]settled ok\n"));
    drop((here, missing));
    cluster.stop().await;
}
