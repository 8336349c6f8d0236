//! The webhook's HTTPS server: limits on connections, bodies and time, and drain.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common_budget::{Room, Size};
use common_http::{
    Deadlines, Http2, Limits, Metrics, Peer, Protocol, RequestBody, Security, Server, Settings,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Body as _;
use mesh_injector::bypass::Bypass;
use mesh_injector::review;
use mesh_injector::skipped::Skipped;
use mesh_injector::virtual_node::VirtualNodes;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::events::Events;
use super::metrics;
use super::settings::SettingsReceiver;
use crate::clock;

/// Longest request body, in bytes: kube-apiserver accepts requests of 3 MiB, etcd objects of
/// 1.5 MiB.
const BODY_MAX: usize = 3 * 1024 * 1024;

/// Bytes that a request reserves at least: at most 512 requests at once for each 8 MiB of room.
const RESERVED_MIN: usize = 16 * 1024;

/// kube-apiserver opens a few connections.
pub(super) const LIMITS: Limits = Limits::of(256);

/// One address may reserve at most 1/`PEER_PART` of the room for bodies, so that other clients
/// cannot crowd out kube-apiserver.
const PEER_PART: u64 = 2;

/// Timeout of a body: kube-apiserver has it in memory.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// JSON values in a body at most, estimated by separators: a parsed value takes about 100 bytes,
/// and the largest pods have a few thousand.
const VALUES_MAX: usize = 200_000;

/// Larger bodies are parsed one at a time, since parsing multiplies their memory.
const SERIAL_BYTES: usize = 256 * 1024;

/// Concurrent requests on one HTTP/2 connection; kube-apiserver opens another connection beyond it.
const STREAMS_PER_CONNECTION_MAX: u32 = 250;

/// Largest request head, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Header lines of a request at most.
const HEADERS_MAX: usize = 100;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Timeout of a request without the query parameter `timeout`: Kubernetes' default for webhooks.
const REVIEW_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest `timeoutSeconds` of a webhook.
const TIMEOUT_SECONDS_MAX: u64 = 30;

/// Drain time of open requests at shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(15);

const PATH: &str = "/mutate";
const JSON: &str = "application/json";

pub(super) struct Webhook {
    settings: SettingsReceiver,
    /// Used for pods that get an Envoy.
    nodes: Box<dyn VirtualNodes + Send + Sync>,
    /// `None` without a Kubernetes client.
    events: Option<Events>,
    metrics: metrics::Metrics,
    room: Arc<Room>,
    /// Held while a large body is parsed.
    serial: Semaphore,
}

/// A request that is not reviewed.
struct RequestError {
    status: StatusCode,
    reason: &'static str,
    text: String,
}

// === impl Webhook ===

impl Webhook {
    pub(super) fn new(
        settings: SettingsReceiver,
        nodes: Box<dyn VirtualNodes + Send + Sync>,
        events: Option<Events>,
        metrics: metrics::Metrics,
        bodies: Size,
    ) -> Self {
        Self {
            settings,
            nodes,
            events,
            metrics,
            room: Arc::new(Room::new(bodies, bodies.part(1, PEER_PART))),
            serial: Semaphore::new(1),
        }
    }

    /// Serves until `delay` after `stop`; then accepts no connections and drains open requests.
    pub(super) async fn serve(
        self,
        listener: TcpListener,
        tls: Arc<ServerConfig>,
        (limits, connections): (Limits, Metrics),
        stop: CancellationToken,
        delay: Duration,
    ) {
        let server = Server::new(settings(limits), &connections).with_security(Security::Tls(tls));
        let webhook = Arc::new(self);
        let handler = move |peer: &Arc<Peer>| {
            let webhook = Arc::clone(&webhook);
            let peer = peer.ip();
            move |request: Request<RequestBody>| {
                let webhook = Arc::clone(&webhook);
                async move { webhook.respond(request, peer).await }
            }
        };
        let closing = CancellationToken::new();
        let serving = server.serve(listener, closing.clone(), DRAIN_TIMEOUT, handler);
        tokio::join!(serving, async move {
            stop.cancelled().await;
            tracing::info!(delay_s = delay.as_secs(), "shutting down");
            sleep(delay).await;
            closing.cancel();
        });
    }

    async fn respond(
        &self,
        request: Request<RequestBody>,
        peer: Option<IpAddr>,
    ) -> Response<Full<Bytes>> {
        let started_at = clock::monotonic();
        match self.review(request, peer).await {
            Ok(response) => {
                self.metrics.took(started_at.elapsed());
                response
            }
            Err(refused) => {
                self.metrics.request_refused(refused.reason);
                tracing::debug!(reason = refused.reason, error = refused.text, "no review");
                reply(refused.status, "text/plain", refused.text + "\n")
            }
        }
    }

    async fn review(
        &self,
        request: Request<RequestBody>,
        peer: Option<IpAddr>,
    ) -> Result<Response<Full<Bytes>>, RequestError> {
        let (head, body) = request.into_parts();
        check(&head)?;
        let size = body.size_hint().exact();
        let size = size.map_or(BODY_MAX, |size| usize::try_from(size).unwrap_or(usize::MAX));
        if size > BODY_MAX {
            return Err(too_large());
        }
        let deadline = sender_timeout(head.uri.query());
        // Reserved before a byte is read: a client's declared length cannot exceed the budget.
        let room = Arc::clone(&self.room).take(peer, size.max(RESERVED_MIN));
        let room = timeout(deadline, room).await;
        let Ok(Ok(room)) = room else {
            return Err(busy());
        };
        let deadline = deadline.min(BODY_TIMEOUT);
        let body = tokio::select! {
            biased;
            body = timeout(deadline, Limited::new(body, size).collect()) => body,
            // Another peer needs the room more than this half-sent body.
            () = room.cut() => return Err(busy()),
        };
        room.whole();
        let body = body.map_err(|_| {
            let text = format!("the request took longer than {} s", deadline.as_secs());
            refused(StatusCode::REQUEST_TIMEOUT, "slow", &text)
        })?;
        let body = body.map_err(|error| {
            if error.is::<LengthLimitError>() {
                return too_large();
            }
            refused(StatusCode::BAD_REQUEST, "broken", "the request broke off")
        })?;
        let body = body.to_bytes();
        if values(&body) > VALUES_MAX {
            let text = format!("at most {VALUES_MAX} values are read");
            return Err(refused(StatusCode::PAYLOAD_TOO_LARGE, "large", &text));
        }
        let _permit = if body.len() > SERIAL_BYTES {
            self.serial.acquire().await.ok()
        } else {
            None
        };
        Ok(self.mutate(&body))
    }

    fn mutate(&self, body: &[u8]) -> Response<Full<Bytes>> {
        let settings = Arc::clone(&self.settings.borrow());
        match review::answer(body, &settings, &*self.nodes) {
            Ok(outcome) => {
                match &outcome.skipped {
                    None => self.metrics.reviewed("injected", ""),
                    Some(skipped) => self.skipped(body, skipped, outcome.dry_run),
                }
                if let Some(bypass) = &outcome.bypass {
                    self.bypassed(body, bypass, outcome.dry_run);
                }
                reply(StatusCode::OK, JSON, outcome.review.to_string())
            }
            Err(error) => {
                self.metrics.reviewed("malformed", "");
                tracing::warn!(%error, "request is not an AdmissionReview");
                reply(StatusCode::BAD_REQUEST, "text/plain", format!("{error}\n"))
            }
        }
    }

    fn bypassed(&self, body: &[u8], bypass: &Bypass, dry_run: bool) {
        tracing::info!(reason = %bypass, "a pod has a container beside the sidecar that bypasses it");
        if let Some(events) = self.events.as_ref().filter(|_| !dry_run) {
            let message = format!("a pod was admitted with meshmeter, but {bypass}");
            events.send(body, Bypass::REASON, message);
        }
    }

    fn skipped(&self, body: &[u8], skipped: &Skipped, dry_run: bool) {
        let reason = skipped.reason();
        self.metrics.reviewed("skipped", reason);
        if skipped.is_expected() {
            return;
        }
        tracing::info!(reason = %skipped, "pod not injected");
        // A dry run must have no side effects, Events included.
        if let Some(events) = self.events.as_ref().filter(|_| !dry_run) {
            let message = format!("a pod was admitted without meshmeter: {skipped}");
            events.send(body, reason, message);
        }
    }
}

fn settings(limits: Limits) -> Settings {
    Settings {
        listener: "webhook",
        protocol: Protocol::Negotiated,
        limits,
        deadlines: Deadlines {
            handshake: HANDSHAKE_TIMEOUT,
            ..Deadlines::default()
        },
        head_bytes_max: HEAD_BYTES_MAX,
        headers_max: HEADERS_MAX,
        http2: Http2 {
            streams_max: STREAMS_PER_CONNECTION_MAX,
            ..Http2::default()
        },
    }
}

fn check(head: &Parts) -> Result<(), RequestError> {
    if head.uri.path() != PATH {
        return Err(refused(
            StatusCode::NOT_FOUND,
            "path",
            "only POST /mutate is served",
        ));
    }
    if head.method != Method::POST {
        let text = "reviews are sent by POST";
        return Err(refused(StatusCode::METHOD_NOT_ALLOWED, "method", text));
    }
    if !is_json(&head.headers) {
        let text = "a review is application/json";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(refused(status, "content_type", text));
    }
    Ok(())
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE);
    let value = value.and_then(|value| value.to_str().ok());
    let media_type = value.and_then(|value| value.split(';').next());
    media_type.is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case(JSON))
}

/// The sender's timeout: kube-apiserver sends it in the query, as `timeout=10s`.
fn sender_timeout(query: Option<&str>) -> Duration {
    let seconds = query.into_iter().flat_map(|query| query.split('&'));
    let mut seconds = seconds.filter_map(|pair| pair.strip_prefix("timeout=")?.strip_suffix('s'));
    let seconds = seconds.find_map(|seconds| seconds.parse().ok());
    let seconds = seconds.filter(|seconds| (1..=TIMEOUT_SECONDS_MAX).contains(seconds));
    seconds.map_or(REVIEW_TIMEOUT, Duration::from_secs)
}

/// An upper bound of the number of values in a JSON text.
fn values(body: &[u8]) -> usize {
    let separates = |byte: &&u8| matches!(byte, b',' | b'[' | b'{');
    body.iter().filter(separates).count()
}

fn busy() -> RequestError {
    let text = "too many concurrent requests";
    refused(StatusCode::SERVICE_UNAVAILABLE, "busy", text)
}

fn too_large() -> RequestError {
    let text = format!("at most {BODY_MAX} bytes are read");
    refused(StatusCode::PAYLOAD_TOO_LARGE, "large", &text)
}

fn refused(status: StatusCode, reason: &'static str, text: &str) -> RequestError {
    let text = text.to_owned();
    RequestError {
        status,
        reason,
        text,
    }
}

fn reply(
    status: StatusCode,
    media_type: &'static str,
    text: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let media_type = HeaderValue::from_static(media_type);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, media_type);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_of_the_sender_is_read() {
        for (query, seconds) in [
            (None, 10),
            (Some("timeout=5s"), 5),
            (Some("a=b&timeout=30s"), 30),
            (Some("timeout=31s"), 10),
            (Some("timeout=0s"), 10),
            (Some("timeout=1m"), 10),
        ] {
            assert_eq!(
                sender_timeout(query),
                Duration::from_secs(seconds),
                "{query:?}"
            );
        }
    }
}
