//! The gRPC server: one listener, one task per stream.
//!
//! HTTP/2 is set up for many connections with one small stream each:
//! - a ping every [`PING_EVERY`], also when idle, so that a lost peer is noticed within 35 s;
//! - windows of [`WINDOW`] bytes: a report is a few hundred bytes, and a peer that floods must not
//!   make us buffer more than this before a message has memory reserved ([`Messages`]);
//! - no delay of small segments (Nagle), since each response is one small segment.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use aggregator_core::store::Store;
use aggregator_directory::Directory;
use bytes::Bytes;
use common_budget::messages::{BodyError, BoxError};
use common_budget::{Bounds, Messages, Room, Size};
use common_http::{Deadlines, Http2, Peer, Protocol, RequestBody, Security, Settings};
use common_time::Clock;
use futures_util::FutureExt as _;
use prometheus_client::registry::Registry;
use proto::v1::ingest_server::{Ingest, IngestServer};
use proto::v1::{AggregatorFrame, SidecarFrame};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::server::ClientStreamingService;
use tonic::{Request, Response, Status, Streaming};
use tower_service::Service as _;
use tracing::{Instrument as _, info, info_span};

use crate::admission::Admission;
use crate::admission::line::LineLimits;
use crate::authenticator::Authenticator;
use crate::context::IngestContext;
use crate::identity::Identity;
use crate::limits::{
    CLOSE_WITHIN, DRAIN_MAX, FREE_BYTES, HEADER_BYTES_MAX, Limits, PEER_PART, RESPONSES_MAX,
    STREAMS_PER_CONNECTION_MAX,
};
use crate::log_limiter::LogLimiter;
use crate::metrics::Metrics;
use crate::native_sink;
use crate::pulse::{AskedInterval, Pulse};
use crate::session::Session;
use crate::sink_states::SinkStates;
use crate::streams::{PlainStreams, Streams};

/// Interval of HTTP/2 pings.
const PING_EVERY: Duration = Duration::from_secs(30);

/// How long the response to a ping may take.
const PONG_WITHIN: Duration = Duration::from_secs(5);

/// How long a new connection may be without a stream. Envoy connects when it has a stream to open.
const FIRST_STREAM_WITHIN: Duration = Duration::from_secs(10);

/// How long a connection may be without a stream after that: the filter reconnects sooner.
const WITHOUT_STREAM_MAX: Duration = Duration::from_mins(5);

/// Flow-control window of a connection and of a stream, in bytes: HTTP/2's smallest for a
/// connection.
const WINDOW: u32 = 64 * 1024 - 1;

/// Serves streams of sidecars until shutdown.
#[expect(missing_debug_implementations, reason = "a clock is a function")]
pub struct Server {
    context: Arc<IngestContext>,
    security: Security,
    tasks: TaskTracker,
}

/// Starts a session for each call.
struct Service {
    context: Arc<IngestContext>,
    tasks: TaskTracker,
}

/// Dispatches calls by path to the ingest or to the native sink.
#[derive(Clone)]
struct Methods {
    context: Arc<IngestContext>,
    ingest: IngestServer<Service>,
    frames_room: Arc<Room>,
    messages_room: Arc<Room>,
}

/// The method of Envoy's metrics service.
struct StreamMetrics(Arc<IngestContext>);

// === impl Server ===

impl Server {
    /// A server that applies reports to `store`. With `learn_pods_from_hello`, pods are added from
    /// `Hello` to `directory`. `identity` authenticates sidecars; with [`Security::Either`] those
    /// with TLS, and others by their address.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is another part of the program"
    )]
    pub fn new(
        store: Arc<Store>,
        directory: Arc<Directory>,
        clock: Clock,
        limits: Limits,
        registry: &mut Registry,
        learn_pods_from_hello: bool,
        identity: Identity,
        security: Security,
        shutdown: CancellationToken,
    ) -> Self {
        if let Identity::Token(tokens) = &identity {
            tokens.register(registry);
        }
        let line = LineLimits {
            at_once: limits.at_once,
            waiting: limits.waiting,
        };
        let context = IngestContext {
            store,
            directory,
            clock,
            limits,
            metrics: Metrics::register(registry),
            learn_pods: learn_pods_from_hello,
            admission: Arc::new(Admission::new(line)),
            asked: Arc::new(AskedInterval::default()),
            authenticator: Authenticator::new(identity, &security),
            streams: Arc::new(Streams::new(&limits)),
            log_limiter: LogLimiter::default(),
            sink_states: SinkStates::default(),
            shutdown,
        };
        Self {
            context: Arc::new(context),
            security,
            tasks: TaskTracker::new(),
        }
    }

    /// Pods with streams without TLS.
    pub fn plain_streams(&self) -> PlainStreams {
        PlainStreams::new(&self.context.streams)
    }

    /// Measures how late this replica is. Whoever runs the server calls it at its pace.
    pub fn pulse(&self) -> Pulse {
        let (store, asked) = (
            Arc::clone(&self.context.store),
            Arc::clone(&self.context.asked),
        );
        Pulse::new(store, asked, self.context.metrics.clone())
    }

    /// Serves until `shutdown`, then closes every stream with UNAVAILABLE once its received frames
    /// are in the store. Connections are counted in `connections`.
    pub async fn serve(self, listener: TcpListener, connections: &common_http::Metrics) {
        let Self {
            context,
            security,
            tasks,
        } = self;
        let shutdown = context.shutdown.clone();
        let limits = context.limits;
        let (store, clock) = (Arc::clone(&context.store), context.clock.clone());
        let server = common_http::Server::new(settings(&limits), connections)
            .with_security(security)
            .with_handshakes(move |peer, done| {
                if done {
                    store.handshake_succeeded(peer);
                } else {
                    store.handshake_failed(clock.now(), peer);
                }
            });
        let methods = Methods {
            context: Arc::clone(&context),
            ingest: IngestServer::new(Service {
                context,
                tasks: tasks.clone(),
            })
            .max_decoding_message_size(limits.frame_bytes),
            frames_room: room(limits.frames_room, limits.frame_bytes),
            messages_room: room(limits.messages_room, limits.message_bytes),
        };
        let handler = move |_: &Arc<Peer>| {
            let methods = methods.clone();
            move |request: http::Request<RequestBody>| {
                let response = methods.clone().call(request.map(Body::new));
                response.map(|response| response.unwrap_or_else(|never| match never {}))
            }
        };
        let drained = tasks.clone();
        let stopping = shutdown.clone();
        let serving = server.serve(listener, shutdown, DRAIN_MAX + CLOSE_WITHIN, handler);
        tokio::join!(serving, async move {
            stopping.cancelled().await;
            info!(streams.count = drained.len(), "draining ingest streams");
        });
        tasks.close();
        tasks.wait().await;
    }
}

fn settings(limits: &Limits) -> Settings {
    Settings {
        listener: "ingest",
        protocol: Protocol::Http2,
        // A sidecar's connection always has a stream, so a reserve would only raise the limit.
        limits: common_http::Limits {
            reserve: 0,
            ..common_http::Limits::of(limits.connections)
        },
        deadlines: Deadlines {
            first_request: FIRST_STREAM_WITHIN,
            idle: WITHOUT_STREAM_MAX,
            body: None,
            answer: None,
            ..Deadlines::default()
        },
        head_bytes_max: HEADER_BYTES_MAX,
        headers_max: 0,
        http2: Http2 {
            streams_max: STREAMS_PER_CONNECTION_MAX,
            window: WINDOW,
            ping_every: PING_EVERY,
            pong_within: PONG_WITHIN,
        },
    }
}

// === impl Service ===

#[tonic::async_trait]
impl Ingest for Service {
    type ReportStream = ReceiverStream<Result<AggregatorFrame, Status>>;

    async fn report(
        &self,
        request: Request<Streaming<SidecarFrame>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        let peer = request.extensions().get::<Arc<Peer>>();
        let peer = peer.and_then(|peer| peer.address);
        let context = &self.context;
        let refused = |refusal| context.refuse("stream refused", peer, &refusal);
        let begun = context.clock.now();
        let place = context.admit(request.extensions()).await;
        let place = place.map_err(refused)?;
        // The slot first: a call that waits for a token review counts against the limit, too.
        let opened = context.open(request.extensions());
        let (slot, mut closed) = opened.map_err(refused)?;
        let claim = context.claim(request.metadata(), request.extensions(), &mut closed);
        let claim = claim.await.map_err(refused)?;
        let span = info_span!(
            parent: None,
            "stream",
            stream.id = slot.id.0,
            peer = peer.map(tracing::field::display),
            pod = tracing::field::Empty
        );
        let waited = context.clock.now().since(begun);
        let (responses, outbound) = mpsc::channel(RESPONSES_MAX);
        let session = Session::new(
            Arc::clone(&self.context),
            (place, waited),
            slot,
            claim,
            peer,
            responses,
        );
        self.tasks
            .spawn(session.run(request.into_inner(), closed).instrument(span));
        Ok(Response::new(ReceiverStream::new(outbound)))
    }
}

// === impl Methods ===

impl tower_service::Service<http::Request<Body>> for Methods {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        tower_service::Service::<http::Request<Body>>::poll_ready(&mut self.ingest, context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let is_native = request.uri().path() == native_sink::PATH;
        let request = self.bounded(request, is_native);
        if !is_native {
            return self.ingest.call(request);
        }
        let method = StreamMetrics(Arc::clone(&self.context));
        let message_bytes = self.context.limits.message_bytes;
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(native_sink::Codec)
                .max_decoding_message_size(message_bytes);
            Ok(grpc.client_streaming(method, request).await)
        })
    }
}

impl Methods {
    /// Limits memory and duration of the call's messages.
    fn bounded(&self, request: http::Request<Body>, is_native: bool) -> http::Request<Body> {
        let limits = &self.context.limits;
        let (room, most) = if is_native {
            (&self.messages_room, limits.message_bytes)
        } else {
            (&self.frames_room, limits.frame_bytes)
        };
        let bounds = Bounds {
            room: Arc::clone(room),
            sender: self.context.authenticator.sender(request.extensions()),
            free: FREE_BYTES,
            most,
            within: limits.message_within,
            refuse,
        };
        request.map(|body| Body::new(Messages::new(body, bounds)))
    }
}

fn room(size: Size, message_bytes: usize) -> Arc<Room> {
    let message = Size::bytes(message_bytes as u64);
    let per_peer = size.part(1, PEER_PART).max(message);
    Arc::new(Room::new(size.max(message), per_peer))
}

/// As [`crate::close_reason::close_reason_of`] expects it.
fn refuse(refused: BodyError) -> BoxError {
    let text = refused.to_string();
    Box::new(match refused {
        BodyError::Full { .. } => Status::resource_exhausted(text),
        BodyError::Slow { .. } => Status::deadline_exceeded(text),
    })
}

// === impl StreamMetrics ===

impl ClientStreamingService<Bytes> for StreamMetrics {
    type Response = native_sink::StreamMetricsResponse;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Self::Response>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        Box::pin(native_sink::serve(Arc::clone(&self.0), request))
    }
}
