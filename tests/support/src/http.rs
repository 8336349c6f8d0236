//! One GET at a time, over plain TCP: for admin pages. Answers are bounded in size and time.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest answer that is read, in bytes. A full `/stats` page of a sidecar has about 100 KiB.
const BODY_MAX: usize = 16 << 20;
/// Longest time for one exchange.
const EXCHANGE_MAX: Duration = Duration::from_secs(10);

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

// === impl Response ===

impl Response {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON of the shape `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).with_context(|| {
            format!(
                "status {}, not JSON as expected: {}",
                self.status,
                self.text()
            )
        })
    }
}

/// GETs `path` from `address`, whatever the status of the answer.
pub async fn get(address: SocketAddr, path: &str) -> Result<Response> {
    exchange("GET", address, path).await
}

/// As [`get`], but fails unless the status is 200.
pub async fn get_ok(address: SocketAddr, path: &str) -> Result<Response> {
    let response = get(address, path).await?;
    if response.status != StatusCode::OK {
        bail!(
            "GET http://{address}{path}: {} {}",
            response.status,
            response.text()
        );
    }
    Ok(response)
}

/// GETs `/metrics` of `address` as `OpenMetrics`, which says more than the text format; an error
/// unless the answer is 200.
pub async fn get_open_metrics(address: SocketAddr) -> Result<Response> {
    let mut request = request("GET", &address.to_string(), "/metrics")?;
    let accept = header::HeaderValue::from_static("application/openmetrics-text");
    request.headers_mut().insert(header::ACCEPT, accept);
    let exchanged = async { exchange_over(TcpStream::connect(address).await?, request).await };
    let response = timeout(EXCHANGE_MAX, exchanged)
        .await
        .context("no answer in time")??;
    anyhow::ensure!(response.status == StatusCode::OK, "{}", response.text());
    Ok(response)
}

/// POSTs nothing to `path` at `address`, as Envoy's admin pages that change something ask for.
pub async fn post(address: SocketAddr, path: &str) -> Result<Response> {
    exchange("POST", address, path).await
}

async fn exchange(method: &str, address: SocketAddr, path: &str) -> Result<Response> {
    let work = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        exchange_over(stream, request(method, &address.to_string(), path)?).await
    };
    let done = timeout(EXCHANGE_MAX, work).await;
    done.context("no answer in time")
        .flatten()
        .with_context(|| format!("{method} http://{address}{path}"))
}

/// A request without a body for `authority`.
pub(crate) fn request(method: &str, authority: &str, path: &str) -> Result<Request<Empty<Bytes>>> {
    let uri: Uri = path.parse().with_context(|| format!("path {path}"))?;
    Request::builder()
        .method(method)
        .uri(uri)
        .header(header::HOST, authority)
        .body(Empty::new())
        .context("build the request")
}

/// Sends one request over a fresh connection and reads the answer.
pub(crate) async fn exchange_over<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<Response>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, BODY_MAX).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("read the body: {error}"))?;
        Ok(Response {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
        })
    };
    // The connection only moves while it is polled; it ends with this call.
    tokio::pin!(exchange);
    tokio::select! {
        biased;
        result = &mut exchange => result,
        closed = connection => match closed {
            // The peer may close right behind a complete answer.
            Ok(()) => exchange.await,
            Err(error) => Err(error).context("the connection broke"),
        },
    }
}
