//! Makes rustls configurations.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::CertificateAuthority;
use crate::reloadable_cert::{ReloadableCert, TlsError, certificates};

/// Names in every self-signed certificate.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The protocols offered by ALPN.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocols {
    /// HTTP/2, then HTTP/1.1, for kube-apiserver and kubectl.
    Http,
    /// HTTP/2 only.
    Grpc,
}

/// A configuration with the certificate `cert` that accepts client certificates by `clients`; TLS
/// 1.2 and 1.3.
pub fn server(
    cert: ReloadableCert,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    protocols: Protocols,
) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?;
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(clients),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(cert));
    config.alpn_protocols = match protocols {
        Protocols::Http => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        Protocols::Grpc => vec![b"h2".to_vec()],
    };
    Ok(Arc::new(config))
}

/// A client's configuration that trusts the CAs of `roots` (PEM) alone; `what` names them in
/// errors. HTTP/1.1.
pub fn client(roots: &str, what: &str) -> Result<Arc<ClientConfig>, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(roots, what)? {
        store.add(certificate)?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A configuration with a new certificate for `names` and `LOCAL_NAMES`. Its CA is not published,
/// so clients must skip verification: for loopback only.
pub fn self_signed(names: &[String]) -> Result<Arc<ServerConfig>, TlsError> {
    let mut all: Vec<String> = LOCAL_NAMES.map(str::to_owned).into();
    let others = names
        .iter()
        .filter(|name| !LOCAL_NAMES.contains(&name.as_str()));
    all.extend(others.cloned());
    let issued = CertificateAuthority::new("meshmeter standalone")?.issue(&all)?;
    let cert = ReloadableCert::from_pem(&issued.certificate, &issued.key)?;
    server(cert, None, Protocols::Http)
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

    /// A name that cannot be in a certificate is named.
    #[test]
    fn names_what_is_wrong() {
        let error = self_signed(&["ö".to_owned()]).unwrap_err();
        assert!(error.to_string().contains('ö'), "{error}");
    }
}
