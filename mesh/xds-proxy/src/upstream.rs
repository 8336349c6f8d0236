//! The control plane of the configuration.

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

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// An idle connection is asked this often whether it is alive.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// The way to the control plane; connections are made as they are needed.
#[derive(Debug)]
pub struct Upstream {
    address: Address,
    /// How to get there; `None` for a Unix socket.
    route: Option<Route>,
    channel: Channel,
    signing: Option<Signing>,
}

/// Signature Version 4 of each stream.
pub struct Signing {
    /// For which region and service.
    pub signer: Signer,
    pub credentials: Arc<CredentialCache>,
    pub clock: Clock,
}

/// A control plane that cannot be spoken to as asked.
#[derive(Debug, Error)]
pub enum UpstreamError {
    #[error("TLS towards the control plane: {0}")]
    Tls(#[source] Box<tonic::transport::Error>),
    /// A signature alone proves nothing, and everybody could read it.
    #[error("a signature needs https towards the control plane")]
    SignedPlain,
    /// The proxy of the environment.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
}

// === impl Upstream ===

impl Upstream {
    /// The control plane at `address`. With https its certificate has to be of `ca` (PEM), or else
    /// of the system's. Connections go through the proxies of the environment.
    pub fn new(
        address: &Address,
        ca: Option<&str>,
        signing: Option<Signing>,
    ) -> Result<Self, UpstreamError> {
        if signing.is_some() && !matches!(address, Address::Tls(_)) {
            return Err(UpstreamError::SignedPlain);
        }
        let of = |uri: Uri| {
            Endpoint::from(uri)
                .connect_timeout(CONNECT_WITHIN)
                .http2_keep_alive_interval(KEEPALIVE)
                .keep_alive_while_idle(true)
        };
        let (route, channel) = match address {
            Address::Unix(path) => {
                let path = path.clone();
                let connect = move |_| connect(path.clone());
                let any = Uri::from_static("http://control-plane");
                let endpoint = of(any);
                (
                    None,
                    endpoint.connect_with_connector_lazy(tower::service_fn(connect)),
                )
            }
            Address::Plain(uri) | Address::Tls(uri) => {
                let route = Route::new(uri.clone(), &Matcher::from_env())?;
                let mut endpoint = of(uri.clone());
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

    /// Whether something listens there, asked on a connection of its own.
    pub async fn is_reachable(&self) -> bool {
        let connecting = async {
            match (&self.route, &self.address) {
                (Some(route), _) => route.clone().connect().await.is_ok(),
                (None, Address::Unix(path)) => UnixStream::connect(path).await.is_ok(),
                (None, _) => false,
            }
        };
        let connected = tokio::time::timeout(CONNECT_WITHIN, connecting).await;
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
        let answer = grpc.streaming(request, path, Raw).await;
        if let (Err(status), Some(signing)) = (&answer, &self.signing)
            && matches!(
                status.code(),
                Code::Unauthenticated | Code::PermissionDenied
            )
        {
            signing.credentials.refuse().await;
        }
        answer
    }
}

/// Trusts `ca` (PEM), or else the system's.
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
    /// What goes with a stream of the method `path`; a signature says nothing of the messages on
    /// it.
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
