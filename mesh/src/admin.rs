//! `/metrics`, `/livez` and `/readyz`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use common_http::health::Check;
use common_http::{Limits, Metrics, Peer, RequestBody, Server, Settings, pages};
use http::{Request, StatusCode};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Drain time at shutdown: responses are made from memory.
const DRAIN_WITHIN: Duration = Duration::from_millis(200);

/// The readiness check; an error is the reason.
pub(crate) type Ready = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Serves until `stop` in a new task; returns the bound address.
pub(crate) async fn start(
    address: SocketAddr,
    registry: Registry,
    (limits, metrics): (Limits, &Metrics),
    ready: Ready,
    stop: CancellationToken,
) -> Result<SocketAddr> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("--admin-listen {address}"))?;
    let bound = listener.local_addr()?;
    let registry = Arc::new(registry);
    let handler = move |_: &Arc<Peer>| {
        let (registry, ready) = (Arc::clone(&registry), Arc::clone(&ready));
        move |request: Request<RequestBody>| {
            let response = respond(&request, &registry, &ready);
            async move { response }
        }
    };
    let settings = Settings {
        limits,
        ..pages::settings()
    };
    let server = Server::new(settings, metrics);
    tokio::spawn(server.serve(listener, stop, DRAIN_WITHIN, handler));
    Ok(bound)
}

fn respond<B>(request: &Request<B>, registry: &Registry, ready: &Ready) -> pages::HttpResponse {
    let checks = || {
        let failure = ready().err();
        vec![Check {
            name: "ready",
            failure,
        }]
    };
    let (method, uri) = (request.method(), request.uri());
    let page = pages::page(method, uri, request.headers(), registry, checks);
    page.unwrap_or_else(|| {
        pages::text(
            StatusCode::NOT_FOUND,
            "paths: /metrics, /healthz, /livez, /readyz[?verbose]\n",
        )
    })
}
