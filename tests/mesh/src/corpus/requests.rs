//! What is asked of an Envoy with the corpus, and what it answered: the same with and without our
//! parts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use tests_support::envoy::Envoy;
use tests_support::kubernetes::ca::certificates;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::backends::{Backends, Stream, TLS_NAME, sorted_headers};

const INGRESS: &str = "lds_ingress_0.0.0.0_15000";
const EGRESS: &str = "lds_egress_0.0.0.0_15001";
const GATEWAY: &str = "lds_ingress_0.0.0.0_8088";
const HTTP2: &str = "lds_ingress_0.0.0.0_15002";
const DEFAULT: &str = "lds_ingress_0.0.0.0_15003";
/// All listeners of the corpus.
pub const LISTENERS: [&str; 5] = [INGRESS, EGRESS, GATEWAY, HTTP2, DEFAULT];

const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Requests to HTTP/1.1 listeners: where, for which port by the proxy protocol (0: without), what,
/// and of whom.
const HTTP: [(&str, u16, &str, &str, &str); 12] = [
    (INGRESS, 9080, "GET", "/", "dj.prod.svc.cluster.local"),
    (INGRESS, 9080, "GET", "/a//b/../c%2Fd?x=1", "dj"),
    (INGRESS, 9080, "POST", "/body", "dj"),
    (INGRESS, 9080, "GET", "/status/503", "dj"),
    (INGRESS, 9081, "GET", "/lua", "dj"),
    (INGRESS, 9081, "HEAD", "/", "dj"),
    (EGRESS, 9080, "GET", "/", "jazz.prod.svc.cluster.local:9080"),
    (
        EGRESS,
        9080,
        "GET",
        "/status/503",
        "jazz.prod.svc.cluster.local",
    ),
    (EGRESS, 9080, "GET", "/", "nobody.prod.svc.cluster.local"),
    (GATEWAY, 0, "GET", "/jazz/x", "gateway.example"),
    (GATEWAY, 0, "GET", "/other", "gateway.example"),
    (DEFAULT, 0, "GET", "/status/404", "dj"),
];

/// The answers to everything, as text.
pub async fn answers(envoy: &Envoy, backends: &Backends) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for (listener, port, method, path, host) in HTTP {
        let what = format!("{method} {path} of {host} at {listener} for {port}");
        let stream = connect(envoy.listener(listener)?, port).await?;
        let answer = http1(stream, method, path, host).await;
        all.push(format!("{what}: {}", answer.with_context(|| what.clone())?));
    }
    all.push(http2(connect(envoy.listener(HTTP2)?, 0).await?).await?);
    all.push(websocket(connect(envoy.listener(INGRESS)?, 9080).await?).await?);
    for (listener, port) in [(INGRESS, 9443), (EGRESS, 7777)] {
        let stream = connect(envoy.listener(listener)?, port).await?;
        all.push(plain(stream).await?);
    }
    let egress = connect(envoy.listener(EGRESS)?, 443).await?;
    all.push(secure(egress, backends).await?);
    // No chain is for this port, and there is no other.
    let nowhere = connect(envoy.listener(INGRESS)?, 1).await?;
    all.push(format!(
        "nowhere: {:?}",
        http1(nowhere, "GET", "/", "dj").await.is_err()
    ));
    Ok(all)
}

async fn connect(address: SocketAddr, port: u16) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    if port != 0 {
        let line = format!("PROXY TCP4 127.0.0.1 127.0.0.1 12345 {port}\r\n");
        stream.write_all(line.as_bytes()).await?;
    }
    Ok(stream)
}

async fn http1(stream: TcpStream, method: &str, path: &str, host: &str) -> Result<String> {
    let exchange = async {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let body = if method == "POST" {
            vec![7; 100_000]
        } else {
            Vec::new()
        };
        let request = Request::builder()
            .method(Method::from_bytes(method.as_bytes())?)
            .uri(path)
            .header(header::HOST, host)
            .body(Full::new(Bytes::from(body)))?;
        text(sender.send_request(request).await?).await
    };
    timeout(ANSWER_MAX, exchange).await?
}

async fn http2(stream: TcpStream) -> Result<String> {
    let exchange = async {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await?;
        tokio::spawn(connection);
        let request = Request::post("http://dj.prod.svc.cluster.local/package.Service/Method")
            .header(header::CONTENT_TYPE, "application/grpc")
            .body(Full::new(Bytes::from_static(&[0; 5])))?;
        text(sender.send_request(request).await?).await
    };
    timeout(ANSWER_MAX, exchange).await?
}

async fn text(response: http::Response<hyper::body::Incoming>) -> Result<String> {
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(format!(
        "{}\n{}{body}",
        head.status,
        sorted_headers(&head.headers)
    ))
}

async fn websocket(mut stream: TcpStream) -> Result<String> {
    let request =
        "GET /chat HTTP/1.1\r\nhost: dj\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let head = read_until(&mut stream, b"\r\n\r\n").await?;
    let first = head.lines().next().unwrap_or_default().to_owned();
    Ok(format!("upgrade: {first}, {}", plain(stream).await?))
}

async fn plain(mut stream: TcpStream) -> Result<String> {
    stream.write_all(b"as it is.").await?;
    Ok(format!("echo: {}", read_until(&mut stream, b".").await?))
}

async fn secure(stream: TcpStream, backends: &Backends) -> Result<String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(certificates(&backends.ca.pem)?);
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(TLS_NAME)?;
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = timeout(ANSWER_MAX, connector.connect(name, stream)).await??;
    Ok(format!(
        "tls: {}",
        read_until(&mut stream, b"amazon").await?
    ))
}

async fn read_until(stream: &mut impl Stream, end: &[u8]) -> Result<String> {
    let mut read = Vec::new();
    let reading = async {
        while !read.ends_with(end) {
            let byte = stream.read_u8().await;
            read.push(byte.with_context(|| format!("after {} bytes", read.len()))?);
        }
        Ok::<_, anyhow::Error>(())
    };
    timeout(ANSWER_MAX, reading).await??;
    Ok(String::from_utf8_lossy(&read).into_owned())
}
