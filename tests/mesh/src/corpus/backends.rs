//! Backends of the corpus: an application that describes its request, an echo, and a server
//! with TLS.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::crypto::ring;
use tests_support::kubernetes::CertificateAuthority;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The name of the server with TLS.
pub const TLS_NAME: &str = "s3.eu-west-1.amazonaws.com";
pub const TLS_TEXT: &[u8] = b"of amazon";

/// All of them; they end when dropped.
#[derive(Debug)]
pub struct Backends {
    /// Describes its request, by HTTP/1.1 and HTTP/2.
    pub application: SocketAddr,
    pub echo: SocketAddr,
    /// Says [`TLS_TEXT`] over TLS.
    pub tls: SocketAddr,
    pub ca: CertificateAuthority,
    _stop: DropGuard,
}

// === impl Backends ===

impl Backends {
    pub async fn start() -> Result<Self> {
        let ca = CertificateAuthority::new("amazon")?;
        let (certificates, key) = ca.server(&[TLS_NAME])?.to_rustls()?;
        let config =
            rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_single_cert(certificates, key)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let stop = CancellationToken::new();
        Ok(Self {
            application: listen(&stop, application).await?,
            echo: listen(&stop, echo).await?,
            tls: listen(&stop, move |stream| secure(acceptor.clone(), stream)).await?,
            ca,
            _stop: stop.drop_guard(),
        })
    }
}

async fn listen<F>(
    stop: &CancellationToken,
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> Result<SocketAddr>
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let accepting = async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    };
    tokio::spawn(stop.clone().run_until_cancelled_owned(accepting));
    Ok(address)
}

async fn echo(mut stream: TcpStream) {
    let (mut from, mut to) = stream.split();
    // The other end may go at any time.
    let _ = tokio::io::copy(&mut from, &mut to).await;
}

async fn secure(acceptor: TlsAcceptor, stream: TcpStream) {
    if let Ok(mut stream) = acceptor.accept(stream).await {
        let _ = stream.write_all(TLS_TEXT).await;
        let _ = stream.shutdown().await;
    }
}

async fn application(stream: TcpStream) {
    let service = service_fn(|request| async { Ok::<_, Infallible>(answer(request).await) });
    let _ = auto::Builder::new(TokioExecutor::new())
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await;
}

async fn answer(request: Request<Incoming>) -> Response<Full<Bytes>> {
    if request.headers().contains_key(header::UPGRADE) {
        return upgraded(request);
    }
    let (head, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes);
    let body = body.unwrap_or_default();
    let mut text = format!("{} {}\n", head.method, head.uri.path());
    text.push_str(&sorted_headers(&head.headers));
    let _ = writeln!(text, "{} bytes", body.len());
    let mut response = Response::new(Full::from(text));
    if let Some(status) = head.uri.path().strip_prefix("/status/") {
        let status = status.parse().unwrap_or(StatusCode::BAD_REQUEST);
        *response.status_mut() = status;
    }
    response
}

fn upgraded(mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            let (mut from, mut to) = tokio::io::split(TokioIo::new(upgraded));
            let _ = tokio::io::copy(&mut from, &mut to).await;
        }
    });
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(
        header::CONNECTION,
        header::HeaderValue::from_static("upgrade"),
    );
    headers.insert(
        header::UPGRADE,
        header::HeaderValue::from_static("websocket"),
    );
    response
}

/// Headers sorted by name, without those that differ with each request.
pub(super) fn sorted_headers(headers: &HeaderMap) -> String {
    const CHANGING: [&str; 4] = [
        "date",
        "x-request-id",
        "x-envoy-upstream-service-time",
        // Ports of the client's.
        "forwarded",
    ];
    let mut lines: Vec<String> = headers
        .iter()
        .filter(|(name, _)| !CHANGING.contains(&name.as_str()))
        .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    lines.sort();
    lines.concat()
}

pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}
