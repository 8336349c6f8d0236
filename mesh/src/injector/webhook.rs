//! The webhook on the wire: HTTPS, limits on connections, bodies and time, drain.

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

/// Longest body of a request: etcd takes objects of 1.5 MiB, and kube-apiserver requests of 3 MiB.
const BODY_MAX: usize = 3 * 1024 * 1024;

/// Least that a request counts for, in bytes: so there are at most 512 at once for each 8 MiB of
/// room.
const UNIT: usize = 16 * 1024;

/// Connections; kube-apiserver has a few.
pub(super) const LIMITS: Limits = Limits::of(256);

/// Of the room for bodies, one address may have this part: kube-apiservers have theirs, whoever
/// else comes.
const PEER_PART: u64 = 2;

/// How long a body may take: kube-apiserver has it at hand.
const BODY_WITHIN: Duration = Duration::from_secs(5);

/// Values in a body, by what separates them: each takes some 100 bytes once it is read, and the
/// largest pods have a few thousand.
const VALUES_MAX: usize = 200_000;

/// A larger body is read alone.
const ALONE_BYTES: usize = 256 * 1024;

/// Requests at once on one HTTP/2 connection; kube-apiserver's client opens another one beyond
/// that.
const STREAMS_PER_CONNECTION_MAX: u32 = 250;

/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Header lines of a request.
const HEADERS_MAX: usize = 100;

/// Time for a connection's handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);

/// Time for a request if it does not say how long its sender waits: what a webhook has by default.
const REVIEW_WITHIN: Duration = Duration::from_secs(10);

/// Longest `timeoutSeconds` of a webhook.
const TIMEOUT_SECONDS_MAX: u64 = 30;

/// How long open requests may take to end at shutdown.
const DRAIN_WITHIN: Duration = Duration::from_secs(15);

const PATH: &str = "/mutate";
const JSON: &str = "application/json";

pub(super) struct Webhook {
    settings: SettingsReceiver,
    /// Asked for the pods whose sidecar is ours too.
    nodes: Box<dyn VirtualNodes + Send + Sync>,
    /// `None`: there is no cluster to raise them in.
    events: Option<Events>,
    metrics: metrics::Metrics,
    room: Arc<Room>,
    /// Held while a large body is read.
    alone: Semaphore,
}

/// A request that gets no review.
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
            alone: Semaphore::new(1),
        }
    }

    /// Serves until `stop` and for `delay` longer; then accepts nothing more and lets open requests
    /// end.
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
        let serving = server.serve(listener, closing.clone(), DRAIN_WITHIN, handler);
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
        let begun = clock::monotonic();
        match self.review(request, peer).await {
            Ok(answer) => {
                self.metrics.took(begun.elapsed());
                answer
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
        let within = patience(head.uri.query());
        let room = Arc::clone(&self.room).take(peer, size.max(UNIT));
        let room = timeout(within, room).await;
        let Ok(Ok(room)) = room else {
            return Err(busy());
        };
        let within = within.min(BODY_WITHIN);
        let body = tokio::select! {
            biased;
            body = timeout(within, Limited::new(body, size).collect()) => body,
            () = room.cut() => return Err(busy()),
        };
        room.whole();
        let body = body.map_err(|_| {
            let text = format!("the request took longer than {} s", within.as_secs());
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
        let _alone = if body.len() > ALONE_BYTES {
            self.alone.acquire().await.ok()
        } else {
            None
        };
        Ok(self.judge(&body))
    }

    fn judge(&self, body: &[u8]) -> Response<Full<Bytes>> {
        let settings = Arc::clone(&self.settings.borrow());
        match review::answer(body, &settings, &*self.nodes) {
            Ok(answer) => {
                match &answer.skipped {
                    None => self.metrics.reviewed("injected", ""),
                    Some(skipped) => self.skipped(body, skipped, answer.dry_run),
                }
                if let Some(bypass) = &answer.bypass {
                    self.bypassed(body, bypass, answer.dry_run);
                }
                reply(StatusCode::OK, JSON, answer.review.to_string())
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
            events.tell(body, Bypass::REASON, message);
        }
    }

    fn skipped(&self, body: &[u8], skipped: &Skipped, dry_run: bool) {
        let reason = skipped.reason();
        self.metrics.reviewed("skipped", reason);
        if skipped.is_expected() {
            return;
        }
        tracing::info!(reason = %skipped, "pod not injected");
        // A rehearsal changes nothing, events included.
        if let Some(events) = self.events.as_ref().filter(|_| !dry_run) {
            let message = format!("a pod was admitted without meshmeter: {skipped}");
            events.tell(body, reason, message);
        }
    }
}

fn settings(limits: Limits) -> Settings {
    Settings {
        listener: "webhook",
        protocol: Protocol::Negotiated,
        limits,
        deadlines: Deadlines {
            handshake: HANDSHAKE_WITHIN,
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
            "there is POST /mutate",
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

/// How long the sender waits: kube-apiserver says so in the query, as `timeout=10s`.
fn patience(query: Option<&str>) -> Duration {
    let seconds = query.into_iter().flat_map(|query| query.split('&'));
    let mut seconds = seconds.filter_map(|pair| pair.strip_prefix("timeout=")?.strip_suffix('s'));
    let seconds = seconds.find_map(|seconds| seconds.parse().ok());
    let seconds = seconds.filter(|seconds| (1..=TIMEOUT_SECONDS_MAX).contains(seconds));
    seconds.map_or(REVIEW_WITHIN, Duration::from_secs)
}

/// About how many values a JSON text has: never less.
fn values(body: &[u8]) -> usize {
    let separates = |byte: &&u8| matches!(byte, b',' | b'[' | b'{');
    body.iter().filter(separates).count()
}

fn busy() -> RequestError {
    let text = "too many requests are under way";
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
    fn the_sender_says_how_long_it_waits() {
        for (query, seconds) in [
            (None, 10),
            (Some("timeout=5s"), 5),
            (Some("a=b&timeout=30s"), 30),
            (Some("timeout=31s"), 10),
            (Some("timeout=0s"), 10),
            (Some("timeout=1m"), 10),
        ] {
            assert_eq!(patience(query), Duration::from_secs(seconds), "{query:?}");
        }
    }
}
