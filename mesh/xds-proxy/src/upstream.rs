//! The gRPC client of the control plane.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common_aws::credentials::CredentialCache;
use common_aws::signer::Signer;
use common_time::Clock;
use http::Uri;
use http::uri::PathAndQuery;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use mesh_core::discovery::Form;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};

pub use self::address::{Address, AddressError};
pub use self::route::ProxyError;
use self::route::Route;
use crate::MESSAGE_BYTES_MAX;
use crate::codec::{Raw, path};

mod address;
mod route;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval of HTTP/2 PINGs, also on idle connections.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Connects lazily.
#[derive(Debug)]
pub struct Upstream {
    address: Address,
    /// `None` for a Unix socket.
    route: Option<Route>,
    channel: Channel,
    signing: Option<Signing>,
}

/// Signs each stream by AWS Signature Version 4.
pub struct Signing {
    pub signer: Signer,
    pub credentials: Arc<CredentialCache>,
    pub clock: Clock,
}

#[derive(Debug, Error)]
pub enum UpstreamError {
    #[error("TLS towards the control plane: {0}")]
    Tls(#[source] Box<tonic::transport::Error>),
    /// In plain text anybody on the path could read the signature and use it.
    #[error("a signature needs https towards the control plane")]
    SignedPlain,
    #[error(transparent)]
    Proxy(#[from] ProxyError),
}

// === impl Upstream ===

impl Upstream {
    /// With https, `ca` (PEM) verifies the control plane's certificate, or else the system's roots.
    /// Connections go through the proxies of the environment.
    pub fn new(
        address: &Address,
        ca: Option<&str>,
        signing: Option<Signing>,
    ) -> Result<Self, UpstreamError> {
        if signing.is_some() && !matches!(address, Address::Tls(_)) {
            return Err(UpstreamError::SignedPlain);
        }
        let endpoint_of = |uri: Uri| {
            Endpoint::from(uri)
                .connect_timeout(CONNECT_TIMEOUT)
                .http2_keep_alive_interval(KEEPALIVE)
                .keep_alive_while_idle(true)
        };
        let (route, channel) = match address {
            Address::Unix(path) => {
                let path = path.clone();
                let connect = move |_| connect(path.clone());
                // tonic needs a URI, which the connector does not use.
                let endpoint = endpoint_of(Uri::from_static("http://control-plane"));
                (
                    None,
                    endpoint.connect_with_connector_lazy(tower::service_fn(connect)),
                )
            }
            Address::Plain(uri) | Address::Tls(uri) => {
                let route = Route::new(uri.clone(), &Matcher::from_env())?;
                let mut endpoint = endpoint_of(uri.clone());
                if matches!(address, Address::Tls(_)) {
                    let tls = endpoint.tls_config(tls(ca));
                    endpoint = tls.map_err(|error| UpstreamError::Tls(Box::new(error)))?;
                }
                let by_route = route.clone();
                let connect = move |_| by_route.clone().connect();
                let channel = endpoint.connect_with_connector_lazy(tower::service_fn(connect));
                (Some(route), channel)
            }
        };
        Ok(Self {
            address: address.clone(),
            route,
            channel,
            signing,
        })
    }

    /// Whether a new connection succeeds.
    pub async fn is_reachable(&self) -> bool {
        let connecting = async {
            match (&self.route, &self.address) {
                (Some(route), _) => route.clone().connect().await.is_ok(),
                (None, Address::Unix(path)) => UnixStream::connect(path).await.is_ok(),
                (None, _) => false,
            }
        };
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
        connected.unwrap_or(false)
    }

    pub(crate) async fn open(
        &self,
        form: Form,
        requests: ReceiverStream<Bytes>,
        message_bytes: usize,
    ) -> Result<Response<Streaming<Bytes>>, Status> {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone())
            .max_decoding_message_size(message_bytes)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        grpc.ready()
            .await
            .map_err(|error| Status::unavailable(format!("the control plane: {error}")))?;
        let path = path(form);
        let mut request = Request::new(requests);
        if let Some(signing) = &self.signing {
            *request.metadata_mut() = signing.sign(&self.address, path).await?;
        }
        let path = PathAndQuery::from_static(path);
        let opened = grpc.streaming(request, path, Raw).await;
        // The cached credentials may have been revoked before their expiry: fetch new ones.
        if let (Err(status), Some(signing)) = (&opened, &self.signing)
            && matches!(
                status.code(),
                Code::Unauthenticated | Code::PermissionDenied
            )
        {
            signing.credentials.invalidate().await;
        }
        opened
    }
}

/// Trusts `ca` (PEM), or else the system's roots.
fn tls(ca: Option<&str>) -> ClientTlsConfig {
    let tls = ClientTlsConfig::new();
    match ca {
        Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
        None => tls.with_native_roots(),
    }
}

async fn connect(path: PathBuf) -> std::io::Result<TokioIo<UnixStream>> {
    UnixStream::connect(path).await.map(TokioIo::new)
}

// === impl Signing ===

impl Signing {
    /// Metadata for a stream of the method `path`. The signature does not cover its messages.
    async fn sign(&self, address: &Address, path: &str) -> Result<MetadataMap, Status> {
        let now = self.clock.both();
        let credentials = self.credentials.get(now).await;
        let credentials = credentials.map_err(|error| Status::unavailable(error.to_string()))?;
        let url = format!("{}{path}", address.base());
        let headers = self.signer.sign(&url, b"", &credentials, now.wall.into());
        let headers = headers.map_err(|error| Status::internal(error.to_string()))?;
        Ok(MetadataMap::from_headers(headers))
    }
}

impl std::fmt::Debug for Signing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signing")
            .field("signer", &self.signer)
            .finish_non_exhaustive()
    }
}
