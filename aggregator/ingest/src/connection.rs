//! Connections of sidecars, at most so many, over TLS if that is wanted.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tonic::transport::server::Connected;
use tracing::debug;

use crate::handshakes::{Handshakes, Reason};
use crate::metrics::Metrics;

/// How long a sidecar may take for its TLS handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// Handshakes under way at once; who comes beyond that waits in the listener's queue.
const HANDSHAKES_MAX: usize = 1024;

/// Accepts connections; one beyond the limit is closed at once and counted.
pub(crate) struct Incoming {
    listener: TcpListener,
    places: Arc<Semaphore>,
    metrics: Metrics,
    failures: Handshakes,
    tls: Option<TlsAcceptor>,
    /// At most [`HANDSHAKES_MAX`].
    handshakes: JoinSet<Option<Connection>>,
}

/// A connection that keeps its place until it is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    transport: Transport,
    _counted: Counted,
}

/// A place among the connections, counted as long as it is held.
#[derive(Debug)]
struct Counted {
    metrics: Metrics,
    _place: OwnedSemaphorePermit,
}

#[derive(Debug)]
enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What is known of whoever is at the other end.
#[derive(Clone, Debug)]
pub(crate) struct ConnectInfo {
    pub(crate) peer: Option<SocketAddr>,
    certificate: Option<Arc<CertificateDer<'static>>>,
}

// === impl Incoming ===

impl Incoming {
    pub(crate) fn new(
        listener: TcpListener,
        max: usize,
        metrics: Metrics,
        failures: Handshakes,
        tls: Option<Arc<ServerConfig>>,
    ) -> Self {
        Self {
            listener,
            places: Arc::new(Semaphore::new(max)),
            metrics,
            failures,
            tls: tls.map(TlsAcceptor::from),
            handshakes: JoinSet::new(),
        }
    }

    fn take(&mut self, stream: TcpStream) -> Option<Connection> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            self.metrics.connections_refused.inc();
            return None;
        };
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "connection lost while it was accepted");
            return None;
        }
        self.metrics.connections.inc();
        let counted = Counted {
            metrics: self.metrics.clone(),
            _place: place,
        };
        let Some(tls) = self.tls.clone() else {
            return Some(Connection {
                transport: Transport::Plain(stream),
                _counted: counted,
            });
        };
        let failures = self.failures.clone();
        self.handshakes
            .spawn(shake_hands(tls, stream, counted, failures));
        None
    }
}

async fn shake_hands(
    tls: TlsAcceptor,
    stream: TcpStream,
    counted: Counted,
    failures: Handshakes,
) -> Option<Connection> {
    let peer = stream.peer_addr().ok();
    let (reason, error) = match timeout(HANDSHAKE_WITHIN, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            failures.succeeded(peer);
            return Some(Connection {
                transport: Transport::Tls(Box::new(stream)),
                _counted: counted,
            });
        }
        Ok(Err(error)) => (Reason::of(&error), error.to_string()),
        Err(_) => (
            Reason::Late,
            format!("not done within {HANDSHAKE_WITHIN:?}"),
        ),
    };
    failures.failed(peer, reason, &error);
    None
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match self.handshakes.poll_join_next(cx) {
                Poll::Ready(Some(Ok(Some(connection)))) => {
                    return Poll::Ready(Some(Ok(connection)));
                }
                Poll::Ready(Some(_)) => continue,
                Poll::Ready(None) | Poll::Pending => {}
            }
            if self.handshakes.len() >= HANDSHAKES_MAX {
                // The next one that ends wakes us.
                return Poll::Pending;
            }
            let (stream, _) = match self.listener.poll_accept(cx) {
                Poll::Ready(accepted) => accepted?,
                Poll::Pending => return Poll::Pending,
            };
            if let Some(connection) = self.take(stream) {
                return Poll::Ready(Some(Ok(connection)));
            }
        }
    }
}

// === impl Counted ===

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.connections.dec();
    }
}

// === impl ConnectInfo ===

impl ConnectInfo {
    /// Where it comes from; an IPv4 address is one, however it is written.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.peer.map(|peer| peer.ip().to_canonical())
    }

    /// The certificate it showed, of an authority that TLS was told to believe.
    pub(crate) fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.certificate.as_deref()
    }
}

// === impl Connection ===

impl Connected for Connection {
    type ConnectInfo = ConnectInfo;

    fn connect_info(&self) -> ConnectInfo {
        let (stream, shown) = match &self.transport {
            Transport::Plain(stream) => (stream, None),
            Transport::Tls(stream) => {
                let (stream, session) = stream.get_ref();
                (stream, session.peer_certificates())
            }
        };
        let own = shown.and_then(<[_]>::first);
        ConnectInfo {
            peer: stream.peer_addr().ok(),
            certificate: own.cloned().map(Arc::new),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
