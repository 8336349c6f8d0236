//! A real Envoy whose credential injector puts a bound service account token on the stream, over
//! TLS, and rotates it; and one beside it that has not moved to TLS yet.

#![expect(clippy::unwrap_used, reason = "in a test any surprise is a failure")]

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tests_support::aggregator::{Aggregator, Options};
use tests_support::bootstrap::Secure;
use tests_support::djapp::{App, Behaviour};
use tests_support::envoy::Envoy;
use tests_support::kubernetes::ApiServer;
use tests_support::kubernetes::objects::{CONFIG_MAP, POD};
use tests_support::secured::{self, SERVER_NAME, add_token, write_secret, write_token};
use tests_support::sidecar::{INBOUND_LISTENER, Sidecar};
use tests_support::{clock, http};

const PATIENCE: Duration = Duration::from_mins(1);
const NAMESPACE: &str = "prod";
const POD_NAME: &str = "jazz-1";
/// The name that sidecars verify.
const REPLICA: &str = "meshmeter-0.meshmeter-ingest.meshmeter.svc.cluster.local";

fn pod(name: &str) -> Value {
    json!({
        "metadata": {
            "namespace": NAMESPACE, "name": name, "uid": format!("uid-{name}"), "labels": {"app": "jazz"}},
        "status": {"phase": "Running", "podIP": "127.0.0.1"},
    })
}

async fn send(envoy: &Envoy, count: u64) {
    let listener = envoy.listener(INBOUND_LISTENER).unwrap();
    for _ in 0..count {
        http::get_ok(listener, "/").await.unwrap();
    }
}

/// Waits until the aggregator has exactly `requests` of the pod with the token.
async fn arrives(aggregator: &Aggregator, requests: u64) {
    arrives_of(aggregator, POD_NAME, requests).await;
}

async fn arrives_of(aggregator: &Aggregator, name: &str, requests: u64) {
    let what = format!("{requests} requests of {name}");
    let arrived = clock::wait_for(&what, PATIENCE, async || {
        let pods = aggregator.pods().await?;
        let found = pods
            .get(NAMESPACE, name)
            .ok()
            .and_then(|pod| pod.requests("inbound"));
        Ok((found == Some(requests)).then_some(()))
    });
    if let Err(error) = arrived.await {
        panic!("{error:#}\n{}", aggregator.log_tail());
    }
}

/// A real Envoy in front of an application: it trusts `ca.pem` in `directory` and shows what is in
/// `token` there.
async fn sidecar(aggregator: &Aggregator, directory: &Path, server_name: &str) -> (Envoy, App) {
    let file = |name: &str| directory.join(name);
    write_secret(&file("secret.json"), &file("token")).unwrap();
    let secure = Secure {
        ca: file("ca.pem"),
        server_name: server_name.to_owned(),
        token: file("secret.json"),
    };
    sidecar_of(aggregator, POD_NAME, Some(secure)).await
}

async fn sidecar_of(aggregator: &Aggregator, name: &str, secure: Option<Secure>) -> (Envoy, App) {
    let app = App::start(([127, 0, 0, 1], 0).into(), Behaviour::jazz_v1())
        .await
        .unwrap();
    let mut sidecar = Sidecar::new(NAMESPACE, name, app.address());
    sidecar.uid = format!("uid-{name}");
    sidecar.aggregator = Some(aggregator.ingest());
    sidecar.secure = secure;
    let config = sidecar.bootstrap().unwrap().to_json();
    let options = tests_support::envoy::Options::default();
    let envoy = Envoy::start(&config, &options).await;
    (envoy.unwrap(), app)
}

/// An aggregator that makes its own certificate and asks for tokens; its CA and the pod's token are
/// in `directory`.
async fn self_managed(server: &ApiServer, directory: &Path, more: &[&str]) -> Aggregator {
    server.objects().apply(POD, pod(POD_NAME));
    add_token(server, "first", NAMESPACE, POD_NAME);
    let file = |name: &str| directory.join(name);
    server.write_kubeconfig(&file("kubeconfig")).unwrap();
    let kubeconfig = format!("--kubeconfig={}", file("kubeconfig").display());
    let flags = [
        "--ingest-tls=self-managed",
        "--ingest-identity=token",
        "--ingest-token-verification=review",
    ];
    let flags = flags.iter().chain(more).map(|flag| (*flag).to_owned());
    let options = Options {
        flags: [kubeconfig].into_iter().chain(flags).collect(),
        ..Options::default()
    };
    let aggregator = Aggregator::start(&options).await.unwrap();
    let map = clock::wait_for("the ConfigMap", PATIENCE, async || {
        let objects = server.objects();
        Ok(objects.get(CONFIG_MAP, "meshmeter", "meshmeter-ca"))
    });
    let map = map.await.unwrap();
    std::fs::write(file("ca.pem"), map["data"]["ca.crt"].as_str().unwrap()).unwrap();
    write_token(&file("token"), "first").unwrap();
    aggregator
}

/// With `--ingest-tls self-managed` and nothing else: Envoy verifies a replica by its own name (the
/// certificate has a wildcard) and by the CA in the `ConfigMap`, and each request is counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_self_managed_certificate_is_verified_by_envoy() {
    let server = ApiServer::start().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let aggregator = self_managed(&server, directory.path(), &[]).await;
    let (envoy, _app) = sidecar(&aggregator, directory.path(), REPLICA).await;
    send(&envoy, 20).await;
    arrives(&aggregator, 20).await;
    send(&envoy, 13).await;
    arrives(&aggregator, 33).await;
    let failed = aggregator.metric(
        "meshmeter_handshakes_failed_total{listener=\"ingest\",reason=\"peer_rejected_certificate\"}",
    );
    assert_eq!(failed.await.unwrap(), Some(0.0));
}

/// With `--ingest-tls-mode permissive` an Envoy by TLS and one without stream to the same port, and
/// each request of either is counted. Once the latter is gone, no stream is plain.
#[tokio::test(flavor = "multi_thread")]
async fn one_port_takes_envoys_with_tls_and_without() {
    let server = ApiServer::start().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    server.objects().apply(POD, pod("jazz-2"));
    let permissive = ["--ingest-tls-mode=permissive"];
    let aggregator = self_managed(&server, directory.path(), &permissive).await;
    let (secure, _app) = sidecar(&aggregator, directory.path(), REPLICA).await;
    let (plain, _other_app) = sidecar_of(&aggregator, "jazz-2", None).await;
    let is_plain = async |streams: f64| {
        let counted = clock::wait_for("plain streams", PATIENCE, async || {
            let metric = aggregator.metric("meshmeter_ingest_streams_plain").await?;
            Ok(metric.filter(|metric| (metric - streams).abs() < 0.5))
        });
        counted.await.unwrap();
    };
    for round in [1, 2] {
        send(&secure, 20).await;
        send(&plain, 13).await;
        arrives_of(&aggregator, POD_NAME, 20 * round).await;
        arrives_of(&aggregator, "jazz-2", 13 * round).await;
        is_plain(1.0).await;
    }
    drop(plain);
    is_plain(0.0).await;
    send(&secure, 7).await;
    arrives_of(&aggregator, POD_NAME, 47).await;
}

/// A pod's own token lets it in; a rotated one too, on the next stream, with no request lost; a
/// revoked one and that of another pod do not, and traffic goes on all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_token_is_shown() {
    let server = ApiServer::start().await.unwrap();
    server.objects().apply(POD, pod(POD_NAME));
    add_token(&server, "first", NAMESPACE, POD_NAME);
    add_token(&server, "second", NAMESPACE, POD_NAME);
    add_token(&server, "foreign", NAMESPACE, "other-1");
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    let mut options = secured::options(&server, directory.path()).unwrap();
    let mut aggregator = Aggregator::start(&options).await.unwrap();
    options.ingest = aggregator.ingest();

    write_token(&file("token"), "first").unwrap();
    let (envoy, _app) = sidecar(&aggregator, directory.path(), SERVER_NAME).await;
    send(&envoy, 5).await;
    arrives(&aggregator, 5).await;

    // Rotated: the stream stays, and the next one shows the new token.
    write_token(&file("token"), "second").unwrap();
    server.revoke_token("first");
    send(&envoy, 5).await;
    arrives(&aggregator, 10).await;
    aggregator.kill().await.unwrap();
    send(&envoy, 5).await;
    aggregator = Aggregator::start(&options).await.unwrap();
    arrives(&aggregator, 15).await;

    // That of another pod is refused with a reason, and costs no request.
    write_token(&file("token"), "foreign").unwrap();
    aggregator.kill().await.unwrap();
    aggregator = Aggregator::start(&options).await.unwrap();
    let refused = clock::wait_for("a refusal", PATIENCE, async || {
        send(&envoy, 1).await;
        let refused = aggregator.metric("meshmeter_ingest_refused_total").await?;
        Ok(refused.filter(|count| *count > 0.0))
    });
    refused.await.unwrap();
    let why = "the stream belongs to pod prod/other-1, not to prod/jazz-1: a stream may report only its own pod";
    assert!(aggregator.log().contains(why), "{}", aggregator.log_tail());
    let pods = aggregator.pods().await.unwrap();
    assert!(
        pods.get(NAMESPACE, POD_NAME)
            .ok()
            .is_none_or(|pod| pod.requests("inbound").is_none())
    );
}
