//! TLS, and TLS or plain on one port.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use common_http::{Protocol, Security};
use http::Method;
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::{closed, get, send, sent};
use crate::running::{Running, settings};

/// Issues what both sides show.
pub(crate) struct CertificateAuthority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

// === impl CertificateAuthority ===

impl CertificateAuthority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    fn issue(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (vec![certificate.der().clone()], key.into())
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        roots
    }

    /// Takes client certificates of this CA, and clients without one.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(self.roots());
        let clients = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
        let clients = clients.allow_unauthenticated().build().unwrap();
        let (chain, key) = self.issue();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }

    /// A client of this CA, with a certificate of its own or without.
    pub(crate) async fn connect(
        &self,
        address: SocketAddr,
        protocol: &[u8],
        with_certificate: bool,
    ) -> io::Result<TlsStream<TcpStream>> {
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots());
        let mut config = if with_certificate {
            let (chain, key) = self.issue();
            config.with_client_auth_cert(chain, key).unwrap()
        } else {
            config.with_no_client_auth()
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
    }
}

/// The first byte tells whether TLS is spoken; both are served on one port.
#[tokio::test]
async fn tells_tls_from_plain() {
    let ca = CertificateAuthority::new();
    let tls = ca.server();
    let server = Running::with(settings(Protocol::Negotiated), |server| {
        server.with_security(Security::Either(tls))
    });
    let server = server.await;
    for (protocol, is_http2) in [(&b"h2"[..], true), (b"http/1.1", false)] {
        let stream = ca.connect(server.address, protocol, false).await.unwrap();
        let reply = send(stream, is_http2, Method::GET, "/tls").await.unwrap();
        assert_eq!(&reply.body[..], b"tls");
    }
    let reply = get(server.address, "/tls").await.unwrap();
    assert_eq!(&reply.body[..], b"plain");
}

/// What is neither TLS nor HTTP/2 is closed at once, counted, and told of as a handshake that
/// failed.
#[tokio::test]
async fn neither_is_closed() {
    let tls = CertificateAuthority::new().server();
    let failed = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&failed);
    let server = Running::with(settings(Protocol::Http2), |server| {
        let server = server.with_security(Security::Either(tls));
        server.with_handshakes(move |ip, done| told.lock().push((ip, done)))
    });
    let server = server.await;
    for text in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\0",
        b"\x15\x03\x01",
        b"\xff",
    ] {
        assert_eq!(
            closed(&mut sent(server.address, text).await).await,
            b"",
            "{text:?}"
        );
    }
    assert_eq!(server.count("handshakes_failed", "unknown_protocol"), 4);
    let told = failed.lock().clone();
    assert_eq!(told, vec![(Ipv4Addr::LOCALHOST.into(), false); 4]);
}

/// Handshakes that fail are counted by what was wrong with them.
#[tokio::test]
async fn failures_have_reasons() {
    let ca = CertificateAuthority::new();
    let tls = ca.server();
    let server = Running::with(settings(Protocol::Negotiated), |server| {
        server.with_security(Security::Tls(tls))
    });
    let server = server.await;
    let failed = |reason| server.count("handshakes_failed", reason);
    closed(&mut sent(server.address, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await).await;
    assert_eq!(failed("not_tls"), 1);
    // A client that does not know the CA of the server.
    let stranger = CertificateAuthority::new();
    assert!(
        stranger
            .connect(server.address, b"h2", false)
            .await
            .is_err()
    );
    drop(sent(server.address, b"\x16").await);
    while failed("peer_rejected_certificate") == 0 || failed("closed") == 0 {
        tokio::task::yield_now().await;
    }
    // With TLS 1.3 the client learns of it only when it reads.
    if let Ok(mut stream) = stranger_certificate(&ca, &stranger, server.address).await {
        closed(&mut stream).await;
    }
    while failed("bad_client_certificate") == 0 {
        tokio::task::yield_now().await;
    }
}

/// A client that believes the server, with a certificate of a CA that the server does not know.
async fn stranger_certificate(
    ca: &CertificateAuthority,
    stranger: &CertificateAuthority,
    address: SocketAddr,
) -> io::Result<TlsStream<TcpStream>> {
    let (chain, key) = stranger.issue();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(ca.roots())
        .with_client_auth_cert(chain, key)
        .unwrap();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}
