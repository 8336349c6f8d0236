//! The origin of the configuration.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use mesh_core::discovery::Form;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

use crate::MESSAGE_BYTES_MAX;
use crate::codec::Raw;

/// Time to connect.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// An idle connection is asked this often whether it is alive.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Where the origin is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Address {
    /// `http://HOST:PORT`
    Plain(Uri),
    /// `unix:///PATH`
    Unix(PathBuf),
}

/// An address that is none.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{0:?} is not http://HOST:PORT or unix:///PATH")]
pub struct AddressError(String);

/// The way to the origin; connections are made as they are needed.
#[derive(Clone, Debug)]
pub struct Upstream {
    channel: Channel,
}

// === impl Address ===

impl std::str::FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError(text.to_owned());
        if let Some(path) = text.strip_prefix("unix://") {
            let path = PathBuf::from(path);
            return if path.is_absolute() {
                Ok(Self::Unix(path))
            } else {
                Err(wrong())
            };
        }
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let plain = uri.scheme_str() == Some("http") && uri.port().is_some();
        if plain {
            Ok(Self::Plain(uri))
        } else {
            Err(wrong())
        }
    }
}

// === impl Upstream ===

impl Upstream {
    /// The origin at `address`.
    pub fn new(address: &Address) -> Self {
        let of = |uri: Uri| {
            Endpoint::from(uri)
                .connect_timeout(CONNECT_WITHIN)
                .http2_keep_alive_interval(KEEPALIVE)
                .keep_alive_while_idle(true)
        };
        let channel = match address {
            Address::Plain(uri) => of(uri.clone()).connect_lazy(),
            Address::Unix(path) => {
                let path = path.clone();
                let connect = move |_| {
                    let path = path.clone();
                    async move { UnixStream::connect(path).await.map(TokioIo::new) }
                };
                let any = Uri::from_static("http://origin");
                of(any).connect_with_connector_lazy(Connect(connect))
            }
        };
        Self { channel }
    }

    /// A stream of discovery.
    pub(crate) async fn open(
        &self,
        form: Form,
        requests: ReceiverStream<Bytes>,
    ) -> Result<Response<Streaming<Bytes>>, Status> {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        grpc.ready()
            .await
            .map_err(|error| Status::unavailable(format!("the origin: {error}")))?;
        let path = PathAndQuery::from_static(crate::server::path(form));
        grpc.streaming(Request::new(requests), path, Raw).await
    }
}

/// A function that connects, as a service.
#[derive(Clone)]
struct Connect<F>(F);

impl<F, R> tower_service::Service<Uri> for Connect<F>
where
    F: FnMut(Uri) -> R,
    R: Future<Output = std::io::Result<TokioIo<UnixStream>>>,
{
    type Response = TokioIo<UnixStream>;
    type Error = std::io::Error;
    type Future = R;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> R {
        (self.0)(uri)
    }
}
