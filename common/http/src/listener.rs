//! Where connections come from, and who is at the other end.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::server::TlsStream;

#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    /// At a socket of this machine.
    Unix(UnixListener),
}

/// Who is at the other end of a connection. In the extensions of each request, as `Arc<Peer>`.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// Where it comes from; `None` with a local socket.
    pub address: Option<SocketAddr>,
    /// The certificates it showed, its own first. That it holds the key was verified, and what the
    /// TLS configuration verifies.
    pub certificates: Vec<CertificateDer<'static>>,
    /// True if it speaks TLS.
    pub is_tls: bool,
}

/// A connection as it was accepted.
#[derive(Debug)]
pub(crate) enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connection on which HTTP is spoken.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(Accepted),
    Tls(Box<TlsStream<Accepted>>),
}

// === impl Listener ===

impl Listener {
    pub(crate) async fn accept(&self) -> io::Result<(Accepted, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Answers are one write each; waiting to fill a packet only delays them.
                let _ = stream.set_nodelay(true);
                Ok((Accepted::Tcp(stream), Some(peer)))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Accepted::Unix(stream), None))
            }
        }
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Self {
        Self::Unix(listener)
    }
}

// === impl Peer ===

impl Peer {
    /// Its address; an IPv4 address is one, however it is written.
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.map(|address| address.ip().to_canonical())
    }
}

// === impl Accepted ===

impl Accepted {
    /// The first byte that the peer sends, which stays to be read; `None` at the end, and always
    /// with a local socket.
    pub(crate) async fn first_byte(&self) -> io::Result<Option<u8>> {
        match self {
            Self::Tcp(stream) => {
                let mut first = [0];
                let read = stream.peek(&mut first).await?;
                Ok((read > 0).then_some(first[0]))
            }
            Self::Unix(_) => Ok(None),
        }
    }
}

/// Passes everything on to whichever variant it is.
macro_rules! delegate {
    ($type:ty, $($variant:path),+) => {
        impl AsyncRead for $type {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $($variant(stream) => Pin::new(stream).poll_read(cx, buf),)+
                }
            }
        }

        impl AsyncWrite for $type {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    $($variant(stream) => Pin::new(stream).poll_write(cx, buf),)+
                }
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $($variant(stream) => Pin::new(stream).poll_flush(cx),)+
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $($variant(stream) => Pin::new(stream).poll_shutdown(cx),)+
                }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    $($variant(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),)+
                }
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    $($variant(stream) => stream.is_write_vectored(),)+
                }
            }
        }
    };
}

delegate!(Accepted, Accepted::Tcp, Accepted::Unix);
delegate!(Stream, Stream::Plain, Stream::Tls);
