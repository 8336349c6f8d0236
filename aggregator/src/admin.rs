//! HTTP for operators: `/metrics`, `/healthz`, `/livez`, `/readyz`, `/debug/pods`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aggregator_core::store::Store;
use aggregator_ingest::PlainStreams;
use common_http::health::ReadinessChecks;
use common_http::pages::{self, HttpResponse, answer, text};
use common_http::{Limits, Metrics, Peer, RequestBody, Server, Settings};
use common_time::Clock;
use http::{Method, Request, StatusCode};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::debug_pods;

/// How long responses may take to be sent at shutdown; all are built from memory.
const DRAIN_WITHIN: Duration = Duration::from_millis(200);

pub struct Admin {
    /// The store, for `/debug/pods`.
    pub store: Arc<Store>,
    pub clock: Clock,
    /// For `/metrics`.
    pub registry: Arc<Registry>,
    /// For `/readyz`.
    pub readiness: ReadinessChecks,
    /// For `/debug/pods`.
    pub plain_streams: PlainStreams,
}

// === impl Admin ===

impl Admin {
    /// Serves until `shutdown`.
    pub async fn serve(
        self,
        listener: TcpListener,
        limits: Limits,
        metrics: Metrics,
        shutdown: CancellationToken,
    ) {
        let settings = Settings {
            limits,
            ..pages::settings()
        };
        let admin = Arc::new(self);
        let handler = move |peer: &Arc<Peer>| {
            // `kubectl port-forward` comes from loopback, too. Other peers get metrics only,
            // without names of pods.
            let is_local = peer.ip().is_some_and(|ip| ip.is_loopback());
            let admin = Arc::clone(&admin);
            move |request: Request<RequestBody>| {
                let admin = Arc::clone(&admin);
                async move { admin.respond(&request, is_local) }
            }
        };
        Server::new(settings, &metrics)
            .serve(listener, shutdown, DRAIN_WITHIN, handler)
            .await;
    }

    fn respond<B>(&self, request: &Request<B>, is_local: bool) -> HttpResponse {
        let (method, uri) = (request.method(), request.uri());
        let checks = || (self.readiness)();
        if let Some(page) = pages::page(method, uri, request.headers(), &self.registry, checks) {
            return page;
        }
        if method != Method::GET {
            return pages::only_get();
        }
        match uri.path() {
            "/debug/pods" if is_local => self.pods(),
            "/debug/pods" => text(
                StatusCode::FORBIDDEN,
                "/debug/pods is for loopback only: use kubectl port-forward\n",
            ),
            _ => text(
                StatusCode::NOT_FOUND,
                "paths: /metrics, /healthz, /livez, /readyz[?verbose], /debug/pods\n",
            ),
        }
    }

    fn pods(&self) -> HttpResponse {
        match debug_pods::of(&self.store, &self.plain_streams.by_pod(), self.clock.now()) {
            Ok(json) => answer(StatusCode::OK, json.into(), "application/json"),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}
