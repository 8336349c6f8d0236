//! The API on the wire: TLS, HTTP/1.1 and HTTP/2, limits on connections and patience, drain.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::authentication::certificate::PeerCertificates;
use crate::handler::{Api, HEADER_BYTES_MAX, HEADERS_MAX, URL_BYTES_MAX};
use crate::observations::ConnectionFault;

/// Open connections. kube-apiserver keeps one or a few per replica of it; the rest are probes and people.
const CONNECTIONS_MAX: usize = 1024;

/// Requests at once on one HTTP/2 connection; each is answered from memory.
const STREAMS_PER_CONNECTION_MAX: u32 = 128;

/// How long a client may take for its TLS handshake.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);

/// How long an HTTP/1.1 client may take for a request head, idle time on a kept connection included. Above the
/// 90 s for which Go keeps idle connections, so that it is not we who close one under a request.
const HEAD_PATIENCE: Duration = Duration::from_secs(100);

/// How often a quiet HTTP/2 connection is probed, and how long it may take to answer.
const PROBE_INTERVAL: Duration = Duration::from_secs(30);
const PROBE_PATIENCE: Duration = Duration::from_secs(10);

/// How long a connection may take to end once it was told to.
const END_PATIENCE: Duration = Duration::from_mins(2);

/// Bytes of a request head that are read at all. Above [`URL_BYTES_MAX`] and [`HEADER_BYTES_MAX`] together, so
/// that whoever only just passes a limit hears which.
const HEAD_READ_BYTES_MAX: usize = 64 * 1024;
const _: () = assert!(URL_BYTES_MAX + HEADER_BYTES_MAX < HEAD_READ_BYTES_MAX);

/// Header lines that are read at all.
const HEADERS_READ_MAX: usize = 2 * HEADERS_MAX;

/// Pause after a failed `accept`, for example for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves an [`Api`] over TLS.
#[derive(Debug)]
pub struct Server {
    api: Arc<Api>,
    tls: Arc<rustls::ServerConfig>,
    connections_max: usize,
    connection_age_max: Option<Duration>,
}

impl Server {
    /// A server with the certificate, client verification and protocols of `tls`.
    pub fn new(api: Api, tls: Arc<rustls::ServerConfig>) -> Self {
        Self {
            api: Arc::new(api),
            tls,
            connections_max: CONNECTIONS_MAX,
            connection_age_max: None,
        }
    }

    /// The same server, which asks clients to connect anew once a connection is about this old (up to a tenth more):
    /// otherwise all of an autoscaler's requests would stay with one replica for ever.
    #[must_use]
    pub fn with_connection_age_max(mut self, age: Option<Duration>) -> Self {
        self.connection_age_max = age;
        self
    }

    /// Serves until `shutdown`; then accepts nothing more and gives open requests `drain` to end.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken, drain: Duration) {
        let acceptor = TlsAcceptor::from(self.tls);
        let slots = Arc::new(Semaphore::new(self.connections_max));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "connection not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                self.api
                    .observations()
                    .connection_refused(ConnectionFault::Limit);
                continue;
            };
            let connection = Connection {
                api: Arc::clone(&self.api),
                shutdown: shutdown.clone(),
                age_max: self.connection_age_max.map(jittered),
            };
            let acceptor = acceptor.clone();
            let task = async move {
                connection.run(acceptor, stream).await;
                drop(slot);
            };
            connections.spawn(task.instrument(tracing::debug_span!("api", client.addr = %peer)));
        }
        drop(listener);
        let ended = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(drain, ended).await.is_err() {
            tracing::warn!(
                connection.count = connections.len(),
                "connections cut at shutdown"
            );
        }
        connections.shutdown().await;
    }
}

/// One client.
struct Connection {
    api: Arc<Api>,
    shutdown: CancellationToken,
    age_max: Option<Duration>,
}

// === impl Connection ===

impl Connection {
    async fn run(self, acceptor: TlsAcceptor, stream: TcpStream) {
        // Answers are one write each; waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        let handshake = tokio::time::timeout(HANDSHAKE_PATIENCE, acceptor.accept(stream));
        let stream = tokio::select! {
            () = self.shutdown.cancelled() => return,
            handshake = handshake => match handshake {
                Ok(Ok(stream)) => stream,
                failed => {
                    tracing::debug!(?failed, "handshake failed");
                    self.api.observations().connection_refused(ConnectionFault::Handshake);
                    return;
                }
            },
        };
        let api = Arc::clone(&self.api);
        api.observations().connection_opened();
        let outcome = self.serve(stream).await;
        api.observations().connection_closed();
        if let Err(error) = outcome {
            tracing::debug!(%error, "connection failed");
            if let Some(fault) = fault(&error) {
                api.observations().connection_refused(fault);
            }
        }
    }

    /// The protocol is the one agreed upon in the handshake: to guess it from the first bytes would mean to wait
    /// for them without a limit.
    async fn serve(self, stream: TlsStream<TcpStream>) -> Result<(), hyper::Error> {
        let (_, session) = stream.get_ref();
        let is_http2 = session.alpn_protocol() == Some(b"h2");
        let chain = session.peer_certificates().unwrap_or_default().to_vec();
        let peer = Arc::new(PeerCertificates::new(chain));
        let Self {
            api,
            shutdown,
            age_max,
        } = self;
        let old = Arc::new(AtomicBool::new(false));
        let says_close = (!is_http2).then(|| Arc::clone(&old));
        let service = service_fn(move |request: Request<Incoming>| {
            let (api, peer, says_close) = (Arc::clone(&api), Arc::clone(&peer), says_close.clone());
            async move { Ok::<_, Infallible>(respond(&api, &peer, request, says_close).await) }
        });
        let end = end_of_service(shutdown, age_max, old, is_http2);
        let io = TokioIo::new(stream);
        if is_http2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
                .max_header_list_size(u32::try_from(HEAD_READ_BYTES_MAX).unwrap_or(u32::MAX))
                .keep_alive_interval(PROBE_INTERVAL)
                .keep_alive_timeout(PROBE_PATIENCE);
            let mut connection = std::pin::pin!(builder.serve_connection(io, service));
            tokio::select! {
                ended = connection.as_mut() => return ended,
                () = end => connection.as_mut().graceful_shutdown(),
            }
            within_drain(connection).await
        } else {
            let mut builder = http1::Builder::new();
            builder
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_PATIENCE)
                .max_headers(HEADERS_READ_MAX)
                .max_buf_size(HEAD_READ_BYTES_MAX);
            let mut connection = std::pin::pin!(builder.serve_connection(io, service));
            tokio::select! {
                ended = connection.as_mut() => return ended,
                () = end => connection.as_mut().graceful_shutdown(),
            }
            within_drain(connection).await
        }
    }
}

/// Waits until a connection should serve nothing new: at shutdown, or when it is `old`.
///
/// With HTTP/2 that is told at once (GOAWAY). With HTTP/1.1 a close may cross a request on its way, so the next answer
/// says it first.
async fn end_of_service(
    shutdown: CancellationToken,
    age_max: Option<Duration>,
    old: Arc<AtomicBool>,
    is_http2: bool,
) {
    let aged = async {
        match age_max {
            Some(age) => tokio::time::sleep(age).await,
            None => std::future::pending().await,
        }
        old.store(true, Ordering::Relaxed);
        if !is_http2 {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = aged => {}
    }
}

/// Lets a connection end in its own time, up to a limit: what is left then is cut.
async fn within_drain(
    connection: impl Future<Output = Result<(), hyper::Error>>,
) -> Result<(), hyper::Error> {
    let ended = tokio::time::timeout(END_PATIENCE, connection).await;
    ended.unwrap_or(Ok(()))
}

/// Up to a tenth more than `age`, so that connections which began together do not end together.
fn jittered(age: Duration) -> Duration {
    age + age.mul_f64(rand::random::<f64>() / 10.0)
}

async fn respond(
    api: &Api,
    peer: &PeerCertificates,
    request: Request<Incoming>,
    says_close: Option<Arc<AtomicBool>>,
) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let mut response = api.respond_to(parts, !body.is_end_stream(), peer).await;
    if says_close.is_some_and(|old| old.load(Ordering::Relaxed)) {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// What of a failed connection is the client's fault; nothing if it merely went away.
fn fault(error: &hyper::Error) -> Option<ConnectionFault> {
    if error.is_timeout() {
        Some(ConnectionFault::Timeout)
    } else if error.is_parse_too_large() {
        Some(ConnectionFault::HeaderSize)
    } else if error.is_parse() {
        Some(ConnectionFault::Protocol)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
