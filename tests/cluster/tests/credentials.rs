//! A real Envoy whose credential injector puts a bound service account token on the stream, over TLS, and rotates it.

#![expect(clippy::unwrap_used, reason = "in a test any surprise is a failure")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tests_support::aggregator::{Aggregator, Options};
use tests_support::bootstrap::Secure;
use tests_support::djapp::{App, Behaviour};
use tests_support::envoy::Envoy;
use tests_support::kubernetes::objects::{CONFIG_MAP, POD};
use tests_support::kubernetes::{ApiServer, Authority, KnownUser};
use tests_support::sidecar::{INBOUND_LISTENER, Sidecar};
use tests_support::{clock, http};

const PATIENCE: Duration = Duration::from_mins(1);
const NAMESPACE: &str = "prod";
const POD_NAME: &str = "jazz-1";

/// The token of the pod `pod`, known to the cluster.
fn add_token(server: &ApiServer, token: &str, pod: &str) {
    let extra = [
        ("authentication.kubernetes.io/pod-name", pod.to_owned()),
        ("authentication.kubernetes.io/pod-uid", format!("uid-{pod}")),
    ];
    let extra = extra.map(|(key, value)| (key.to_owned(), vec![value]));
    let user = KnownUser {
        username: format!("system:serviceaccount:{NAMESPACE}:jazz"),
        extra: BTreeMap::from(extra),
        audiences: vec!["meshmeter".to_owned()],
        ..KnownUser::default()
    };
    server.add_token(token, user);
}

/// Puts the token into its file as the kubelet does: raw, whole or not at all.
fn write_token(file: &Path, token: &str) {
    let next = file.with_extension("next");
    std::fs::write(&next, token).unwrap();
    std::fs::rename(&next, file).unwrap();
}

/// Tells Envoy, in its own form, where the token is.
fn write_secret(file: &Path, token: &Path) {
    let secret = json!({"resources": [{
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": "token",
        "generic_secret": {"secret": {
            "filename": token,
            "watched_directory": {"path": token.parent()},
        }},
    }]});
    std::fs::write(file, secret.to_string()).unwrap();
}

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

/// Waits until the aggregator has exactly `requests` of the pod.
async fn arrives(aggregator: &Aggregator, requests: u64) {
    let what = format!("{requests} requests");
    let arrived = clock::wait_for(&what, PATIENCE, async || {
        let pods = aggregator.pods().await?;
        let found = pods
            .get(NAMESPACE, POD_NAME)
            .ok()
            .and_then(|pod| pod.requests("inbound"));
        Ok((found == Some(requests)).then_some(()))
    });
    if let Err(error) = arrived.await {
        panic!("{error:#}\n{}", aggregator.log_tail());
    }
}

const SERVER_NAME: &str = "meshmeter.meshmeter.svc";

/// An aggregator in the cluster of `server` that wants tokens, with all its files in `directory`.
fn secured(server: &ApiServer, directory: &Path) -> Options {
    let file = |name: &str| directory.join(name);
    let authority = Authority::new("meshmeter-ingest").unwrap();
    let issued = authority.server(&[SERVER_NAME]).unwrap();
    for (name, text) in [
        ("ca.pem", &authority.pem),
        ("tls.crt", &issued.certificate),
        ("tls.key", &issued.key),
    ] {
        std::fs::write(file(name), text).unwrap();
    }
    server.write_kubeconfig(&file("kubeconfig")).unwrap();
    let paths = [
        ("--kubeconfig", "kubeconfig"),
        ("--ingest-cert-file", "tls.crt"),
        ("--ingest-key-file", "tls.key"),
    ];
    let paths = paths.map(|(flag, name)| [flag.to_owned(), file(name).display().to_string()]);
    let mut flags: Vec<String> = paths.into_iter().flatten().collect();
    flags.extend(["--ingest-identity".to_owned(), "token".to_owned()]);
    Options {
        flags,
        ..Options::default()
    }
}

/// A real Envoy in front of an application: it trusts `ca.pem` in `directory` and shows what is in `token` there.
async fn sidecar(aggregator: &Aggregator, directory: &Path, server_name: &str) -> (Envoy, App) {
    let file = |name: &str| directory.join(name);
    write_secret(&file("secret.json"), &file("token"));
    let app = App::start(([127, 0, 0, 1], 0).into(), Behaviour::jazz_v1())
        .await
        .unwrap();
    let mut sidecar = Sidecar::new(NAMESPACE, POD_NAME, app.address());
    sidecar.uid = format!("uid-{POD_NAME}");
    sidecar.aggregator = Some(aggregator.ingest());
    sidecar.secure = Some(Secure {
        authority: file("ca.pem"),
        server_name: server_name.to_owned(),
        token: file("secret.json"),
    });
    let config = sidecar.bootstrap().unwrap().to_json();
    let options = tests_support::envoy::Options::default();
    let envoy = Envoy::start(&config, &options).await;
    (envoy.unwrap(), app)
}

/// With `--ingest-tls self-managed` and nothing else: Envoy verifies a replica by its own name (the certificate has a
/// wildcard) and by the authority in the `ConfigMap`, and each request is counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_self_managed_certificate_is_verified_by_envoy() {
    let server = ApiServer::start().await.unwrap();
    server.objects().apply(POD, pod(POD_NAME));
    add_token(&server, "first", POD_NAME);
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    server.write_kubeconfig(&file("kubeconfig")).unwrap();
    let kubeconfig = format!("--kubeconfig={}", file("kubeconfig").display());
    let options = Options {
        flags: vec![
            kubeconfig,
            "--ingest-tls=self-managed".to_owned(),
            "--ingest-identity=token".to_owned(),
        ],
        ..Options::default()
    };
    let aggregator = Aggregator::start(&options).await.unwrap();
    let map = clock::wait_for("the ConfigMap", PATIENCE, async || {
        let objects = server.objects();
        Ok(objects.get(CONFIG_MAP, "meshmeter", "meshmeter-ca"))
    });
    let map = map.await.unwrap();
    std::fs::write(file("ca.pem"), map["data"]["ca.crt"].as_str().unwrap()).unwrap();
    write_token(&file("token"), "first");
    let name = "meshmeter-0.meshmeter-ingest.meshmeter.svc.cluster.local";
    let (envoy, _app) = sidecar(&aggregator, directory.path(), name).await;
    send(&envoy, 20).await;
    arrives(&aggregator, 20).await;
    send(&envoy, 13).await;
    arrives(&aggregator, 33).await;
    let failed = aggregator.metric("meshmeter_ingest_handshakes_failed_total");
    assert_eq!(failed.await.unwrap(), Some(0.0));
}

/// A pod's own token lets it in; a rotated one too, on the next stream, with no request lost; a revoked one and that of
/// another pod do not, and traffic goes on all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_token_is_shown() {
    let server = ApiServer::start().await.unwrap();
    server.objects().apply(POD, pod(POD_NAME));
    add_token(&server, "first", POD_NAME);
    add_token(&server, "second", POD_NAME);
    add_token(&server, "foreign", "other-1");
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    let mut options = secured(&server, directory.path());
    let mut aggregator = Aggregator::start(&options).await.unwrap();
    options.ingest = aggregator.ingest();

    write_token(&file("token"), "first");
    let (envoy, _app) = sidecar(&aggregator, directory.path(), SERVER_NAME).await;
    send(&envoy, 5).await;
    arrives(&aggregator, 5).await;

    // Rotated: the stream stays, and the next one shows the new token.
    write_token(&file("token"), "second");
    server.revoke_token("first");
    send(&envoy, 5).await;
    arrives(&aggregator, 10).await;
    aggregator.kill().await.unwrap();
    send(&envoy, 5).await;
    aggregator = Aggregator::start(&options).await.unwrap();
    arrives(&aggregator, 15).await;

    // That of another pod is refused with a reason, and costs no request.
    write_token(&file("token"), "foreign");
    aggregator.kill().await.unwrap();
    aggregator = Aggregator::start(&options).await.unwrap();
    let refused = clock::wait_for("a refusal", PATIENCE, async || {
        send(&envoy, 1).await;
        let refused = aggregator.metric("meshmeter_ingest_refused_total").await?;
        Ok(refused.filter(|count| *count > 0.0))
    });
    refused.await.unwrap();
    let why = "the stream is that of pod prod/other-1, not of prod/jazz-1: a stream may speak for its own pod alone";
    assert!(aggregator.log().contains(why), "{}", aggregator.log_tail());
    let pods = aggregator.pods().await.unwrap();
    assert!(
        pods.get(NAMESPACE, POD_NAME)
            .ok()
            .is_none_or(|pod| pod.requests("inbound").is_none())
    );
}
