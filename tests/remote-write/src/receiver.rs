//! A receiver in the test's own process: keeps every request and answers as the test says.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aggregator_remote_write::protocol::Version;
use aggregator_remote_write::write_request::{WriteRequest, v2};
use anyhow::{Context, Result};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Received {
    pub method: Method,
    pub headers: HeaderMap,
    /// The version that its headers tell.
    pub version: Version,
    /// What it holds, if it is of 1.0.
    pub request: WriteRequest,
    /// What it holds, if it is of 2.0.
    pub request_v2: v2::Request,
    pub status: StatusCode,
}

/// The answer to the nth request, counted from 0, and how long it takes.
pub type Answers = Arc<dyn Fn(usize) -> (StatusCode, Duration) + Send + Sync>;

/// Samples that a receiver of 2.0 says it wrote of a request; `None` if it is one of 1.0 and says
/// nothing.
pub type Written = fn(&Received) -> Option<usize>;

const SAMPLES_WRITTEN: HeaderName =
    HeaderName::from_static("x-prometheus-remote-write-samples-written");

#[derive(Debug)]
pub struct TestReceiver {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    _stop: DropGuard,
}

// === impl TestReceiver ===

impl TestReceiver {
    /// Starts one of 1.0.
    pub async fn start(answers: Answers) -> Result<Self> {
        Self::start_with(answers, |_| None).await
    }

    /// Starts one that says what it wrote.
    pub async fn start_with(answers: Answers, written: Written) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let received = Arc::new(Mutex::new(Vec::new()));
        let stop = CancellationToken::new();
        let serving = serve(listener, answers, written, Arc::clone(&received));
        tokio::spawn(stop.clone().run_until_cancelled_owned(serving));
        Ok(Self {
            address,
            received,
            _stop: stop.drop_guard(),
        })
    }

    pub fn url(&self) -> String {
        format!("http://{}/push", self.address)
    }

    /// Every request so far, in the order they came.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().clone()
    }
}

async fn serve(
    listener: TcpListener,
    answers: Answers,
    written: Written,
    received: Arc<Mutex<Vec<Received>>>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let (answers, received) = (Arc::clone(&answers), Arc::clone(&received));
        let service = service_fn(move |request| {
            let (answers, received) = (Arc::clone(&answers), Arc::clone(&received));
            async move { Ok::<_, Infallible>(answer(request, &answers, written, &received).await) }
        });
        let serving = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move { drop(serving.await) });
    }
}

async fn answer(
    request: http::Request<Incoming>,
    answers: &Answers,
    written: Written,
    received: &Mutex<Vec<Received>>,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes);
    let version = head.headers.get("x-prometheus-remote-write-version");
    let version = match version.map(HeaderValue::as_bytes) {
        Some(b"2.0.0") => Version::V2,
        _ => Version::V1,
    };
    let decoded = body
        .map_err(Into::into)
        .and_then(|body| decode(&body, version));
    let mut samples_written = None;
    let (status, delay) = match decoded {
        Ok((request, request_v2)) => {
            let mut received = received.lock();
            let (status, delay) = answers(received.len());
            let one = Received {
                method: head.method,
                headers: head.headers,
                version,
                request,
                request_v2,
                status,
            };
            samples_written = written(&one);
            received.push(one);
            (status, delay)
        }
        Err(_) => (StatusCode::IM_A_TEAPOT, Duration::ZERO),
    };
    tokio::time::sleep(delay).await;
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    if let Some(samples) = samples_written {
        let headers = response.headers_mut();
        headers.insert(SAMPLES_WRITTEN, HeaderValue::from(samples));
    }
    response
}

fn decode(body: &[u8], version: Version) -> Result<(WriteRequest, v2::Request)> {
    let raw = snap::raw::Decoder::new().decompress_vec(body);
    let raw = raw.context("not Snappy's block format")?;
    Ok(match version {
        Version::V1 => {
            let request = WriteRequest::decode(raw.as_slice()).context("not a WriteRequest")?;
            (request, v2::Request::default())
        }
        Version::V2 => {
            let request = v2::Request::decode(raw.as_slice()).context("not a Request of 2.0")?;
            (WriteRequest::default(), request)
        }
    })
}
