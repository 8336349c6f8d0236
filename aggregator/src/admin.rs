//! HTTP for operators: `/metrics`, `/healthz`, `/livez`, `/readyz`, `/debug/pods`; and for replicas that stand by.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aggregator_api::health::{self, Check, HealthQuery, ReadinessChecks};
use aggregator_core::store::Store;
use aggregator_core::time::Clock;
use aggregator_remote_write::handover::{self, Standbys};
use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::debug_pods;

/// Open connections: a scraper or two, probes, people. Who comes beyond that waits in the listener's queue.
const CONNECTIONS_MAX: usize = 64;

/// How long a client may take for a request head, idle time on a kept connection included.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);

/// Pause after a failed `accept`, for example for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";

/// What operators can see.
pub struct Admin {
    /// The store, for `/debug/pods`.
    pub store: Arc<Store>,
    /// The time.
    pub clock: Clock,
    /// For `/metrics`.
    pub registry: Registry,
    /// For `/readyz`.
    pub readiness: ReadinessChecks,
    /// For replicas that stand by, where there may be such.
    pub standbys: Option<Arc<Standbys>>,
}

type Answer = Response<Full<Bytes>>;

// === impl Admin ===

impl Admin {
    /// Serves until `shutdown`. Open requests are cut: each is answered from memory in no time, or waits for news.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) {
        let admin = Arc::new(self);
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                accepted = accept(&listener, &slots) => accepted,
            };
            match accepted {
                Ok((stream, slot)) => {
                    let admin = Arc::clone(&admin);
                    connections.spawn(async move {
                        admin.serve_connection(stream).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "admin connection not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        connections.shutdown().await;
    }

    async fn serve_connection(self: Arc<Self>, stream: TcpStream) {
        // A forwarded port comes from loopback too; whoever else reaches this listener gets numbers only.
        let peer = stream.peer_addr();
        let is_local = peer.is_ok_and(|peer| peer.ip().to_canonical().is_loopback());
        let service = service_fn(move |request: Request<Incoming>| {
            let admin = Arc::clone(&self);
            async move { Ok::<_, Infallible>(admin.respond(&request, is_local).await) }
        });
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_PATIENCE);
        if let Err(error) = builder
            .serve_connection(TokioIo::new(stream), service)
            .await
        {
            tracing::debug!(%error, "admin connection failed");
        }
    }

    async fn respond<B>(&self, request: &Request<B>, is_local: bool) -> Answer {
        let (method, uri) = (request.method(), request.uri());
        if method != Method::GET {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is supported\n");
            answer
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET"));
            return answer;
        }
        match uri.path() {
            "/metrics" => self.metrics(request.headers()),
            "/debug/pods" if is_local => self.pods(),
            "/debug/pods" => text(
                StatusCode::FORBIDDEN,
                "/debug/pods is for loopback only: use kubectl port-forward\n",
            ),
            handover::PATH => self.checkpoint(request).await,
            "/healthz" | "/livez" => health(
                "livez",
                &[Check {
                    name: "ping",
                    failure: None,
                }],
                uri.query(),
            ),
            "/readyz" => health("readyz", &(self.readiness)(), uri.query()),
            _ => text(
                StatusCode::NOT_FOUND,
                "paths: /metrics, /healthz, /livez, /readyz[?verbose], /debug/pods\n",
            ),
        }
    }

    fn metrics(&self, headers: &HeaderMap) -> Answer {
        match common_exposition::page(&self.registry, headers) {
            Ok((page, media_type)) => {
                let mut answer = answer(StatusCode::OK, page.into(), media_type);
                let vary = HeaderValue::from_static("Accept");
                answer.headers_mut().insert(VARY, vary);
                answer
            }
            Err(error) => failure(&error),
        }
    }

    /// For whoever shows the key that the Lease tells.
    async fn checkpoint<B>(&self, request: &Request<B>) -> Answer {
        let Some(standbys) = &self.standbys else {
            return text(StatusCode::NOT_FOUND, "no sums are written by a Lease\n");
        };
        let authorization = request.headers().get(AUTHORIZATION);
        let authorization = authorization.and_then(|value| value.to_str().ok());
        let query = request.uri().query().unwrap_or_default();
        standbys.answer(query, authorization).await.map(Full::new)
    }

    fn pods(&self) -> Answer {
        match debug_pods::of(&self.store, self.clock.now()) {
            Ok(json) => answer(StatusCode::OK, json.into(), "application/json"),
            Err(error) => failure(&error),
        }
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots)
        .acquire_owned()
        .await
        .map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, slot))
}

fn health(endpoint: &str, checks: &[Check], query: Option<&str>) -> Answer {
    let verbose =
        query.is_some_and(|query| query.split('&').any(|pair| pair.starts_with("verbose")));
    let query = HealthQuery {
        verbose,
        ..HealthQuery::default()
    };
    match health::report(endpoint, checks, &query) {
        Some((status, report)) => text(status, report),
        None => text(StatusCode::NOT_FOUND, "no such check\n"),
    }
}

fn failure(error: &dyn std::error::Error) -> Answer {
    text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    answer(status, text.into(), TEXT)
}

fn answer(status: StatusCode, body: Bytes, media_type: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer
}
