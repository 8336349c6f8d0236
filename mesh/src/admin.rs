//! `/metrics` and `/readyz`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Connections at once.
const CONNECTIONS_MAX: usize = 32;

/// Tells whether it is ready, and why not.
pub(crate) type Ready = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Listens, and serves until `stop` in a task of its own.
pub(crate) async fn start(
    address: SocketAddr,
    registry: Registry,
    ready: Ready,
    stop: CancellationToken,
) -> Result<SocketAddr> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("--admin-listen {address}"))?;
    let bound = listener.local_addr()?;
    tokio::spawn(stop.run_until_cancelled_owned(serve(listener, Arc::new(registry), ready)));
    Ok(bound)
}

async fn serve(listener: TcpListener, registry: Arc<Registry>, ready: Ready) {
    let free = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    while let Ok(permit) = Arc::clone(&free).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (registry, ready) = (Arc::clone(&registry), Arc::clone(&ready));
        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let answer = answer(request.uri().path(), request.headers(), &registry, &ready);
            async move { Ok::<_, Infallible>(answer) }
        });
        let serving = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            drop(serving.await);
            drop(permit);
        });
    }
}

fn answer(
    path: &str,
    headers: &HeaderMap,
    registry: &Registry,
    ready: &Ready,
) -> Response<Full<Bytes>> {
    let mut media_type = "text/plain; charset=utf-8";
    let (status, text) = match path {
        "/readyz" => match ready() {
            Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
            Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        },
        "/metrics" => match common_exposition::page(registry, headers) {
            Ok((page, of_page)) => {
                media_type = of_page;
                (StatusCode::OK, page)
            }
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        },
        _ => (
            StatusCode::NOT_FOUND,
            "there are /readyz and /metrics\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let media_type = HeaderValue::from_static(media_type);
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}
