//! Bad input over the wire: a Status that names the thing, a counter, and nobody else disturbed.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::app::{App, V2, eventually};
use crate::client;
use crate::sidecar::{Sidecar, inbound};

const PODS: &str = "/namespaces/prod/pods/%2A";

fn refused(reason: &str) -> String {
    format!("meshmeter_api_refused_total{{reason=\"{reason}\"}}")
}

fn cut(reason: &str) -> String {
    format!("meshmeter_connections_cut_total{{listener=\"api\",reason=\"{reason}\"}}")
}

fn request(method: Method, uri: &str, body: &'static str) -> Request<Full<Bytes>> {
    let body = Full::new(Bytes::from_static(body.as_bytes()));
    Request::builder()
        .method(method)
        .uri(uri)
        .body(body)
        .unwrap()
}

/// Method, URL, body; status, reason counted, part of the message.
type Bad = (
    Method,
    String,
    &'static str,
    u16,
    &'static str,
    &'static str,
);

fn bad_requests() -> Vec<Bad> {
    let metric = format!("{V2}{PODS}/appmesh_requests_per_second");
    let get = |uri, status, reason, message| (Method::GET, uri, "", status, reason, message);
    vec![
        get(
            format!("{V2}{PODS}/nothing"),
            404,
            "unknown_metric",
            "could not find the metric nothing for pods",
        ),
        get(
            format!("{metric}?labelSelector=a%3D%3D%3Db"),
            400,
            "label_selector",
            "found '=', expected: identifier",
        ),
        get(
            format!("{metric}?metricLabelSelector=verb%3DGET"),
            400,
            "metric_label_selector",
            "unknown key \"verb\"",
        ),
        get(
            format!("{V2}/namespaces/%zz/pods/*/m"),
            400,
            "path",
            "\"%zz\"",
        ),
        get(
            "/apis/nothing/at/all".into(),
            404,
            "path",
            "/apis/nothing/at/all",
        ),
        get(
            format!("{metric}?x={}", "x".repeat(9000)),
            414,
            "url_length",
            "the URL has ",
        ),
        (
            Method::POST,
            metric.clone(),
            "",
            405,
            "method",
            "the method POST is not supported",
        ),
        (
            Method::GET,
            metric,
            "body",
            400,
            "body",
            "must not have a body",
        ),
    ]
}

/// Every kind of bad request, one after another, beside a sidecar that goes on reporting.
#[tokio::test(flavor = "multi_thread")]
async fn refuses_bad_requests_by_name() {
    let app = App::start().await;
    let mut sidecar = Sidecar::connect(app.addresses.ingest, "jazz-1", "jazz").await;
    for (method, uri, body, status, reason, message) in bad_requests() {
        let before = app.counter(&refused(reason)).await;
        let reply = client::send(app.addresses.api, request(method, &uri, body)).await;
        assert_eq!(reply.status.as_u16(), status, "{uri}: {}", reply.text());
        let json = reply.json();
        assert_eq!(json["kind"], "Status", "{uri}");
        assert_eq!(json["code"], status, "{uri}");
        assert!(
            json["message"].as_str().unwrap().contains(message),
            "{uri}: {json}"
        );
        assert!(!reply.headers.contains_key("retry-after"));
        assert_eq!(
            app.counter(&refused(reason)).await,
            before + 1,
            "{uri}: {reason}"
        );
    }
    sidecar.report(vec![inbound(100, 100)]).await;
    let reply = app.metric("appmesh_requests_per_second", "").await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    app.stop().await;
}

/// Headers beyond the limit are refused with a Status; a head without end is cut and counted.
#[tokio::test(flavor = "multi_thread")]
async fn bounds_request_heads() {
    let app = App::start().await;
    let mut large = request(Method::GET, V2, "");
    large
        .headers_mut()
        .insert("x-large", "v".repeat(33 * 1024).parse().unwrap());
    let reply = client::send(app.addresses.api, large).await;
    assert_eq!(reply.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    assert_eq!(reply.json()["kind"], "Status");
    assert_eq!(app.counter(&refused("header_size")).await, 1);

    let mut stream = client::connect(app.addresses.api, b"http/1.1")
        .await
        .unwrap();
    let head = format!("GET / HTTP/1.1\r\nx: {}", "v".repeat(200 * 1024));
    // The server may close before it has read all of it.
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let counted = async || (app.counter(&cut("head_size")).await == 1).then_some(());
    eventually("the second refusal", counted).await;
    app.stop().await;
}

/// Whoever does not speak TLS, or not HTTP, is turned away and counted; the API goes on.
#[tokio::test(flavor = "multi_thread")]
async fn turns_away_strangers() {
    let app = App::start().await;
    let mut plain = TcpStream::connect(app.addresses.api).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    let not_tls = "meshmeter_handshakes_failed_total{listener=\"api\",reason=\"not_tls\"}";
    let counted = async || (app.counter(not_tls).await == 1).then_some(());
    eventually("the refused handshake", counted).await;

    let mut garbage = client::connect(app.addresses.api, b"http/1.1")
        .await
        .unwrap();
    garbage
        .write_all(b"\x00\x01\x02 not http\r\n\r\n")
        .await
        .unwrap();
    let _ = garbage.read_to_end(&mut answer).await;
    let counted = async || (app.counter(&cut("protocol")).await == 1).then_some(());
    eventually("the refused protocol", counted).await;
    assert_eq!(app.get("/livez").await.status, StatusCode::OK);
    app.stop().await;
}
