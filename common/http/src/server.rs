//! Accepts connections and runs them.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Body;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::connection::{Connection, Handshakes, ListenerContext, Trusts};
use crate::connection_slots::{ConnectionSlot, ConnectionSlots, Full};
use crate::listener::{Accepted, Listener, Peer};
use crate::metrics::{self, Counts, Metrics};
use crate::settings::Settings;
use crate::{BoxError, RequestBody, Security, clock};

/// Pause after a failed `accept`, for example for want of file descriptors; twice as long after
/// each further one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The longest such pause, and so the longest delay of a probe.
const ACCEPT_PAUSE_MAX: Duration = Duration::from_millis(400);

/// Evicted connections that may end gracefully at once.
const LINGERING_MAX: usize = 8;

/// The configuration of a server.
pub struct Server {
    settings: Settings,
    security: Security,
    trusts: Option<Trusts>,
    handshakes: Option<Handshakes>,
    metrics: Metrics,
}

// === impl Server ===

impl Server {
    /// A server without TLS that counts in `metrics`.
    pub fn new(settings: Settings, metrics: &Metrics) -> Self {
        Self {
            settings,
            security: Security::Plain,
            trusts: None,
            handshakes: None,
            metrics: metrics.clone(),
        }
    }

    /// The same, with TLS, or with TLS and plain.
    #[must_use]
    pub fn with_security(mut self, security: Security) -> Self {
        self.security = security;
        self
    }

    /// The same, with slots reserved for peers for which `trusts` is true after the handshake.
    #[must_use]
    pub fn with_trust(mut self, trusts: impl Fn(&Peer) -> bool + Send + Sync + 'static) -> Self {
        self.trusts = Some(Arc::new(trusts));
        self
    }

    /// The same; `note` is called for each TLS handshake with the address and whether it succeeded,
    /// but not for peers that disconnect without sending anything.
    #[must_use]
    pub fn with_handshakes(mut self, note: impl Fn(IpAddr, bool) + Send + Sync + 'static) -> Self {
        self.handshakes = Some(Arc::new(note));
        self
    }

    /// Serves until `stop`; then accepts nothing more and lets open requests end within `drain`.
    ///
    /// `make` makes the handler of each connection. The handler sees a HEAD request as a GET; the
    /// body of its response is dropped.
    pub async fn serve<M, S, F, B>(
        self,
        listener: impl Into<Listener>,
        stop: CancellationToken,
        drain: Duration,
        make: M,
    ) where
        M: Fn(&Arc<Peer>) -> S + Clone + Send + 'static,
        S: Fn(Request<RequestBody>) -> F + Send + Sync + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let listener = listener.into();
        let settings = self.settings;
        let counts = self.metrics.of(settings.listener);
        let slots = ConnectionSlots::new(settings.limits, settings.deadlines);
        let context = Arc::new(ListenerContext {
            settings,
            security: self.security,
            trusts: self.trusts,
            handshakes: self.handshakes,
            counts: Arc::clone(&counts),
            lingering: Semaphore::new(LINGERING_MAX),
            stop: stop.clone(),
        });
        let mut connections = JoinSet::new();
        let mut acceptor = Acceptor::new(&listener, &slots, &counts);
        loop {
            let (accepted, peer, slot) = tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                next = acceptor.next() => next,
            };
            let open = counts.open();
            let connection = Connection {
                context: Arc::clone(&context),
                slot,
                peer,
            };
            let span = tracing::debug_span!(
                "connection",
                listener = settings.listener,
                peer = connection.peer.address.map(tracing::field::display)
            );
            let make = make.clone();
            let serving = async move {
                connection.run(accepted, make).await;
                drop(open);
            };
            connections.spawn(serving.instrument(span));
        }
        // Closed before the drain, so that new connections are refused by the kernel.
        drop(listener);
        let ended = async { while connections.join_next().await.is_some() {} };
        if timeout(drain, ended).await.is_err() {
            let count = connections.len();
            tracing::warn!(
                listener = settings.listener,
                count,
                "connections cut at shutdown"
            );
            for _ in 0..count {
                counts.cut_at_shutdown();
            }
        }
        connections.shutdown().await;
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut server = f.debug_struct("Server");
        server.field("settings", &self.settings);
        server.finish_non_exhaustive()
    }
}

struct Acceptor<'a> {
    listener: &'a Listener,
    slots: &'a Arc<ConnectionSlots>,
    counts: &'a Arc<Counts>,
    pause: Duration,
}

// === impl Acceptor ===

impl<'a> Acceptor<'a> {
    fn new(
        listener: &'a Listener,
        slots: &'a Arc<ConnectionSlots>,
        counts: &'a Arc<Counts>,
    ) -> Self {
        Self {
            listener,
            slots,
            counts,
            pause: Duration::ZERO,
        }
    }

    /// The next connection that has a slot. Cancel safe.
    async fn next(&mut self) -> (Accepted, Peer, ConnectionSlot) {
        loop {
            if !self.pause.is_zero() {
                sleep(self.pause).await;
            }
            self.slots.cleared().await;
            match self.listener.accept().await {
                Ok((accepted, address)) => {
                    self.pause = Duration::ZERO;
                    let peer = Peer {
                        address,
                        ..Peer::default()
                    };
                    match self.slots.take(peer.ip(), clock::now()) {
                        Ok(slot) => return (accepted, peer, slot),
                        Err(Full::All) => self.counts.refused(metrics::REFUSED_LIMIT, address),
                        Err(Full::Address) => {
                            self.counts.refused(metrics::REFUSED_ADDRESS, address);
                        }
                    }
                }
                Err(error) => self.failed(&error),
            }
        }
    }

    /// Pauses after a failed `accept`: without descriptors the pending connection stays readable,
    /// and an immediate retry would spin.
    fn failed(&mut self, error: &io::Error) {
        if is_disconnect(error) {
            return;
        }
        let reason = if is_out_of_descriptors(error) {
            self.slots.evict_one(clock::now());
            metrics::ACCEPT_DESCRIPTORS
        } else {
            metrics::ACCEPT_OTHER
        };
        self.counts.accept_failed(reason, error);
        self.pause = (self.pause * 2).clamp(ACCEPT_PAUSE, ACCEPT_PAUSE_MAX);
    }
}

/// True if the peer disconnected before it was accepted.
fn is_disconnect(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE]
        .into_iter()
        .any(|errno| code == Some(errno.raw_os_error()))
}
