//! From an accepted connection to one on which HTTP is spoken: plain, TLS, or whichever the peer begins with.

use std::io;
use std::sync::Arc;

use rustls::{AlertDescription, Error, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::listener::{Accepted, Peer, Stream};
use crate::metrics;

/// How a TLS record of a handshake begins (RFC 8446, section 5.1). No request begins like that.
const TLS_HANDSHAKE: u8 = 0x16;

/// Whether TLS is spoken.
#[derive(Clone, Debug)]
pub enum Security {
    /// It is not.
    Plain,
    /// It is, as configured.
    Tls(Arc<ServerConfig>),
    /// By who wants to: the first byte tells which. [`Peer::is_tls`] says what it was.
    Either(Arc<ServerConfig>),
}

// === impl Security ===

impl Security {
    /// Shakes hands if that is wanted; adds to `peer` what comes out of it.
    pub(crate) async fn open(&self, accepted: Accepted, peer: &mut Peer) -> io::Result<Stream> {
        let tls = match self {
            Self::Plain => None,
            Self::Tls(tls) => Some(tls),
            Self::Either(tls) => {
                let first = accepted.first_byte().await?;
                (first == Some(TLS_HANDSHAKE)).then_some(tls)
            }
        };
        let Some(tls) = tls else {
            return Ok(Stream::Plain(accepted));
        };
        let acceptor = TlsAcceptor::from(Arc::clone(tls));
        let stream = acceptor.accept(accepted).await?;
        let (_, session) = stream.get_ref();
        peer.certificates = session.peer_certificates().unwrap_or_default().to_vec();
        peer.is_tls = true;
        Ok(Stream::Tls(Box::new(stream)))
    }
}

// === impl Stream ===

impl Stream {
    /// True if HTTP/2 was agreed upon in the handshake.
    pub(crate) fn is_http2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }
}

/// The label of a failure.
pub(crate) fn reason(error: &io::Error) -> &'static str {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(Error::AlertReceived(alert)) if rejects_certificate(*alert) => {
            metrics::HANDSHAKE_REJECTED
        }
        Some(Error::InvalidMessage(_)) => metrics::HANDSHAKE_NOT_TLS,
        Some(Error::NoCertificatesPresented) => metrics::HANDSHAKE_NO_CLIENT,
        Some(Error::InvalidCertificate(_)) => metrics::HANDSHAKE_BAD_CLIENT,
        Some(_) => metrics::HANDSHAKE_OTHER,
        None => match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => metrics::HANDSHAKE_CLOSED,
            _ => metrics::HANDSHAKE_OTHER,
        },
    }
}

/// What a peer says to a certificate of ours that it does not believe.
fn rejects_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::UnknownCA
            // Of a new authority under the old name.
            | AlertDescription::DecryptError
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate
    )
}
