//! A sidecar may report only its own pod.

use tests_support::clock::wait_for;
use tests_support::kubernetes::objects::POD;

use crate::control_plane::{Caller, Cluster, PATIENCE};
use crate::sidecar::{Sidecar, inbound};

/// By its address: another pod's name is refused for good, and one that is not known yet for now.
#[tokio::test(flavor = "multi_thread")]
async fn is_checked_by_address() {
    let mut cluster = Cluster::start(&[]).await;
    cluster.sidecars.clear();
    let objects = cluster.server.objects();
    let name = "llm-959c885bb-8x7r2";
    let mut pod = objects.get(POD, "demo", name).unwrap();
    pod["status"]["podIP"] = "10.0.0.9".into();
    pod["status"]["podIPs"] = serde_json::json!([{"ip": "10.0.0.9"}]);
    objects.apply(POD, pod.clone());
    let ingest = cluster.addresses.ingest;
    let refused = wait_for("the refusal", PATIENCE, async || {
        let outcome = Sidecar::try_connect("demo", ingest, name).await;
        Ok(outcome
            .err()
            .filter(|status| status.code() == tonic::Code::PermissionDenied))
    });
    let refused = refused.await.unwrap();
    assert_eq!(
        refused.message(),
        "the stream comes from 127.0.0.1, but pod demo/llm-959c885bb-8x7r2 has 10.0.0.9: a stream may report only \
         its own pod"
    );
    let unknown = Sidecar::try_connect("demo", ingest, "llm-new").await;
    assert_eq!(unknown.err().unwrap().code(), tonic::Code::Unavailable);
    let metrics = cluster.metrics().await;
    for reason in ["foreign_pod", "unknown_pod"] {
        let line = format!("meshmeter_ingest_refused_total{{reason=\"{reason}\"}}");
        assert!(metrics.contains(&line), "{reason}: {metrics}");
    }
    // Known a moment later, it is let in.
    pod["metadata"]["name"] = "llm-new".into();
    pod["metadata"]["uid"] = "uid-llm-new".into();
    pod["status"]["podIPs"] = serde_json::json!([{"ip": "127.0.0.1"}]);
    objects.apply(POD, pod);
    let connected = wait_for("the new pod", PATIENCE, async || {
        Ok(Sidecar::try_connect("demo", ingest, "llm-new").await.ok())
    });
    let mut sidecar = connected.await.unwrap();
    sidecar.report(vec![inbound(10, 10)]).await;
    let nobody = Caller::default();
    assert_eq!(cluster.get("/readyz", &nobody).await.status, 200);
    drop(sidecar);
    cluster.stop().await;
}
