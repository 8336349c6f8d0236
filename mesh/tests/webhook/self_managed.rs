//! Certificates by a CA of our own, which kube-apiserver finds in the webhook configuration.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde_json::Value;
use tests_support::clock::wait_for;
use tests_support::kubernetes::ApiServer;
use tests_support::kubernetes::objects::{SECRET, WEBHOOK_CONFIGURATION};

use crate::program::{PATIENCE, Program, admitted, configuration, review_of};

const CONFIGURATION: &str = "aa-meshmeter-injector";

/// A webhook with a way to the cluster, and `flags`.
pub(crate) async fn start(server: &ApiServer, flags: &[&str]) -> Program {
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("kubeconfig");
    server.write_kubeconfig(&kubeconfig).unwrap();
    let mut flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    flags.push(format!("--kubeconfig={}", kubeconfig.display()));
    Program::start(directory, &flags).await
}

/// A cluster with the configuration, a webhook that is ready, and the CA in the bundle.
pub(crate) async fn ready() -> (ApiServer, Program, String) {
    let server = ApiServer::start().await.unwrap();
    server
        .objects()
        .apply(WEBHOOK_CONFIGURATION, configuration());
    let program = start(&server, &[]).await;
    program.wait_ready().await;
    let ca = bundle(&server).unwrap();
    (server, program, ca)
}

fn held(server: &ApiServer) -> Value {
    let held = server
        .objects()
        .get(WEBHOOK_CONFIGURATION, "", CONFIGURATION);
    held.unwrap()
}

/// The CA in each webhook, PEM; `None` unless all have the same.
pub(crate) fn bundle(server: &ApiServer) -> Option<String> {
    let held = held(server);
    let mut bundles = held["webhooks"]
        .as_array()?
        .iter()
        .map(|webhook| webhook["clientConfig"]["caBundle"].as_str());
    let first = bundles.next()??;
    if bundles.any(|bundle| bundle != Some(first)) {
        return None;
    }
    String::from_utf8(BASE64.decode(first).ok()?).ok()
}

/// Ready once each webhook has the CA, by which the certificate is verified; nothing else in it is
/// changed; and if somebody overwrites it, it is put back.
#[tokio::test(flavor = "multi_thread")]
async fn is_verified_by_the_ca_bundle() {
    let server = ApiServer::start().await.unwrap();
    let program = start(&server, &[]).await;
    // Nobody would call it yet.
    let unready = wait_for("what is missing", PATIENCE, async || {
        let (ready, text) = program.ready().await;
        Ok((!ready && text.contains(CONFIGURATION)).then_some(()))
    });
    unready.await.unwrap();
    server
        .objects()
        .apply(WEBHOOK_CONFIGURATION, configuration());
    program.wait_ready().await;
    let ca = bundle(&server).unwrap();
    let client = program.client(&ca);
    let review = review_of(None);
    admitted(&review, &client.review(&review).await.unwrap());
    // All else is as it was applied.
    let mut left = held(&server);
    for webhook in left["webhooks"].as_array_mut().unwrap() {
        let config = webhook["clientConfig"].as_object_mut().unwrap();
        assert!(config.remove("caBundle").is_some());
    }
    assert_eq!(left["webhooks"], configuration()["webhooks"]);
    assert_eq!(
        left["metadata"]["labels"],
        configuration()["metadata"]["labels"]
    );

    let mut other = configuration();
    other["webhooks"][0]["clientConfig"]["caBundle"] = BASE64.encode("other").into();
    server.objects().apply(WEBHOOK_CONFIGURATION, other);
    wait_for("the bundle to be put back", PATIENCE, async || {
        Ok((bundle(&server).as_ref() == Some(&ca)).then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(server.requests("create secrets"), 1);
}

/// Two replicas that begin at once share one CA: whichever answers is verified by the same bundle.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_a_ca() {
    let server = ApiServer::start().await.unwrap();
    server
        .objects()
        .apply(WEBHOOK_CONFIGURATION, configuration());
    let (one, other) = tokio::join!(start(&server, &[]), start(&server, &[]));
    one.wait_ready().await;
    other.wait_ready().await;
    let ca = bundle(&server).unwrap();
    let shown = async |program: &Program| program.client(&ca).shown().await.unwrap();
    assert_ne!(shown(&one).await, shown(&other).await);
    let secret = server
        .objects()
        .get(SECRET, "meshmeter", "meshmeter-injector-ca");
    assert_eq!(secret.unwrap()["type"], "kubernetes.io/tls");
}

/// While the cluster cannot be asked, a webhook that was ready stays so: without it pods would go
/// uninjected.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_leaves_it_ready() {
    let (server, program, ca) = ready().await;
    server.set_outage(Some(http::StatusCode::SERVICE_UNAVAILABLE));
    wait_for("the outage in the log", PATIENCE, async || {
        let log = program.process.log();
        Ok(log.contains("CA not registered").then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(program.ready().await, (true, "ok".to_owned()));
    let review = review_of(None);
    let reply = program.client(&ca).review(&review).await.unwrap();
    admitted(&review, &reply);
}

/// The secret was deleted: a new CA is in the bundle soon, beside the one that signs on, so that no
/// pod is admitted as it is in between.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_secret_begins_a_rotation() {
    let (server, program, old) = ready().await;
    let name = "meshmeter-injector-ca";
    assert!(server.objects().delete(SECRET, "meshmeter", name));
    let new = wait_for("another CA", PATIENCE, async || {
        Ok(bundle(&server).filter(|bundle| *bundle != old))
    });
    let new = new.await.unwrap();
    program.wait_ready().await;
    assert!(new.starts_with(&old));
    assert_eq!(new.matches("-----BEGIN CERTIFICATE-----").count(), 2);
    for bundle in [&old, &new] {
        assert!(program.client(bundle).shown().await.is_ok());
    }
    let secret = server.objects().get(SECRET, "meshmeter", name).unwrap();
    assert!(secret["data"]["next.crt"].is_string());
}
