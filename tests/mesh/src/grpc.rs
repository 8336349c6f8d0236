//! Both ends of aggregated discovery, with messages as bytes: a control plane that answers as a
//! test says, and an Envoy.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use envoy_types::pb::google::protobuf::Any;
use http::HeaderMap;
use http::uri::PathAndQuery;
use mesh_core::discovery::Form;
use mesh_core::wire::Message;
use mesh_xds_proxy::codec::Raw;
use parking_lot::Mutex;
use prost::Message as _;
use tests_support::kubernetes::Identity;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::{BroadcastStream, ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::transport::{Endpoint, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

pub const STREAM: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";

const BYTES_MAX: usize = 128 * 1024 * 1024;
const WAITING_MAX: usize = 16;

/// A control plane's response to a request.
pub type Answer = Arc<dyn Fn(&Bytes) -> Vec<Bytes> + Send + Sync>;

/// A control plane; ends when dropped.
#[derive(Debug)]
pub struct ControlPlane {
    pub address: SocketAddr,
    seen: Arc<Seen>,
    pushes: broadcast::Sender<Bytes>,
    _stop: DropGuard,
}

#[derive(Debug, Default)]
struct Seen {
    streams: Mutex<Vec<(String, HeaderMap)>>,
    requests: Mutex<Vec<Bytes>>,
}

#[derive(Clone)]
struct Discovery {
    answer: Answer,
    seen: Arc<Seen>,
    pushes: broadcast::Sender<Bytes>,
}

type Responses = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;
type ReloadableCert<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

// === impl ControlPlane ===

impl ControlPlane {
    /// Starts one on loopback, with TLS if it has an `identity`.
    pub async fn start(identity: Option<&Identity>, answer: Answer) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let seen = Arc::<Seen>::default();
        let (pushes, _) = broadcast::channel(WAITING_MAX);
        let discovery = Discovery {
            answer,
            seen: Arc::clone(&seen),
            pushes: pushes.clone(),
        };
        let mut server = Server::builder();
        if let Some(identity) = identity {
            let identity =
                tonic::transport::Identity::from_pem(&identity.certificate, &identity.key);
            server = server.tls_config(ServerTlsConfig::new().identity(identity))?;
        }
        let stop = CancellationToken::new();
        let serving = server
            .add_service(discovery)
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(stop.clone().run_until_cancelled_owned(serving));
        Ok(Self {
            address,
            seen,
            pushes,
            _stop: stop.drop_guard(),
        })
    }

    /// Sends a response on each open stream, unasked.
    pub fn push(&self, response: Bytes) {
        // Nobody listens: nobody is to hear it.
        let _ = self.pushes.send(response);
    }

    /// Authority and headers of each stream so far.
    pub fn streams(&self) -> Vec<(String, HeaderMap)> {
        self.seen.streams.lock().clone()
    }

    /// Each request so far, of all streams.
    pub fn requests(&self) -> Vec<Bytes> {
        self.seen.requests.lock().clone()
    }
}

impl NamedService for Discovery {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl tower_service::Service<http::Request<Body>> for Discovery {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = ReloadableCert<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let discovery = self.clone();
        let authority = request.uri().authority().map(ToString::to_string);
        let stream = (authority.unwrap_or_default(), request.headers().clone());
        discovery.seen.streams.lock().push(stream);
        Box::pin(async move {
            let mut grpc = Grpc::new(Raw)
                .max_decoding_message_size(BYTES_MAX)
                .max_encoding_message_size(BYTES_MAX);
            Ok(grpc.streaming(discovery, request).await)
        })
    }
}

impl StreamingService<Bytes> for Discovery {
    type Response = Bytes;
    type ResponseStream = Responses;
    type Future = ReloadableCert<Response<Responses>, Status>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let Self {
            answer,
            seen,
            pushes,
        } = self.clone();
        let pushed = BroadcastStream::new(pushes.subscribe());
        let pushed = pushed.filter_map(|push| Some(Ok::<_, Status>(vec![push.ok()?])));
        let answers = request.into_inner().map(move |request| {
            let request = request?;
            seen.requests.lock().push(request.clone());
            Ok::<_, Status>(answer(&request))
        });
        Box::pin(async move {
            let (sender, mut responses) = mpsc::channel(WAITING_MAX);
            tokio::spawn(async move {
                let answers = answers.merge(pushed);
                tokio::pin!(answers);
                while let Some(Ok(answers)) = answers.next().await {
                    for answer in answers {
                        // The other end has gone.
                        if sender.send(Ok(answer)).await.is_err() {
                            return;
                        }
                    }
                }
            });
            // As go-control-plane does: not a header before there is something to say.
            let first = tokio_stream::iter(responses.recv().await);
            let responses: Responses = Box::pin(first.chain(ReceiverStream::new(responses)));
            Ok(Response::new(responses))
        })
    }
}

/// A stream of discovery as Envoy opens it: what to send to, and what comes.
pub async fn open(address: SocketAddr) -> Result<(mpsc::Sender<Bytes>, Streaming<Bytes>)> {
    let channel = Endpoint::from_shared(format!("http://{address}"))?
        .connect()
        .await?;
    let mut grpc = tonic::client::Grpc::new(channel)
        .max_decoding_message_size(BYTES_MAX)
        .max_encoding_message_size(BYTES_MAX);
    grpc.ready().await?;
    let (requests, stream) = mpsc::channel(WAITING_MAX);
    let request = Request::new(ReceiverStream::new(stream));
    let path = PathAndQuery::from_static(STREAM);
    let answer = grpc.streaming(request, path, Raw).await?;
    Ok((requests, answer.into_inner()))
}

/// The next message of a stream.
pub async fn next(stream: &mut Streaming<Bytes>) -> Result<Bytes> {
    stream.message().await?.context("the stream ended")
}

/// A first request for resources of a type.
pub fn request(type_url: &str) -> DiscoveryRequest {
    DiscoveryRequest {
        type_url: type_url.to_owned(),
        ..DiscoveryRequest::default()
    }
}

/// A response with these resources.
pub fn response(type_url: &str, nonce: &str, resources: &[Vec<u8>]) -> Bytes {
    let resources = resources.iter().map(|value| Any {
        type_url: type_url.to_owned(),
        value: value.clone(),
    });
    let response = DiscoveryResponse {
        version_info: "1".to_owned(),
        type_url: type_url.to_owned(),
        nonce: nonce.to_owned(),
        resources: resources.collect(),
        ..DiscoveryResponse::default()
    };
    response.encode_to_vec().into()
}

/// The same in either form. In delta discovery each resource comes in a response of its own, and
/// none waits for the answer to the one before.
pub fn responses(form: Form, type_url: &str, nonce: &str, resources: &[Vec<u8>]) -> Vec<Bytes> {
    if form == Form::StateOfTheWorld {
        return vec![response(type_url, nonce, resources)];
    }
    let of = |(at, resource): (usize, &Vec<u8>)| {
        let response = DeltaDiscoveryResponse {
            type_url: type_url.to_owned(),
            nonce: format!("{nonce}-{at}"),
            resources: vec![Resource {
                name: name(resource),
                version: nonce.to_owned(),
                resource: Some(Any {
                    type_url: type_url.to_owned(),
                    value: resource.clone(),
                }),
                ..Resource::default()
            }],
            ..DeltaDiscoveryResponse::default()
        };
        response.encode_to_vec().into()
    };
    resources.iter().enumerate().map(of).collect()
}

/// The name of a listener, cluster or route configuration, which is its first field; "" if it has
/// none.
pub fn name(resource: &[u8]) -> String {
    let message = Message::parse(resource);
    let name = message.and_then(|message| Ok(message.text(1)?.to_owned()));
    name.unwrap_or_default()
}
