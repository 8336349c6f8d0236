//! Where gRPC is served: an address, or a socket that only this user may open.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Router, TcpIncoming};

/// `HOST:PORT` or `unix:///PATH`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Listen {
    /// An address.
    Address(SocketAddr),
    /// A socket.
    Unix(PathBuf),
}

/// Something that accepts connections.
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
    /// Begins to listen.
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

    /// Serves until `stop`.
    pub(crate) async fn serve(self, router: Router, stop: CancellationToken) -> Result<()> {
        let stopped = stop.cancelled_owned();
        match self {
            Self::Address(listener) => {
                // The end of a large response would wait some 40 ms for what came before it to be acknowledged.
                let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
                router
                    .serve_with_incoming_shutdown(incoming, stopped)
                    .await?;
            }
            Self::Unix(listener) => {
                let incoming = UnixListenerStream::new(listener);
                router
                    .serve_with_incoming_shutdown(incoming, stopped)
                    .await?;
            }
        }
        Ok(())
    }
}
