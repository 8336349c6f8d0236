//! What is no review, and who takes too much room or time.

use std::time::Duration;

use http::{Method, StatusCode, header};
use serde_json::json;
use tests_support::stopwatch::Times;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::post;
use crate::program::{NAME, PATIENCE, Program, admitted, pod, review_of};

/// Each is refused with a status that says what is wrong, and counted by it; the next review is
/// answered as ever.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_review_is_refused() {
    let (program, files) = Program::with_files().await;
    let client = program.client(&files.ca.pem);
    let good = || post(NAME, review_of(None).to_string());
    let mut cases = Vec::new();
    let mut request = good();
    *request.uri_mut() = "/".parse().unwrap();
    cases.push((request, StatusCode::NOT_FOUND, "path"));
    let mut request = good();
    *request.method_mut() = Method::GET;
    cases.push((request, StatusCode::METHOD_NOT_ALLOWED, "method"));
    let mut request = good();
    let text = http::HeaderValue::from_static("text/plain");
    request.headers_mut().insert(header::CONTENT_TYPE, text);
    cases.push((request, StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type"));
    let request = post(NAME, "x".repeat(3 * 1024 * 1024 + 1));
    cases.push((request, StatusCode::PAYLOAD_TOO_LARGE, "large"));
    for (request, status, reason) in cases {
        // It may hang up on a body that it does not read.
        if let Ok(reply) = client.send(request).await {
            assert_eq!(reply.status, status, "{reason}: {}", reply.text());
        } else {
            assert_eq!(reason, "large");
        }
        let series = format!("requests_refused_total{{reason=\"{reason}\"}}");
        program.wait_metric(&series, 1.0).await;
    }
    for garbage in [
        "",
        "{",
        "[]",
        "{\"apiVersion\": \"admission.k8s.io/v1beta1\", \"request\": {\"uid\": \"1\"}}",
    ] {
        let reply = client.send(post(NAME, garbage.to_owned())).await.unwrap();
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{garbage}");
        assert!(!reply.text().is_empty());
    }
    let series = "reviews_total{result=\"malformed\",reason=\"\"}";
    program.wait_metric(series, 4.0).await;
    let review = review_of(None);
    admitted(&review, &client.review(&review).await.unwrap());
}

/// Pods that cannot be injected are admitted as they are, and whoever applies them reads why.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_never_refused() {
    let (program, files) = Program::with_files().await;
    let client = program.client(&files.ca.pem);
    let changed = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut pod = pod();
        change(&mut pod);
        pod
    };
    for (pod, reason, warned) in [
        (
            changed(&|pod| pod["spec"]["hostNetwork"] = true.into()),
            "host_network",
            true,
        ),
        (
            changed(&|pod| pod["spec"]["volumes"] = json!([{"name": "meshmeter-config"}])),
            "taken",
            true,
        ),
        (
            changed(&|pod| {
                let other = json!({"appmesh.k8s.aws/sidecarEnv": "ENVOY_RESOURCES_CONFIG_FILE=/x"});
                pod["metadata"]["annotations"] = other;
            }),
            "annotation",
            true,
        ),
        (
            changed(&|pod| pod["metadata"]["labels"]["meshmeter.io/inject"] = "disabled".into()),
            "disabled",
            false,
        ),
        (json!({"kind": "Pod"}), "no_pod", true),
    ] {
        let review = review_of(Some(&pod));
        let (same, response) = admitted(&review, &client.review(&review).await.unwrap());
        assert_eq!(same, pod, "{reason}");
        assert!(response["patch"].is_null(), "{reason}");
        assert_eq!(response["warnings"].is_array(), warned, "{reason}");
        let series = format!("reviews_total{{result=\"skipped\",reason=\"{reason}\"}}");
        program.wait_metric(&series, 1.0).await;
    }
}

/// Whoever is slow is told so when kube-apiserver would have given up, and whoever says nothing at
/// all is cut off.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_holds_it_up() {
    let (program, files) = Program::with_files().await;
    let client = program.client(&files.ca.pem);
    let mut silent = TcpStream::connect(program.addresses.webhook).await.unwrap();
    let mut slow = client.connect(b"http/1.1").await.unwrap();
    let head = "POST /mutate?timeout=1s HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                content-length: 1000\r\n\r\n{";
    slow.write_all(head.as_bytes()).await.unwrap();
    slow.flush().await.unwrap();
    let mut answer = [0; 12];
    let read = timeout(PATIENCE, slow.read_exact(&mut answer)).await;
    read.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    program
        .wait_metric("requests_refused_total{reason=\"slow\"}", 1.0)
        .await;
    let mut nothing = [0; 1];
    let read = timeout(PATIENCE, silent.read(&mut nothing)).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)));
    program
        .wait_metric(
            "handshakes_failed_total{listener=\"webhook\",reason=\"timeout\"}",
            1.0,
        )
        .await;
}

/// Bodies under way of one address take a bounded room: what it sends beyond that is refused at
/// once, and there is room again later.
#[tokio::test(flavor = "multi_thread")]
async fn room_is_bounded() {
    let (program, files) = Program::with_files().await;
    let client = program.client(&files.ca.pem);
    let mut bodies = Vec::new();
    // One address may have 8 MiB: three bodies of 2.5 MiB leave half a mebibyte.
    for _ in 0..3 {
        let mut stream = client.connect(b"http/1.1").await.unwrap();
        let head = "POST /mutate?timeout=30s HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                    content-length: 2621440\r\nexpect: 100-continue\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        // What says that it is being read.
        let mut answer = [0; 12];
        let read = timeout(PATIENCE, stream.read_exact(&mut answer)).await;
        read.unwrap().unwrap();
        assert_eq!(&answer, b"HTTP/1.1 100");
        bodies.push(stream);
    }
    let large = || {
        post(
            NAME,
            format!("{{\"x\": \"{}\"}}", "x".repeat(2 * 1024 * 1024)),
        )
    };
    if let Ok(reply) = client.send(large()).await {
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    program
        .wait_metric("requests_refused_total{reason=\"busy\"}", 1.0)
        .await;
    // An ordinary pod still fits.
    let review = review_of(None);
    admitted(&review, &client.review(&review).await.unwrap());
    drop(bodies);
    let room = tests_support::clock::wait_for("room", PATIENCE, async || {
        let reply = client.send(large()).await;
        Ok(reply
            .ok()
            .filter(|reply| reply.status == StatusCode::BAD_REQUEST))
    });
    room.await.unwrap();
}

/// Idle connections, more than there are places, keep no review out.
#[tokio::test(flavor = "multi_thread")]
async fn connections_are_bounded() {
    let (program, files) = Program::with_files().await;
    let client = program.client(&files.ca.pem);
    let mut others = Vec::new();
    let review = review_of(None);
    for _ in 0..300 {
        others.push(TcpStream::connect(program.addresses.webhook).await.unwrap());
    }
    admitted(&review, &client.review(&review).await.unwrap());
}

/// Idle connections to the admin port, twice as many as it has places, do not keep probes from
/// their answer.
#[tokio::test(flavor = "multi_thread")]
async fn probes_are_answered() {
    let (program, _files) = Program::with_files().await;
    let mut idle = Vec::new();
    for _ in 0..128 {
        idle.push(TcpStream::connect(program.addresses.admin).await.unwrap());
    }
    let pid = program.process.pid().unwrap();
    let mut times = Times::new(pid, Duration::from_secs(1));
    for path in ["/livez", "/readyz", "/livez", "/readyz"] {
        let lap = times.begin();
        let page = tests_support::http::get(program.addresses.admin, path).await;
        times.end(&lap);
        assert_eq!(page.unwrap().status, 200, "{path}");
    }
    times.judge("probes").unwrap();
}
