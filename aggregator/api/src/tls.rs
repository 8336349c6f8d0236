//! Certificates of the API. The server takes any `rustls::ServerConfig`; this module makes the self-signed one
//! of standalone mode.

use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use thiserror::Error;

/// Names every self-signed certificate is valid for.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Why there is no certificate.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A name that no certificate can hold, or no randomness.
    #[error("cannot make a self-signed certificate for {names}")]
    SelfSigned {
        /// The names asked for.
        names: String,
        /// What went wrong.
        source: rcgen::Error,
    },
    /// The certificate cannot be used.
    #[error("cannot use the certificate for TLS")]
    Config(#[from] rustls::Error),
}

/// A configuration with a new self-signed certificate for `names` and this machine's own. The key never leaves
/// memory, so clients must skip verification: fit for loopback only.
pub fn self_signed(names: &[String]) -> Result<Arc<ServerConfig>, TlsError> {
    let mut all: Vec<String> = LOCAL_NAMES.map(str::to_owned).into();
    all.extend(
        names
            .iter()
            .filter(|name| !LOCAL_NAMES.contains(&name.as_str()))
            .cloned(),
    );
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(all.clone()).map_err(|source| TlsError::SelfSigned {
            names: all.join(", "),
            source,
        })?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)?;
    offer_http(&mut config);
    Ok(Arc::new(config))
}

/// Offers HTTP/2, then HTTP/1.1: what kube-apiserver and kubectl speak.
pub fn offer_http(config: &mut ServerConfig) {
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Given names are added to the local ones; both protocols are offered.
    #[test]
    fn makes_a_certificate() {
        let names = ["meshmeter.mesh.svc".to_owned(), "localhost".to_owned()];
        let config = self_signed(&names).unwrap();
        assert_eq!(
            config.alpn_protocols,
            [b"h2".to_vec(), b"http/1.1".to_vec()]
        );
    }

    /// An impossible name is an error that shows it, not a panic.
    #[test]
    fn names_an_impossible_name() {
        let error = self_signed(&["ü".to_owned()]).unwrap_err();
        assert!(error.to_string().contains('ü'), "{error}");
    }
}
