//! One connection: handshake, HTTP, and its end.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::{Body, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::activity::Overdue;
use crate::body::{Exchange, RequestBody, ResponseBody};
use crate::clock;
use crate::connection_slots::ConnectionSlot;
use crate::handshake;
use crate::listener::{Accepted, Peer, Stream};
use crate::metrics::{self, Counts};
use crate::settings::{CLOSE_WITHIN, Protocol, Settings};
use crate::watched::Watched;
use crate::{BoxError, Security};

/// Streams that an HTTP/2 peer may reset before they are accepted, as in a rapid-reset attack; with
/// more the connection is closed.
const PENDING_RESETS_MAX: usize = 16;

/// Streams that are reset for errors of an HTTP/2 peer; with more the connection is closed.
const ERROR_RESETS_MAX: usize = 128;

/// Returns whether a peer's certificates make it trusted.
pub(crate) type Trusts = Arc<dyn Fn(&Peer) -> bool + Send + Sync>;

/// Called for each TLS handshake with the peer's address and whether it succeeded.
pub(crate) type Handshakes = Arc<dyn Fn(IpAddr, bool) + Send + Sync>;

/// What all connections of a listener share.
pub(crate) struct ListenerContext {
    pub(crate) settings: Settings,
    pub(crate) security: Security,
    pub(crate) trusts: Option<Trusts>,
    pub(crate) handshakes: Option<Handshakes>,
    pub(crate) counts: Arc<Counts>,
    /// Limits the evicted connections that may end gracefully at once; others are cut.
    pub(crate) lingering: Semaphore,
    pub(crate) stop: CancellationToken,
}

/// An accepted connection with its slot.
pub(crate) struct Connection {
    pub(crate) context: Arc<ListenerContext>,
    pub(crate) slot: ConnectionSlot,
    pub(crate) peer: Peer,
}

/// Why a connection has to end.
enum End {
    Stop,
    Age,
    Evicted,
    Overdue(Overdue),
}

// === impl ListenerContext ===

impl ListenerContext {
    fn note_handshake(&self, peer: &Peer, done: bool) {
        if let (Some(handshakes), Some(ip)) = (&self.handshakes, peer.ip()) {
            handshakes(ip, done);
        }
    }
}

// === impl Connection ===

impl Connection {
    /// Runs it from handshake to end; `make` makes the handler of its requests.
    pub(crate) async fn run<M, S, F, B>(mut self, accepted: Accepted, make: M)
    where
        M: FnOnce(&Arc<Peer>) -> S,
        S: Fn(Request<RequestBody>) -> F,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let Some(stream) = self.open(accepted).await else {
            return;
        };
        let context = Arc::clone(&self.context);
        let is_http2 = match context.settings.protocol {
            Protocol::Http1 => false,
            Protocol::Http2 => true,
            Protocol::Negotiated => stream.is_http2(),
        };
        self.slot.activity.opened(is_http2, clock::now());
        if context.trusts.as_ref().is_some_and(|is| is(&self.peer)) {
            self.slot.trust(clock::now());
        }
        let peer = Arc::new(self.peer.clone());
        let handler = make(&peer);
        let old = Arc::new(AtomicBool::new(false));
        let says_close = (!is_http2).then(|| Arc::clone(&old));
        let activity = Arc::clone(&self.slot.activity);
        let body_within = context.settings.deadlines.body;
        let service = service_fn(|request: Request<Incoming>| {
            let exchange = Exchange::begin(&activity);
            let wants = Wants::of(&request, is_http2);
            let mut request = request.map(|body| RequestBody::new(body, body_within, &exchange));
            *request.method_mut() = wants.method();
            request.extensions_mut().insert(Arc::clone(&peer));
            let responding = handler(request);
            let says_close = says_close.clone();
            async move {
                let response = responding.await;
                exchange.answered();
                let mut response = wants.cut(response, exchange);
                if says_close.is_some_and(|old| old.load(Ordering::Relaxed)) {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(CONNECTION, close);
                }
                Ok::<_, Infallible>(response)
            }
        });
        let io = TokioIo::new(Watched::new(stream, Arc::clone(&activity)));
        let served = if is_http2 {
            let builder = http2_builder(&context.settings);
            let connection = pin!(builder.serve_connection(io, service));
            self.drive(connection, &old, true).await
        } else {
            let builder = http1_builder(&context.settings);
            let connection = pin!(builder.serve_connection(io, service));
            self.drive(connection, &old, false).await
        };
        if let Err(error) = served {
            tracing::debug!(%error, "connection failed");
            if let Some(reason) = fault(&error) {
                context.counts.cut(reason, peer.address);
            }
        }
    }

    async fn open(&mut self, accepted: Accepted) -> Option<Stream> {
        let Self {
            context,
            slot,
            peer,
        } = self;
        let address = peer.address;
        let counts = &context.counts;
        tokio::select! {
            () = context.stop.cancelled() => None,
            () = slot.evicted.cancelled() => {
                counts.cut(metrics::CUT_EVICTED, address);
                None
            }
            _ = slot.activity.overdue() => {
                let error = "it took too long";
                counts.handshake_failed(metrics::HANDSHAKE_TIMEOUT, &error, address);
                context.note_handshake(peer, false);
                None
            }
            opened = context.security.open(accepted, context.settings.protocol, peer) => match opened {
                Ok(stream) => {
                    if peer.is_tls {
                        context.note_handshake(peer, true);
                    }
                    Some(stream)
                }
                Err(error) => {
                    let reason = handshake::reason(&error);
                    counts.handshake_failed(reason, &error, address);
                    // A port scan or a TCP health check closes without a handshake: no failure.
                    if reason != metrics::HANDSHAKE_CLOSED {
                        context.note_handshake(peer, false);
                    }
                    None
                }
            },
        }
    }

    /// Serves until the peer ends it, or we do. By reference: taken by value, hyper's state would
    /// be in this future twice.
    async fn drive<C>(
        &self,
        mut connection: Pin<&mut C>,
        old: &AtomicBool,
        is_http2: bool,
    ) -> Result<(), hyper::Error>
    where
        C: GracefulConnection<Error = hyper::Error>,
    {
        // Polled when it was woken itself: each report wakes this task twice, and looking at timers
        // and tokens each time would cost as much as the session's own work. Boxed, since the set
        // has room for one more.
        let mut end = FuturesUnordered::from_iter([Box::pin(self.end(old, is_http2))]);
        let end = tokio::select! {
            biased;
            ended = connection.as_mut() => return ended,
            Some(end) = end.next() => end,
        };
        let context = &self.context;
        let (counts, address) = (&context.counts, self.peer.address);
        let mut lingers = None;
        let is_overdue = matches!(end, End::Overdue(_));
        let within = match end {
            // `Server::serve` limits the drain of all connections together.
            End::Stop => Duration::MAX,
            End::Age => context.settings.deadlines.close,
            End::Evicted => {
                counts.cut(metrics::CUT_EVICTED, address);
                lingers = context.lingering.try_acquire().ok();
                if lingers.is_none() || self.slot.activity.begun() == 0 {
                    return Ok(());
                }
                // Frees the slot before the connection has ended, so that nobody waits for it.
                self.slot.linger();
                CLOSE_WITHIN
            }
            End::Overdue(Overdue::Idle) => CLOSE_WITHIN,
            // Other requests on the connection may still complete.
            End::Overdue(Overdue::Answer) => {
                counts.cut(metrics::CUT_SLOW, address);
                CLOSE_WITHIN
            }
            End::Overdue(Overdue::Blocked) => {
                counts.cut(metrics::CUT_SLOW, address);
                return Ok(());
            }
            End::Overdue(Overdue::Head | Overdue::Handshake) => {
                counts.cut(metrics::CUT_HEAD, address);
                return Ok(());
            }
        };
        connection.as_mut().graceful_shutdown();
        let ended = tokio::select! {
            ended = timeout(within, connection) => ended.unwrap_or(Ok(())),
            why = self.too_slow(), if !is_overdue => {
                counts.cut(why, address);
                Ok(())
            }
        };
        drop(lingers);
        ended
    }

    /// Waits until the connection should accept no more requests: at shutdown, when it is `old`,
    /// when it is evicted, or when its peer is too slow.
    ///
    /// An old HTTP/2 connection gets a GOAWAY at once. Closing an HTTP/1.1 connection could race
    /// with a request, so the next response announces it by `Connection: close`.
    async fn end(&self, old: &AtomicBool, is_http2: bool) -> End {
        let aged = async {
            match self.context.settings.deadlines.age {
                Some(age) => sleep(jittered(age)).await,
                None => std::future::pending().await,
            }
            old.store(true, Ordering::Relaxed);
            if !is_http2 {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = self.context.stop.cancelled() => End::Stop,
            () = self.slot.evicted.cancelled() => End::Evicted,
            why = self.slot.activity.overdue() => End::Overdue(why),
            () = aged => End::Age,
        }
    }

    /// Waits until the peer is too slow to take its last responses during a graceful end.
    async fn too_slow(&self) -> &'static str {
        match self.slot.activity.overdue().await {
            Overdue::Blocked | Overdue::Answer => metrics::CUT_SLOW,
            Overdue::Handshake | Overdue::Head | Overdue::Idle => std::future::pending().await,
        }
    }
}

/// How to turn a HEAD request into a GET, and its response back, in HTTP/1.1 and HTTP/2.
#[derive(Debug)]
struct Wants {
    method: Method,
    is_http2: bool,
}

// === impl Wants ===

impl Wants {
    fn of<B>(request: &Request<B>, is_http2: bool) -> Self {
        Self {
            method: request.method().clone(),
            is_http2,
        }
    }

    fn method(&self) -> Method {
        if self.method == Method::HEAD {
            return Method::GET;
        }
        self.method.clone()
    }

    /// The response; to HEAD without the body, but with its `Content-Length`.
    fn cut<B: Body>(
        &self,
        response: Response<B>,
        exchange: Arc<Exchange>,
    ) -> Response<ResponseBody<B>> {
        if self.method != Method::HEAD {
            return response.map(|body| ResponseBody::new(Some(body), exchange));
        }
        let (mut parts, body) = response.into_parts();
        let length = body.size_hint().exact();
        let length = length.filter(|length| *length > 0 || !self.is_http2);
        let may_have = !matches!(
            parts.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
        if let Some(length) = length.filter(|_| may_have) {
            let entry = parts.headers.entry(CONTENT_LENGTH);
            entry.or_insert_with(|| HeaderValue::from(length));
        }
        Response::from_parts(parts, ResponseBody::new(None, exchange))
    }
}

fn http1_builder(settings: &Settings) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // Without a timer, hyper has no header timeout: `Activity` enforces ours.
    builder
        .max_headers(settings.headers_max)
        .max_buf_size(settings.head_bytes_max);
    builder
}

fn http2_builder(settings: &Settings) -> http2::Builder<TokioExecutor> {
    let http2 = settings.http2;
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(http2.streams_max)
        .max_header_list_size(u32::try_from(settings.head_bytes_max).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(ERROR_RESETS_MAX)
        .initial_stream_window_size(http2.window)
        .initial_connection_window_size(http2.window)
        .keep_alive_interval(http2.ping_every)
        .keep_alive_timeout(http2.pong_within);
    builder
}

/// Up to a tenth more than `age`.
fn jittered(age: Duration) -> Duration {
    age + age.mul_f64(rand::random::<f64>() / 10.0)
}

/// The peer's fault in a failed connection, as metric label; `None` if it merely disconnected.
fn fault(error: &hyper::Error) -> Option<&'static str> {
    if error.is_parse_too_large() {
        Some(metrics::CUT_HEAD_SIZE)
    } else if error.is_parse() {
        Some(metrics::CUT_PROTOCOL)
    } else {
        None
    }
}
