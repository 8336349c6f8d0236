//! One connection: handshake, HTTP, and its end, whoever brings it about.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
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

/// Streams that an HTTP/2 peer may reset before we have looked at them, as in a rapid-reset attack,
/// until its connection ends.
const PENDING_RESETS_MAX: usize = 16;

/// Faults of an HTTP/2 peer that we answer with a reset, until its connection ends.
const ERROR_RESETS_MAX: usize = 128;

/// Tells whether the certificates of a peer make it a trusted one.
pub(crate) type Trusts = Arc<dyn Fn(&Peer) -> bool + Send + Sync>;

/// Told of each handshake by TLS that was done (true) or failed (false), and by whom.
pub(crate) type Handshakes = Arc<dyn Fn(IpAddr, bool) + Send + Sync>;

/// What all connections of a listener share.
pub(crate) struct ListenerContext {
    pub(crate) settings: Settings,
    pub(crate) security: Security,
    pub(crate) trusts: Option<Trusts>,
    pub(crate) handshakes: Option<Handshakes>,
    pub(crate) counts: Arc<Counts>,
    /// Told to make room, a connection ends in order only as long as there are few that do so.
    pub(crate) lingering: Semaphore,
    pub(crate) stop: CancellationToken,
}

/// One connection on its way.
pub(crate) struct Connection {
    pub(crate) shared: Arc<ListenerContext>,
    pub(crate) place: ConnectionSlot,
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
    /// From handshake to end; `make` makes what answers its requests.
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
        let shared = Arc::clone(&self.shared);
        let is_http2 = match shared.settings.protocol {
            Protocol::Http1 => false,
            Protocol::Http2 => true,
            Protocol::Negotiated => stream.is_http2(),
        };
        self.place.activity.opened(is_http2, clock::now());
        if shared.trusts.as_ref().is_some_and(|is| is(&self.peer)) {
            self.place.trust(clock::now());
        }
        let peer = Arc::new(self.peer.clone());
        let handler = make(&peer);
        let old = Arc::new(AtomicBool::new(false));
        let says_close = (!is_http2).then(|| Arc::clone(&old));
        let activity = Arc::clone(&self.place.activity);
        let body_within = shared.settings.deadlines.body;
        let service = service_fn(|request: Request<Incoming>| {
            let exchange = Exchange::begin(&activity);
            let wants = Wants::of(&request, is_http2);
            let mut request = request.map(|body| RequestBody::new(body, body_within, &exchange));
            *request.method_mut() = wants.method();
            request.extensions_mut().insert(Arc::clone(&peer));
            let answering = handler(request);
            let says_close = says_close.clone();
            async move {
                let response = answering.await;
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
            let builder = http2_builder(&shared.settings);
            self.drive(builder.serve_connection(io, service), &old, true)
                .await
        } else {
            let builder = http1_builder(&shared.settings);
            self.drive(builder.serve_connection(io, service), &old, false)
                .await
        };
        if let Err(error) = served {
            tracing::debug!(%error, "connection failed");
            if let Some(reason) = fault(&error) {
                shared.counts.cut(reason, peer.address);
            }
        }
    }

    async fn open(&mut self, accepted: Accepted) -> Option<Stream> {
        let Self {
            shared,
            place,
            peer,
        } = self;
        let address = peer.address;
        let counts = &shared.counts;
        tokio::select! {
            () = shared.stop.cancelled() => None,
            () = place.evicted.cancelled() => {
                counts.cut(metrics::CUT_EVICTED, address);
                None
            }
            _ = place.activity.overdue() => {
                let error = "it took too long";
                counts.handshake_failed(metrics::HANDSHAKE_TIMEOUT, &error, address);
                shared.note_handshake(peer, false);
                None
            }
            opened = shared.security.open(accepted, shared.settings.protocol, peer) => match opened {
                Ok(stream) => {
                    if peer.is_tls {
                        shared.note_handshake(peer, true);
                    }
                    Some(stream)
                }
                Err(error) => {
                    let reason = handshake::reason(&error);
                    counts.handshake_failed(reason, &error, address);
                    // Whoever only looks whether the port is open wants no connection.
                    if reason != metrics::HANDSHAKE_CLOSED {
                        shared.note_handshake(peer, false);
                    }
                    None
                }
            },
        }
    }

    /// Serves until the peer ends it, or we do.
    async fn drive<C>(
        &self,
        connection: C,
        old: &AtomicBool,
        is_http2: bool,
    ) -> Result<(), hyper::Error>
    where
        C: GracefulConnection<Error = hyper::Error>,
    {
        let mut connection = pin!(connection);
        let end = tokio::select! {
            ended = connection.as_mut() => return ended,
            end = self.end(old, is_http2) => end,
        };
        let shared = &self.shared;
        let (counts, address) = (&shared.counts, self.peer.address);
        let mut lingers = None;
        let is_overdue = matches!(end, End::Overdue(_));
        let within = match end {
            // The server cuts what is left.
            End::Stop => Duration::MAX,
            End::Age => shared.settings.deadlines.close,
            End::Evicted => {
                counts.cut(metrics::CUT_EVICTED, address);
                lingers = shared.lingering.try_acquire().ok();
                if lingers.is_none() || self.place.activity.begun() == 0 {
                    return Ok(());
                }
                self.place.linger();
                CLOSE_WITHIN
            }
            End::Overdue(Overdue::Idle) => CLOSE_WITHIN,
            // Other requests of the connection may well be answered.
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

    /// Waits until a connection should serve nothing new: at shutdown, when it is `old`, when its
    /// place is another's, or when its peer takes too long.
    ///
    /// With HTTP/2 the age is told at once (GOAWAY). With HTTP/1.1 a close may cross a request on
    /// its way, so the next answer says it first.
    async fn end(&self, old: &AtomicBool, is_http2: bool) -> End {
        let aged = async {
            match self.shared.settings.deadlines.age {
                Some(age) => sleep(jittered(age)).await,
                None => std::future::pending().await,
            }
            old.store(true, Ordering::Relaxed);
            if !is_http2 {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = self.shared.stop.cancelled() => End::Stop,
            () = self.place.evicted.cancelled() => End::Evicted,
            why = self.place.activity.overdue() => End::Overdue(why),
            () = aged => End::Age,
        }
    }

    /// While a connection ends: a peer that takes nothing does not hold it up.
    async fn too_slow(&self) -> &'static str {
        match self.place.activity.overdue().await {
            Overdue::Blocked | Overdue::Answer => metrics::CUT_SLOW,
            Overdue::Handshake | Overdue::Head | Overdue::Idle => std::future::pending().await,
        }
    }
}

/// What of an answer is wanted: HEAD is GET without a body, whatever the protocol.
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

    /// The answer with the body or, to HEAD, without it, and then with the length that it would
    /// have.
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
    // Without a timer: how long a head may take is ours to say.
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

/// What of a failed connection is the peer's fault; nothing if it merely went away.
fn fault(error: &hyper::Error) -> Option<&'static str> {
    if error.is_parse_too_large() {
        Some(metrics::CUT_HEAD_SIZE)
    } else if error.is_parse() {
        Some(metrics::CUT_PROTOCOL)
    } else {
        None
    }
}
