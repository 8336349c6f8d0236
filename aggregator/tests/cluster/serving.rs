//! The API's certificate: of a CA in a secret, as `caBundle`; or of files. And how long connections
//! last.

use http::{Request, Version};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tests_support::clock::wait_for;
use tests_support::kubernetes::objects::{API_SERVICE, POD, SECRET};
use tests_support::kubernetes::proxy::HPA_USER;
use tests_support::kubernetes::{ApiServer, CertificateAuthority};

use crate::client;
use crate::control_plane::{Caller, Cluster, PATIENCE, PODS, V2, api_service};

const SERVICE: &str = "v1beta2.custom.metrics.k8s.io";

/// kube-apiserver verifies the certificate by what we wrote into the `APIService`, and passes the
/// autoscaler's request on.
#[tokio::test(flavor = "multi_thread")]
async fn is_verified_by_the_ca_bundle() {
    let cluster = Cluster::start(&[]).await;
    cluster.server.allow(HPA_USER);
    let proxy = cluster.server.front_proxy();
    let layer = proxy.layer(cluster.addresses.api, "meshmeter-api.meshmeter.svc");
    let objects = cluster.server.objects();
    let list = layer.get(objects, SERVICE, PODS).await.unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    let other = proxy.layer(cluster.addresses.api, "other.meshmeter.svc");
    assert_eq!(
        other.get(objects, SERVICE, PODS).await.unwrap_err().code,
        503
    );
    cluster.stop().await;
}

/// A second replica uses the CA of the first: either one is verified by the same bundle.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_a_ca() {
    let first = Cluster::start(&[]).await;
    let objects = first.server.objects();
    let bundle = || objects.get(API_SERVICE, "", SERVICE).unwrap()["spec"]["caBundle"].clone();
    let (before, secret) = (
        bundle(),
        objects.get(SECRET, "meshmeter", "meshmeter-api-ca"),
    );
    assert!(before.is_string() && secret.is_some());
    // Its own server, with the secret that the first one made.
    let server = ApiServer::start().await.unwrap();
    server.objects().apply(SECRET, secret.unwrap());
    let mut unverified = api_service(SERVICE);
    unverified["spec"]["insecureSkipTLSVerify"] = true.into();
    server.objects().apply(API_SERVICE, unverified);
    let second = Cluster::with(server, &[]).await;
    let registered = second
        .server
        .objects()
        .get(API_SERVICE, "", SERVICE)
        .unwrap();
    assert_eq!(registered["spec"]["caBundle"], before);
    assert_eq!(registered["spec"]["insecureSkipTLSVerify"], false);
    second.stop().await;
    first.stop().await;
}

/// An `APIService` that leads to another server is left as it is, and does not keep the aggregator
/// from being ready.
#[tokio::test(flavor = "multi_thread")]
async fn other_servers_keep_their_ca() {
    let server = ApiServer::start().await.unwrap();
    let service = json!({"namespace": "monitoring", "name": "prometheus-adapter"});
    let spec = json!({"service": service, "insecureSkipTLSVerify": true});
    let theirs = "v1beta1.custom.metrics.k8s.io";
    let object = json!({"metadata": {"name": theirs}, "spec": spec});
    server.objects().apply(API_SERVICE, object);
    server.objects().apply(API_SERVICE, api_service(SERVICE));
    let cluster = Cluster::with(server, &[]).await;
    let objects = cluster.server.objects();
    let registered = objects.get(API_SERVICE, "", SERVICE).unwrap();
    assert!(registered["spec"]["caBundle"].is_string());
    assert_eq!(objects.get(API_SERVICE, "", theirs).unwrap()["spec"], spec);
    cluster.stop().await;
}

/// A certificate from files is shown, and the `APIServices` are left alone.
#[tokio::test(flavor = "multi_thread")]
async fn can_be_from_files() {
    let directory = tempfile::tempdir().unwrap();
    let ca = CertificateAuthority::new("company").unwrap();
    let issued = ca.server(&["meshmeter-api.meshmeter.svc"]).unwrap();
    let [certificate, key] = ["tls.crt", "tls.key"].map(|name| directory.path().join(name));
    std::fs::write(&certificate, &issued.certificate).unwrap();
    std::fs::write(&key, &issued.key).unwrap();
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    let flags = ["--api-cert-file", &certificate, "--api-key-file", &key];
    let cluster = Cluster::start(&flags).await;
    let stream = client::connect(cluster.addresses.api, b"h2").await.unwrap();
    let shown = stream.get_ref().1.peer_certificates().unwrap();
    assert_eq!(shown, issued.to_rustls().unwrap().0);
    let registered = cluster
        .server
        .objects()
        .get(API_SERVICE, "", SERVICE)
        .unwrap();
    assert!(registered["spec"]["caBundle"].is_null());
    cluster.stop().await;
}

/// A connection that is old enough is closed behind an answer that says so, so that the next one
/// may go elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn connections_end_after_a_while() {
    let cluster = Cluster::start(&["--api-connection-age-seconds", "1"]).await;
    let stream = client::connect(cluster.addresses.api, b"http/1.1")
        .await
        .unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let mut asked = 0;
    let host = cluster.addresses.api.to_string();
    let closing = wait_for("an answer that closes", PATIENCE, async || {
        asked += 1;
        let request = Request::get(V2)
            .version(Version::HTTP_11)
            .header("host", &host);
        let request = request.body(Full::<bytes::Bytes>::default()).unwrap();
        let answer = sender.send_request(request).await?;
        assert_eq!(answer.status(), 200);
        let close = answer
            .headers()
            .get("connection")
            .is_some_and(|value| value == "close");
        Ok(close.then_some(()))
    });
    closing.await.unwrap();
    assert!(asked > 1, "a young connection stays");
    tokio::time::timeout(PATIENCE, connection)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    cluster.stop().await;
}

/// Only pods that exist and are not on their way out have a value, as soon as the watch tells so.
#[tokio::test(flavor = "multi_thread")]
async fn follows_the_pods() {
    let cluster = Cluster::start(&[]).await;
    cluster.server.allow("jane");
    let jane = cluster.front_proxy("jane");
    let objects = cluster.server.objects();
    let name = "llm-959c885bb-8x7r2";
    let mut pod = objects.get(POD, "demo", name).unwrap();
    pod["metadata"]["deletionTimestamp"] = "2026-11-23T18:15:23Z".into();
    objects.apply(POD, pod);
    wait_for("one pod", PATIENCE, async || {
        let items = cluster.get(PODS, &jane).await.json()["items"].clone();
        Ok((items.as_array().map(Vec::len) == Some(1)).then_some(()))
    })
    .await
    .unwrap();
    let nobody = Caller::default();
    assert_eq!(cluster.get("/readyz/watches", &nobody).await.text(), "ok");
    cluster.stop().await;
}

/// Connections without a certificate, as many as the API has places for, do not keep kube-apiserver
/// out, whether it is connected already or comes anew.
#[tokio::test(flavor = "multi_thread")]
async fn kube_apiserver_is_not_locked_out() {
    let cluster = Cluster::start(&[]).await;
    cluster.server.allow(HPA_USER);
    let mut idle = Vec::new();
    for index in 0..1100 {
        // Most hold a connection, some a session too.
        if index % 10 == 0 {
            let stream = client::connect(cluster.addresses.api, b"h2").await.unwrap();
            idle.push(stream.into_inner().0);
        } else {
            let stream = tokio::net::TcpStream::connect(cluster.addresses.api).await;
            idle.push(stream.unwrap());
        }
    }
    let proxy = cluster.server.front_proxy();
    let layer = proxy.layer(cluster.addresses.api, "meshmeter-api.meshmeter.svc");
    let objects = cluster.server.objects();
    let list = layer.get(objects, SERVICE, PODS).await.unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    cluster.stop().await;
}
