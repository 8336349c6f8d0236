//! The certificate of a listener, which can be swapped while it serves.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use crate::CertificateAuthority;

/// An error in loading or making certificates.
#[derive(Debug, Error)]
pub enum TlsError {
    #[error("{} cannot be read", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    /// Not PEM, or not of the expected kind.
    #[error("{what} cannot be read as PEM")]
    Pem {
        /// The expected content.
        what: String,
        source: rustls::pki_types::pem::Error,
    },
    #[error("{what} holds no certificate")]
    Empty { what: String },
    /// For example a bundle with a key.
    #[error("{what} holds something besides certificates")]
    NotAlone { what: String },
    #[error("{what} has {bytes} bytes, at most {max} are allowed")]
    TooLong {
        what: String,
        bytes: usize,
        max: usize,
    },
    /// The key is not that of the certificate, or its type is not supported.
    #[error("the key does not fit the certificate")]
    Key(#[source] rustls::Error),
    #[error("{what} holds no usable CA")]
    NoCa {
        what: String,
        source: rustls::server::VerifierBuilderError,
    },
    #[error("TLS cannot be set up")]
    Config(#[from] rustls::Error),
    #[error("a certificate for {names} cannot be made")]
    Make {
        /// The names of the certificate.
        names: String,
        source: rcgen::Error,
    },
}

/// The certificate of a listener. Clones share it.
#[derive(Clone, Debug)]
pub struct ReloadableCert(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Locked only to copy or replace the pointer.
    current: RwLock<Arc<CertifiedKey>>,
    /// When it expires, in seconds of Unix time; 0 if it cannot be parsed.
    expires: AtomicU64,
}

// === impl ReloadableCert ===

impl ReloadableCert {
    /// From a certificate (PEM, followed by its intermediates) and its key.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, TlsError> {
        let pair = pair(certificate, key)?;
        let expires = AtomicU64::new(expiry(&pair));
        Ok(Self(Arc::new(Shared {
            current: RwLock::new(Arc::new(pair)),
            expires,
        })))
    }

    /// A certificate for `names` by an unknown CA, for handshakes until a real one is swapped in.
    pub fn untrusted(names: &[String]) -> Result<Self, TlsError> {
        let issued = CertificateAuthority::new("meshmeter starting")?.issue(names)?;
        Self::from_pem(&issued.certificate, &issued.key)
    }

    /// Uses this certificate for new connections; open ones stay as they are.
    pub fn swap(&self, certificate: &str, key: &str) -> Result<(), TlsError> {
        let pair = pair(certificate, key)?;
        self.0.expires.store(expiry(&pair), Ordering::Relaxed);
        *self.0.current.write() = Arc::new(pair);
        Ok(())
    }

    /// When the certificate expires, in seconds of Unix time; 0 if it cannot be parsed.
    pub fn expires(&self) -> u64 {
        self.0.expires.load(Ordering::Relaxed)
    }
}

impl ResolvesServerCert for ReloadableCert {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.0.current.read();
        Some(Arc::clone(&current))
    }
}

fn pair(certificate: &str, key: &str) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(certificate, "the certificate")?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|source| TlsError::Pem {
        what: "the key".to_owned(),
        source,
    })?;
    let pair =
        CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(TlsError::Key)?;
    pair.keys_match().map_err(TlsError::Key)?;
    Ok(pair)
}

/// The certificates in `pem`, at least one.
pub(crate) fn certificates(
    pem: &str,
    what: &str,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let what = what.to_owned();
    match chain {
        Ok(chain) if chain.is_empty() => Err(TlsError::Empty { what }),
        Ok(chain) => Ok(chain),
        Err(source) => Err(TlsError::Pem { what, source }),
    }
}

fn expiry(pair: &CertifiedKey) -> u64 {
    let own = pair.cert.first();
    let parsed = own.and_then(|own| X509Certificate::from_der(own).ok());
    let after = parsed.map(|(_, parsed)| parsed.validity().not_after.timestamp());
    after
        .and_then(|after| u64::try_from(after).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key of another certificate is refused when it is given, not at the first handshake; what
    /// was shown stays.
    #[test]
    fn refuses_a_foreign_key() {
        let ca = CertificateAuthority::new("test").unwrap();
        let names = ["a".to_owned()];
        let (one, other) = (ca.issue(&names).unwrap(), ca.issue(&names).unwrap());
        let serving = ReloadableCert::from_pem(&one.certificate, &one.key).unwrap();
        let expires = serving.expires();
        let refused = serving.swap(&one.certificate, &other.key).unwrap_err();
        assert!(matches!(refused, TlsError::Key(_)), "{refused}");
        assert!(serving.swap("", &one.key).is_err());
        assert_eq!(serving.expires(), expires);
        assert!(expires > 0);
    }
}
