//! The webhook on the wire: HTTPS, limits on connections, bodies and time, drain.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use mesh_injector::bypass::Bypass;
use mesh_injector::pod::Skipped;
use mesh_injector::review;
use mesh_injector::virtual_node::VirtualNodes;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::events::Events;
use super::metrics::Metrics;
use super::settings::Followed;
use crate::clock;

/// Longest body of a request: etcd takes objects of 1.5 MiB, and kube-apiserver requests of 3 MiB.
const BODY_MAX: usize = 3 * 1024 * 1024;

/// Bytes of bodies under way at once, in units of [`UNIT`]: 16 MiB, so that whoever floods us cannot make us hold more.
const UNITS_MAX: usize = 1024;

/// Least that a request counts for, in bytes: so there are at most 1,024 at once.
const UNIT: usize = 16 * 1024;

/// Connections at once; kube-apiserver has a few.
const CONNECTIONS_MAX: usize = 256;

/// Requests at once on one HTTP/2 connection; kube-apiserver's client opens another one beyond that.
const STREAMS_PER_CONNECTION_MAX: u32 = 250;

/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Time for a connection's handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);

/// How long an HTTP/1.1 client may take for a request head, idle time on a kept connection included. Above the
/// 90 s for which Go keeps idle connections, so that it is not we who close one under a request.
const HEAD_WITHIN: Duration = Duration::from_secs(100);

/// How often a quiet HTTP/2 connection is probed, and how long it may take to answer.
const PROBE_INTERVAL: Duration = Duration::from_secs(30);
const PROBE_WITHIN: Duration = Duration::from_secs(10);

/// Time for a request if it does not say how long its sender waits: what a webhook has by default.
const REVIEW_WITHIN: Duration = Duration::from_secs(10);

/// Longest `timeoutSeconds` of a webhook.
const TIMEOUT_SECONDS_MAX: u64 = 30;

/// How long open requests may take to end at shutdown.
const DRAIN_WITHIN: Duration = Duration::from_secs(15);

/// Pause after a failed `accept`, for example for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const PATH: &str = "/mutate";
const JSON: &str = "application/json";

/// Answers reviews.
pub(super) struct Webhook {
    settings: Followed,
    /// Asked for the pods whose sidecar is ours too.
    nodes: Box<dyn VirtualNodes + Send + Sync>,
    /// `None`: there is no cluster to raise them in.
    events: Option<Events>,
    metrics: Metrics,
    /// [`UNITS_MAX`] units of bodies.
    room: Arc<Semaphore>,
}

/// A request that gets no review.
struct Refused {
    status: StatusCode,
    reason: &'static str,
    text: String,
}

// === impl Webhook ===

impl Webhook {
    pub(super) fn new(
        settings: Followed,
        nodes: Box<dyn VirtualNodes + Send + Sync>,
        events: Option<Events>,
        metrics: Metrics,
    ) -> Self {
        Self {
            settings,
            nodes,
            events,
            metrics,
            room: Arc::new(Semaphore::new(UNITS_MAX)),
        }
    }

    /// Serves until `stop` and for `delay` longer; then accepts nothing more and lets open requests end.
    pub(super) async fn serve(
        self,
        listener: TcpListener,
        acceptor: TlsAcceptor,
        stop: CancellationToken,
        delay: Duration,
    ) {
        let webhook = Arc::new(self);
        let closing = CancellationToken::new();
        let connections = TaskTracker::new();
        let accepting = accept(&webhook, &listener, &acceptor, &connections, &closing);
        let told = async {
            stop.cancelled().await;
            tracing::info!(delay_s = delay.as_secs(), "shutting down");
            sleep(delay).await;
        };
        tokio::select! {
            () = accepting => {}
            () = told => {}
        }
        drop(listener);
        closing.cancel();
        connections.close();
        if timeout(DRAIN_WITHIN, connections.wait()).await.is_err() {
            tracing::warn!(connection.count = connections.len(), "cut at shutdown");
        }
    }

    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        acceptor: TlsAcceptor,
        closing: CancellationToken,
    ) {
        // Answers are one write each; waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        let shaken = timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await;
        let Ok(Ok(stream)) = shaken else {
            self.metrics.connection_refused("handshake");
            return;
        };
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let webhook = Arc::clone(&self);
        let service = service_fn(move |request| {
            let webhook = Arc::clone(&webhook);
            async move { Ok::<_, Infallible>(webhook.respond(request).await) }
        });
        // The protocol is the one agreed upon: to guess it from the first bytes would mean to wait for them.
        let builder = builder(is_http2);
        let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = serving.as_mut() => ended,
            () = closing.cancelled() => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection failed");
        }
    }

    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let begun = clock::monotonic();
        match self.review(request).await {
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

    async fn review(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Refused> {
        let (head, body) = request.into_parts();
        check(&head)?;
        let size = body.size_hint().exact();
        let size = size.map_or(BODY_MAX, |size| usize::try_from(size).unwrap_or(usize::MAX));
        if size > BODY_MAX {
            return Err(too_large());
        }
        let units = u32::try_from(size.div_ceil(UNIT).max(1)).unwrap_or(u32::MAX);
        let Ok(_room) = self.room.try_acquire_many(units) else {
            let text = "too many requests are under way";
            return Err(refused(StatusCode::SERVICE_UNAVAILABLE, "busy", text));
        };
        let within = patience(head.uri.query());
        let body = timeout(within, Limited::new(body, size).collect()).await;
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
        Ok(self.judge(&body.to_bytes()))
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
                tracing::warn!(%error, "not a review");
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
        if skipped.is_wanted() {
            return;
        }
        tracing::info!(reason = %skipped, "a pod is left as it is");
        // A rehearsal changes nothing, events included.
        if let Some(events) = self.events.as_ref().filter(|_| !dry_run) {
            let message = format!("a pod was admitted without meshmeter: {skipped}");
            events.tell(body, reason, message);
        }
    }
}

/// Accepts for ever.
async fn accept(
    webhook: &Arc<Webhook>,
    listener: &TcpListener,
    acceptor: &TlsAcceptor,
    connections: &TaskTracker,
    closing: &CancellationToken,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "connection not accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            webhook.metrics.connection_refused("limit");
            continue;
        };
        let (webhook, acceptor) = (Arc::clone(webhook), acceptor.clone());
        let closing = closing.clone();
        connections.spawn(async move {
            let open = webhook.metrics.connections.clone();
            open.inc();
            webhook.connection(stream, acceptor, closing).await;
            open.dec();
            drop(place);
        });
    }
}

fn builder(is_http2: bool) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .keep_alive_interval(PROBE_INTERVAL)
        .keep_alive_timeout(PROBE_WITHIN);
    if is_http2 {
        builder.http2_only()
    } else {
        builder.http1_only()
    }
}

fn check(head: &Parts) -> Result<(), Refused> {
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

fn too_large() -> Refused {
    let text = format!("at most {BODY_MAX} bytes are read");
    refused(StatusCode::PAYLOAD_TOO_LARGE, "large", &text)
}

fn refused(status: StatusCode, reason: &'static str, text: &str) -> Refused {
    let text = text.to_owned();
    Refused {
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
