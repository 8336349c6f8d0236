//! The target of connections, by TLS or plain text, and their source addresses.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tests_support::kubernetes::ca::certificates;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// As what HTTP/2 is agreed upon by TLS.
pub const HTTP2: &[u8] = b"h2";
/// The same of HTTP/1.1.
pub const HTTP1: &[u8] = b"http/1.1";

/// The first address of attackers: the well-behaved have 127.0.0.1.
const ATTACKERS: [u8; 4] = [127, 0, 0, 66];
/// Timeout of a connection with its handshake.
const CONNECT_WITHIN: Duration = Duration::from_secs(6);

/// A server and how to reach it.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: SocketAddr,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// Bearer token of each call.
    pub token: Option<String>,
    /// Number of addresses to come from, one after the other; 0 for the system's choice.
    addresses: u8,
    next: Arc<AtomicU8>,
}

/// A connection, whatever it is made of.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection that was made.
pub type Connection = Box<dyn Io>;

/// Verifies nothing.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

// === impl Target ===

impl Target {
    /// One that is reached plainly.
    pub fn plain(address: SocketAddr) -> Self {
        Self {
            address,
            tls: None,
            token: None,
            addresses: 0,
            next: Arc::default(),
        }
    }

    /// By TLS; the server needs a certificate of `ca` (PEM) for `name`.
    pub fn secure(address: SocketAddr, ca: &str, name: &str) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca)? {
            roots.add(certificate)?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned())?;
        Ok(Self {
            tls: Some((Arc::new(config), name)),
            ..Self::plain(address)
        })
    }

    /// By TLS without verification.
    pub fn unverified(address: SocketAddr) -> Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
            .with_no_client_auth();
        let name = ServerName::try_from("anyone")?;
        Ok(Self {
            tls: Some((Arc::new(config), name)),
            ..Self::plain(address)
        })
    }

    /// The same, with a token.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// The same as attackers reach it, who come from so many addresses.
    #[must_use]
    pub fn attacked_from(mut self, addresses: u8) -> Self {
        self.addresses = addresses;
        self
    }

    /// Without TLS, whatever the server speaks.
    pub async fn socket(&self) -> Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        if self.addresses > 0 {
            let mut address = ATTACKERS;
            address[3] += self.next.fetch_add(1, Ordering::Relaxed) % self.addresses;
            socket.bind((Ipv4Addr::from(address), 0).into())?;
        }
        let stream = timeout(CONNECT_WITHIN, socket.connect(self.address)).await??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// A connection on which `protocol` is spoken.
    pub async fn connect(&self, protocol: &'static [u8]) -> Result<Connection> {
        let stream = self.socket().await?;
        let Some((config, name)) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let mut config = ClientConfig::clone(config);
        config.alpn_protocols = vec![protocol.to_vec()];
        let handshake = TlsConnector::from(Arc::new(config)).connect(name.clone(), stream);
        let stream = timeout(CONNECT_WITHIN, handshake).await;
        Ok(Box::new(stream?.context("handshake")?))
    }
}

// === impl Anyone ===

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
