//! gRPC listeners: a TCP address, or a Unix socket that only this user may open.

use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use common_http::{
    Deadlines, Http2, Limits, Listener, Metrics, Peer, Protocol, RequestBody, Server, Settings,
};
use futures_util::FutureExt as _;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower_service::Service;

/// Timeout of a connection's first stream. Envoy connects only to open one.
const FIRST_STREAM_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest time without a stream after the first one: Envoy retries sooner.
const IDLE_TIMEOUT: Duration = Duration::from_mins(5);

/// Concurrent streams on one connection. An Envoy has one; a proxy that multiplexes those of a
/// node's pods opens another connection beyond it.
const STREAMS_PER_CONNECTION_MAX: u32 = 32;

/// Largest request head, in bytes: it may contain AWS session tokens.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Drain time of open streams at shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// `HOST:PORT` or `unix:///PATH`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Listen {
    Address(SocketAddr),
    Unix(PathBuf),
}

#[derive(Debug)]
pub(crate) enum Bound {
    Address(TcpListener),
    Unix(UnixListener),
}

// === impl Listen ===

impl std::str::FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix://") {
            return Ok(Self::Unix(path.into()));
        }
        let parsed = text.parse().map(Self::Address);
        parsed.map_err(|_| format!("{text:?} is not ADDRESS:PORT or unix:///PATH"))
    }
}

impl Listen {
    pub(crate) async fn bind(&self) -> Result<Bound> {
        match self {
            Self::Address(address) => {
                let bound = TcpListener::bind(address).await;
                Ok(Bound::Address(
                    bound.with_context(|| format!("--listen {address}"))?,
                ))
            }
            Self::Unix(path) => {
                let name = || format!("--listen unix://{}", path.display());
                remove_old(path).with_context(name)?;
                let bound = UnixListener::bind(path).with_context(name)?;
                // The configuration may contain private keys: only this user may connect.
                fs::set_permissions(path, fs::Permissions::from_mode(0o600)).with_context(name)?;
                Ok(Bound::Unix(bound))
            }
        }
    }
}

/// Removes the socket of an earlier process: binding fails while it exists.
fn remove_old(path: &Path) -> Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    ensure!(
        metadata.file_type().is_socket(),
        "the file exists and is not a socket"
    );
    Ok(fs::remove_file(path)?)
}

// === impl Bound ===

impl Bound {
    /// `None` for a Unix socket.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Address(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// Serves until `stop`, then drains streams for [`DRAIN_TIMEOUT`].
    pub(crate) async fn serve<S>(
        self,
        service: S,
        limits: Limits,
        metrics: &Metrics,
        stop: CancellationToken,
    ) where
        S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
        S: Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        let handler = move |_: &Arc<Peer>| {
            let service = service.clone();
            move |request: http::Request<RequestBody>| {
                let response = service.clone().call(request.map(Body::new));
                response.map(|response| response.unwrap_or_else(|never| match never {}))
            }
        };
        let listener = match self {
            Self::Address(listener) => Listener::Tcp(listener),
            Self::Unix(listener) => Listener::Unix(listener),
        };
        Server::new(settings(limits), metrics)
            .serve(listener, stop, DRAIN_TIMEOUT, handler)
            .await;
    }
}

fn settings(limits: Limits) -> Settings {
    Settings {
        listener: "xds",
        protocol: Protocol::Http2,
        // The reserve admits connections without a stream. An Envoy's connection always has one, so
        // a reserve would only raise the limit.
        limits: Limits {
            reserve: 0,
            ..limits
        },
        deadlines: Deadlines {
            first_request: FIRST_STREAM_TIMEOUT,
            idle: IDLE_TIMEOUT,
            body: None,
            answer: None,
            ..Deadlines::default()
        },
        head_bytes_max: HEAD_BYTES_MAX,
        headers_max: 0,
        http2: Http2 {
            streams_max: STREAMS_PER_CONNECTION_MAX,
            ..Http2::default()
        },
    }
}
