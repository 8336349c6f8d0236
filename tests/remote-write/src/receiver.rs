//! A receiver in the test's own process: keeps every request and answers as the test says.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aggregator_remote_write::write_request::WriteRequest;
use anyhow::{Context, Result};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its headers.
    pub headers: HeaderMap,
    /// What it holds.
    pub request: WriteRequest,
    /// The answer.
    pub status: StatusCode,
}

/// The answer to the nth request, counted from 0, and how long it takes.
pub type Answers = Arc<dyn Fn(usize) -> (StatusCode, Duration) + Send + Sync>;

/// A running one.
#[derive(Debug)]
pub struct TestReceiver {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    _stop: DropGuard,
}

// === impl TestReceiver ===

impl TestReceiver {
    /// Starts it.
    pub async fn start(answers: Answers) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let received = Arc::new(Mutex::new(Vec::new()));
        let stop = CancellationToken::new();
        let serving = serve(listener, answers, Arc::clone(&received));
        tokio::spawn(stop.clone().run_until_cancelled_owned(serving));
        Ok(Self {
            address,
            received,
            _stop: stop.drop_guard(),
        })
    }

    /// Where to write to.
    pub fn url(&self) -> String {
        format!("http://{}/push", self.address)
    }

    /// Every request so far, in the order they came.
    pub fn received(&self) -> Vec<Received> {
        let received = self.received.lock();
        received.map_or_else(|poisoned| poisoned.into_inner().clone(), |all| all.clone())
    }
}

async fn serve(listener: TcpListener, answers: Answers, received: Arc<Mutex<Vec<Received>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (answers, received) = (Arc::clone(&answers), Arc::clone(&received));
        let service = service_fn(move |request| {
            let (answers, received) = (Arc::clone(&answers), Arc::clone(&received));
            async move { Ok::<_, Infallible>(answer(request, &answers, &received).await) }
        });
        let serving = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move { drop(serving.await) });
    }
}

async fn answer(
    request: http::Request<Incoming>,
    answers: &Answers,
    received: &Mutex<Vec<Received>>,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes);
    let decoded = body.map_err(Into::into).and_then(|body| decode(&body));
    let (status, delay) = match (decoded, received.lock()) {
        (Ok(request), Ok(mut received)) => {
            let (status, delay) = answers(received.len());
            received.push(Received {
                headers: head.headers,
                request,
                status,
            });
            (status, delay)
        }
        _ => (StatusCode::IM_A_TEAPOT, Duration::ZERO),
    };
    tokio::time::sleep(delay).await;
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

fn decode(body: &[u8]) -> Result<WriteRequest> {
    let raw = snap::raw::Decoder::new().decompress_vec(body);
    let raw = raw.context("not Snappy's block format")?;
    WriteRequest::decode(raw.as_slice()).context("not a WriteRequest")
}
