//! The handshake of an accepted connection: none, TLS, or whichever the peer begins with.

use std::io;
use std::sync::Arc;

use rustls::{AlertDescription, Error, ServerConfig};
use thiserror::Error as ThisError;
use tokio_rustls::TlsAcceptor;

use crate::listener::{Accepted, Peer, Stream};
use crate::metrics;
use crate::settings::Protocol;

/// First byte of a TLS handshake record (RFC 8446, section 5.1). No HTTP request begins with it.
const TLS_HANDSHAKE: u8 = 0x16;

/// First byte of the HTTP/2 preface `PRI * HTTP/2.0` (RFC 9113, section 3.4).
const HTTP2_PREFACE: u8 = b'P';

#[derive(Clone, Debug)]
pub enum Security {
    Plain,
    Tls(Arc<ServerConfig>),
    /// TLS or plain, as the first byte shows; recorded in [`Peer::is_tls`].
    Either(Arc<ServerConfig>),
}

/// The protocol that a connection begins with, by its first byte: it is only peeked, and TLS or
/// HTTP reads it again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Opening {
    Tls,
    Http,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ThisError)]
#[error("it begins with the byte {0:#04x}: neither TLS nor HTTP/2")]
struct Unknown(u8);

// === impl Security ===

impl Security {
    /// Performs the TLS handshake, if any; records its result in `peer`.
    pub(crate) async fn open(
        &self,
        accepted: Accepted,
        protocol: Protocol,
        peer: &mut Peer,
    ) -> io::Result<Stream> {
        let tls = match self {
            Self::Plain => None,
            Self::Tls(tls) => Some(tls),
            Self::Either(tls) => {
                let first = accepted.first_byte().await?;
                let opening = first.map(|first| Opening::of(first, protocol)).transpose();
                let opening =
                    opening.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                (opening == Some(Opening::Tls)).then_some(tls)
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

// === impl Opening ===

impl Opening {
    fn of(first: u8, protocol: Protocol) -> Result<Self, Unknown> {
        match (first, protocol) {
            (TLS_HANDSHAKE, _) => Ok(Self::Tls),
            (_, Protocol::Http2) if first != HTTP2_PREFACE => Err(Unknown(first)),
            // Any other byte goes to the HTTP/1.1 parser, which answers an invalid one with 400.
            (_, Protocol::Http1 | Protocol::Http2 | Protocol::Negotiated) => Ok(Self::Http),
        }
    }
}

// === impl Stream ===

impl Stream {
    /// True if HTTP/2 was negotiated by ALPN.
    pub(crate) fn is_http2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }
}

/// The metric label of a failed handshake.
pub(crate) fn reason(error: &io::Error) -> &'static str {
    let inner = error.get_ref();
    if inner
        .and_then(|inner| inner.downcast_ref::<Unknown>())
        .is_some()
    {
        return metrics::HANDSHAKE_UNKNOWN;
    }
    match inner.and_then(|inner| inner.downcast_ref()) {
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

/// True for the alerts by which a peer rejects our certificate.
fn rejects_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::UnknownCA
            // Sent by some peers for a certificate of a new CA with the old one's name.
            | AlertDescription::DecryptError
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every first byte, for every protocol: one is TLS, and of HTTP/2 one other is HTTP.
    #[test]
    fn the_first_byte_tells() {
        for protocol in [Protocol::Http1, Protocol::Http2, Protocol::Negotiated] {
            for first in 0..=u8::MAX {
                let expected = match (first, protocol) {
                    (0x16, _) => Ok(Opening::Tls),
                    (b'P', _) => Ok(Opening::Http),
                    (first, Protocol::Http2) => Err(Unknown(first)),
                    _ => Ok(Opening::Http),
                };
                assert_eq!(Opening::of(first, protocol), expected, "{protocol:?}");
            }
        }
        let text = Unknown(b'G').to_string();
        assert_eq!(text, "it begins with the byte 0x47: neither TLS nor HTTP/2");
    }
}
