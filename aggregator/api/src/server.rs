//! The HTTPS server of the API: HTTP/1.1 and HTTP/2, with limits per client.

use std::sync::Arc;
use std::time::Duration;

use common_http::{
    Deadlines, Http2, Limits, Metrics, Peer, Protocol, RequestBody, Security, Settings,
};
use http::Request;
use hyper::body::Body as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::authentication::certificate::PeerCertificates;
use crate::handler::{Api, HEADER_BYTES_MAX, HEADERS_MAX, URL_BYTES_MAX};

/// Open connections of clients without a certificate of a front proxy: probes, people, any pod.
const CONNECTIONS_MAX: usize = 768;

/// Additional connections of front proxies. Each replica of kube-apiserver keeps one or a few.
const FRONT_PROXIES_MAX: usize = 256;

/// Requests at once on one HTTP/2 connection; each is answered from memory.
const STREAMS_PER_CONNECTION_MAX: u32 = 128;

/// Bytes of a request head that are read. More than [`URL_BYTES_MAX`] and [`HEADER_BYTES_MAX`]
/// together, so that a request slightly above a limit gets an error that names it.
const HEAD_READ_BYTES_MAX: usize = 64 * 1024;
const _: () = assert!(URL_BYTES_MAX + HEADER_BYTES_MAX < HEAD_READ_BYTES_MAX);

/// Header lines that are read.
const HEADERS_READ_MAX: usize = 2 * HEADERS_MAX;

/// Default limits of connections.
pub const LIMITS: Limits = Limits {
    trusted: FRONT_PROXIES_MAX,
    ..Limits::of(CONNECTIONS_MAX)
};

/// Serves an [`Api`] over TLS.
#[derive(Debug)]
pub struct Server {
    api: Arc<Api>,
    tls: Arc<rustls::ServerConfig>,
    limits: Limits,
    connection_age_max: Option<Duration>,
}

impl Server {
    pub fn new(api: Api, tls: Arc<rustls::ServerConfig>) -> Self {
        Self {
            api: Arc::new(api),
            tls,
            limits: LIMITS,
            connection_age_max: None,
        }
    }

    /// Replaces [`LIMITS`].
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Closes connections at about this age (up to a tenth more): otherwise all requests of an
    /// autoscaler would stay with one replica.
    #[must_use]
    pub fn with_connection_age_max(mut self, age: Option<Duration>) -> Self {
        self.connection_age_max = age;
        self
    }

    fn settings(&self) -> Settings {
        Settings {
            listener: "api",
            protocol: Protocol::Negotiated,
            limits: self.limits,
            deadlines: Deadlines {
                age: self.connection_age_max,
                ..Deadlines::default()
            },
            head_bytes_max: HEAD_READ_BYTES_MAX,
            headers_max: HEADERS_READ_MAX,
            http2: Http2 {
                streams_max: STREAMS_PER_CONNECTION_MAX,
                ..Http2::default()
            },
        }
    }

    /// Serves until `shutdown`; then accepts no more connections, and open requests have `drain` to
    /// end.
    pub async fn serve(
        self,
        listener: TcpListener,
        metrics: Metrics,
        shutdown: CancellationToken,
        drain: Duration,
    ) {
        let trusting = Arc::clone(&self.api);
        let server = common_http::Server::new(self.settings(), &metrics)
            .with_security(Security::Tls(self.tls))
            .with_trust(move |peer| trusting.trusts(&peer.certificates));
        let api = self.api;
        let stopping = Arc::clone(&api);
        let stopped = shutdown.clone();
        let end_streams = tokio::spawn(async move {
            stopped.cancelled().await;
            stopping.stop_streams();
        });
        let handler = move |peer: &Arc<Peer>| {
            let api = Arc::clone(&api);
            // Per connection, so that the role of its certificate is cached across requests.
            let certificates = Arc::new(PeerCertificates::new(peer.certificates.clone()));
            move |request: Request<RequestBody>| {
                let (api, certificates) = (Arc::clone(&api), Arc::clone(&certificates));
                async move {
                    let (parts, body) = request.into_parts();
                    api.respond_to(parts, !body.is_end_stream(), &certificates)
                        .await
                }
            }
        };
        server.serve(listener, shutdown, drain, handler).await;
        end_streams.abort();
    }
}
