//! Where gRPC is served: an address, or a socket that only this user may open.

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

/// How long a new connection may be without a stream. Envoy connects when it has one.
const FIRST_STREAM_WITHIN: Duration = Duration::from_secs(10);

/// How long a connection may be without a stream after that: Envoy tries again sooner.
const WITHOUT_STREAM_MAX: Duration = Duration::from_mins(5);

/// Streams at once on one connection. An Envoy has one; a proxy in between that bundles those of a
/// node's pods opens another connection beyond that.
const STREAMS_PER_CONNECTION_MAX: u32 = 32;

/// Bytes of a call's headers: tokens of AWS are among them.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// How long open streams may take to end at shutdown.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

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
                // Keys pass through: nobody else may connect.
                fs::set_permissions(path, fs::Permissions::from_mode(0o600)).with_context(name)?;
                Ok(Bound::Unix(bound))
            }
        }
    }
}

/// What a process before this one left.
fn remove_old(path: &Path) -> Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    ensure!(
        found.file_type().is_socket(),
        "there is something else than a socket"
    );
    Ok(fs::remove_file(path)?)
}

// === impl Bound ===

impl Bound {
    /// The address, if it is one.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Address(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// Serves until `stop`; what is open then has [`DRAIN_WITHIN`] to end.
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
                let answer = service.clone().call(request.map(Body::new));
                answer.map(|answer| answer.unwrap_or_else(|never| match never {}))
            }
        };
        let listener = match self {
            Self::Address(listener) => Listener::Tcp(listener),
            Self::Unix(listener) => Listener::Unix(listener),
        };
        Server::new(settings(limits), metrics)
            .serve(listener, stop, DRAIN_WITHIN, handler)
            .await;
    }
}

fn settings(limits: Limits) -> Settings {
    Settings {
        listener: "xds",
        protocol: Protocol::Http2,
        // An Envoy's connection has a stream all the time: a reserve for more of them would only be
        // a higher limit.
        limits: Limits {
            reserve: 0,
            ..limits
        },
        deadlines: Deadlines {
            first_request: FIRST_STREAM_WITHIN,
            idle: WITHOUT_STREAM_MAX,
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
