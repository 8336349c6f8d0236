//! A client as kube-apiserver is one: HTTPS, verified by a CA and a name.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tests_support::kubernetes::ca::certificates;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Opens connections to one server.
#[derive(Clone)]
pub(crate) struct Client {
    address: SocketAddr,
    ca: String,
    name: String,
}

/// An open HTTP/2 connection. Clones share it.
#[derive(Clone)]
pub(crate) struct Http2(http2::SendRequest<Full<Bytes>>);

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) content_type: String,
    body: Bytes,
}

// === impl Reply ===

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    async fn read(response: http::Response<hyper::body::Incoming>) -> Result<Self> {
        let (head, body) = response.into_parts();
        let content_type = head.headers.get(header::CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        Ok(Self {
            status: head.status,
            content_type: content_type.unwrap_or_default().to_owned(),
            body: body.collect().await?.to_bytes(),
        })
    }
}

// === impl Client ===

impl Client {
    pub(crate) fn new(address: SocketAddr, ca: &str, name: &str) -> Self {
        Self {
            address,
            ca: ca.to_owned(),
            name: name.to_owned(),
        }
    }

    /// A verified connection that agreed upon `protocol`.
    pub(crate) async fn connect(&self, protocol: &[u8]) -> Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca)? {
            roots.add(certificate)?;
        }
        let provider = Arc::new(ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from(self.name.clone())?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream);
        stream.await.context("handshake")
    }

    /// The certificate that is shown, DER.
    pub(crate) async fn shown(&self) -> Result<Vec<u8>> {
        let stream = self.connect(b"h2").await?;
        let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
        Ok(shown.first().context("no certificate")?.to_vec())
    }

    /// Opens an HTTP/2 connection.
    pub(crate) async fn http2(&self) -> Result<Http2> {
        let stream = self.connect(b"h2").await?;
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Http2(sender))
    }

    /// POSTs a review over a connection of its own, HTTP/1.1.
    pub(crate) async fn review(&self, review: &Value) -> Result<Reply> {
        let request = post(&self.name, review.to_string());
        self.send(request).await
    }

    /// Sends any request over a connection of its own, HTTP/1.1.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Reply> {
        let stream = self.connect(b"http/1.1").await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let reply = Reply::read(sender.send_request(request).await?).await;
        connection.abort();
        reply
    }
}

// === impl Http2 ===

impl Http2 {
    pub(crate) async fn review(&mut self, review: &Value) -> Result<Reply> {
        self.0.ready().await?;
        let mut request = post("", review.to_string());
        *request.uri_mut() = "https://webhook/mutate?timeout=10s".parse()?;
        request.headers_mut().remove(header::HOST);
        Reply::read(self.0.send_request(request).await?).await
    }
}

/// A review on its way, as kube-apiserver sends one.
pub(crate) fn post(host: &str, body: String) -> Request<Full<Bytes>> {
    Request::builder()
        .method(Method::POST)
        .uri("/mutate?timeout=10s")
        .header(header::HOST, host)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, */*")
        .header(header::USER_AGENT, "kube-apiserver-admission")
        .body(Full::from(body))
        .unwrap()
}
