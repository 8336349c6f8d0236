//! Tokens that kube-apiserver signed, verified without asking it: through TLS, with keys and pods
//! from a cluster.

use std::sync::Arc;

use serde_json::json;
use tests_support::kubernetes::objects::POD;
use tests_support::kubernetes::server::issuer::ISSUER;
use tests_support::kubernetes::{ApiServer, PodToken, SigningKey};
use tonic::Code;

use crate::control_plane::Cluster;
use crate::ingest_tls::{Way, code, server, wait_metric};
use crate::sidecar::inbound;

const FLAGS: [&str; 2] = ["--ingest-tls=self-managed", "--ingest-identity=token"];
const AUDIENCE: &str = "meshmeter";

/// A token of the pod of [`server`], or of one of its name.
fn token(server: &ApiServer, uid: &str) -> String {
    server.pod_token(AUDIENCE, "demo", "llm-1", uid).unwrap()
}

fn pod(uid: &str) -> serde_json::Value {
    let metadata = json!({"namespace": "demo", "name": "llm-1", "uid": uid});
    json!({"metadata": metadata, "status": {"phase": "Running", "podIP": "127.0.0.1"}})
}

fn outcome(method: &str, outcome: &str, count: u64) -> String {
    let labels = format!("method=\"{method}\",outcome=\"{outcome}\"");
    format!("meshmeter_ingest_tokens_total{{{labels}}} {count}")
}

/// By either algorithm a sidecar streams, and no review is made of it nor of forgeries.
#[tokio::test(flavor = "multi_thread")]
async fn are_verified_without_a_review() {
    let cluster = Cluster::with(server().await, &FLAGS).await;
    let server = &cluster.server;
    let way = Way::self_managed(&cluster);
    let good = token(server, "uid-llm-1");
    let mut sidecar = way.stream(Some(&good), "llm-1").await.unwrap();
    sidecar.report(vec![inbound(10, 10)]).await;
    let stranger = SigningKey::rs256().unwrap();
    let of_pod = PodToken::new(ISSUER, AUDIENCE, "demo", "llm-1", "uid-llm-1");
    let forged = of_pod.sign(&stranger).unwrap();
    let other = server.pod_token("other", "demo", "llm-1", "uid-llm-1");
    for (token, pod, expected) in [
        (forged.as_str(), "llm-1", Code::Unauthenticated),
        ("not.a.token", "llm-1", Code::Unauthenticated),
        (&other.unwrap(), "llm-1", Code::Unauthenticated),
        (&good, "llm-2", Code::PermissionDenied),
    ] {
        assert_eq!(code(way.stream(Some(token), pod).await), Some(expected));
    }
    for (label, count) in [
        ("verified", 2),
        ("unknown_key", 1),
        ("malformed", 1),
        ("audience", 1),
    ] {
        wait_metric(&cluster, &outcome("local", label, count)).await;
    }
    let metrics = cluster.metrics().await;
    assert!(metrics.contains("meshmeter_ingest_token_keys_age_seconds "));
    assert_eq!(server.requests("tokenreviews"), 0);
    drop(sidecar);
    cluster.stop().await;
}

/// A pod that is deleted or made anew takes its token with it; the new one's is good as soon as the
/// watch shows it.
#[tokio::test(flavor = "multi_thread")]
async fn end_with_their_pods() {
    let server = server().await;
    server.objects().apply(POD, pod("uid-0"));
    let cluster = Cluster::with(server, &FLAGS).await;
    let server = &cluster.server;
    let way = Way::self_managed(&cluster);
    let [first, second] = ["uid-0", "uid-llm-1"].map(|uid| token(server, uid));
    // Its hello names the uid of the other.
    let verified = way.stream(Some(&first), "llm-1").await;
    assert_eq!(code(verified), Some(Code::PermissionDenied));
    server.objects().delete(POD, "demo", "llm-1");
    server.objects().apply(POD, pod("uid-llm-1"));
    drop(way.stream(Some(&second), "llm-1").await.unwrap());
    // The watch has shown the new one by now, and so that the old one is gone.
    let refused = way.stream(Some(&first), "llm-1").await.err().unwrap();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!(
        refused.message(),
        "the pod demo/llm-1 with the uid of the bearer token was deleted"
    );
    wait_metric(&cluster, &outcome("local", "deleted_pod", 1)).await;
    assert_eq!(server.requests("tokenreviews"), 0);
    cluster.stop().await;
}

/// Without the role for the keys each token is reviewed, and the log says which role it is.
#[tokio::test(flavor = "multi_thread")]
async fn are_reviewed_without_keys() {
    let server = server().await;
    server.hide_issuer(true);
    let cluster = Cluster::with(server, &FLAGS).await;
    let way = Way::self_managed(&cluster);
    let good = token(&cluster.server, "uid-llm-1");
    drop(way.stream(Some(&good), "llm-1").await.unwrap());
    let key = Arc::new(SigningKey::es256().unwrap());
    let forged = PodToken::new(ISSUER, AUDIENCE, "demo", "llm-1", "uid-llm-1").sign(&key);
    let refused = way.stream(Some(&forged.unwrap()), "llm-1").await;
    assert_eq!(code(refused), Some(Code::Unauthenticated));
    wait_metric(&cluster, &outcome("review", "verified", 1)).await;
    wait_metric(&cluster, &outcome("review", "invalid", 1)).await;
    let fallbacks = "meshmeter_ingest_token_fallbacks_total{reason=\"no_keys\"} 2";
    wait_metric(&cluster, fallbacks).await;
    assert_eq!(cluster.server.requests("tokenreviews"), 2);
    // They are there after all, and the next attempt finds them.
    cluster.server.hide_issuer(false);
    wait_metric(
        &cluster,
        "meshmeter_ingest_token_key_reads_total{outcome=\"read\"} 1",
    )
    .await;
    drop(way.stream(Some(&good), "llm-1").await.unwrap());
    wait_metric(&cluster, &outcome("local", "verified", 1)).await;
    // So are new ones of the cluster.
    cluster.server.set_signing_keys(&[key]);
    wait_metric(
        &cluster,
        "meshmeter_ingest_token_key_reads_total{outcome=\"read\"} 2",
    )
    .await;
    let next = token(&cluster.server, "uid-llm-1");
    drop(way.stream(Some(&next), "llm-1").await.unwrap());
    assert_eq!(
        code(way.stream(Some(&good), "llm-1").await),
        Some(Code::Unauthenticated)
    );
    cluster.stop().await;
}
