//! The gRPC server: one listener, every stream in a task of its own.
//!
//! HTTP/2 is set up for many connections with one small stream each:
//! - a ping every [`PING_EVERY`], also when idle, so that a peer that vanished is noticed within 35
//!   s;
//! - windows of [`WINDOW`] bytes: a report is a few hundred bytes, and a peer that floods must not
//!   make us hold more than this before a message of it has room ([`Messages`]);
//! - no delay of small segments, since each answer is one.

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

use crate::context::IngestContext;
use crate::door::Door;
use crate::identity::Identity;
use crate::limits::{
    ANSWERS_MAX, CLOSE_WITHIN, DRAIN_MAX, FREE_BYTES, HEADER_BYTES_MAX, Limits, PEER_PART,
    STREAMS_PER_CONNECTION_MAX,
};
use crate::metrics::Metrics;
use crate::native_sink;
use crate::refusals::Lines;
use crate::session::Session;
use crate::sink_states::SinkStates;
use crate::streams::{PlainStreams, Streams};

/// How often a connection is asked for a sign of life.
const PING_EVERY: Duration = Duration::from_secs(30);

/// How long that sign may take.
const PONG_WITHIN: Duration = Duration::from_secs(5);

/// How long a new connection may be without a stream. Envoy connects when it has one.
const FIRST_STREAM_WITHIN: Duration = Duration::from_secs(10);

/// How long a connection may be without a stream after that: the filter tries again sooner.
const WITHOUT_STREAM_MAX: Duration = Duration::from_mins(5);

/// Bytes of one connection, and of one stream of it, under way to us: the smallest window a
/// connection can have.
const WINDOW: u32 = 64 * 1024 - 1;

/// Takes in streams of sidecars until it is told to stop.
#[expect(missing_debug_implementations, reason = "a clock is a function")]
pub struct Server {
    shared: Arc<IngestContext>,
    security: Security,
    tasks: TaskTracker,
}

/// Opens a session for each call.
struct Service {
    shared: Arc<IngestContext>,
    tasks: TaskTracker,
}

/// Both ways in, by path.
#[derive(Clone)]
struct Methods {
    shared: Arc<IngestContext>,
    ingest: IngestServer<Service>,
    frames_room: Arc<Room>,
    messages_room: Arc<Room>,
}

/// The call of Envoy's metrics service.
struct StreamMetrics(Arc<IngestContext>);

// === impl Server ===

impl Server {
    /// A server that applies what it is told to `store`. With `learn_pods_from_hello`, pods are
    /// taken from `Hello` into `directory`. Its metrics go into `registry`. `identity` is how
    /// sidecars prove who they are; a bearer token should come over TLS only, and certificates can
    /// come no other way. With [`Security::Either`] it is how those by TLS do, and the others do by
    /// their address.
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
        let shared = IngestContext {
            store,
            directory,
            clock,
            limits,
            metrics: Metrics::register(registry),
            learn_pods: learn_pods_from_hello,
            door: Door::new(identity, &security),
            streams: Arc::new(Streams::new(&limits)),
            lines: Lines::default(),
            remembered: SinkStates::default(),
            shutdown,
        };
        Self {
            shared: Arc::new(shared),
            security,
            tasks: TaskTracker::new(),
        }
    }

    /// Which pods stream without TLS.
    pub fn plain_streams(&self) -> PlainStreams {
        PlainStreams::new(&self.shared.streams)
    }

    /// Serves until `shutdown`, then ends every stream with UNAVAILABLE after what it had sent is
    /// in the store. What its connections come to goes into `connections`.
    pub async fn serve(self, listener: TcpListener, connections: &common_http::Metrics) {
        let Self {
            shared,
            security,
            tasks,
        } = self;
        let shutdown = shared.shutdown.clone();
        let limits = shared.limits;
        let (store, clock) = (Arc::clone(&shared.store), shared.clock.clone());
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
            shared: Arc::clone(&shared),
            ingest: IngestServer::new(Service {
                shared,
                tasks: tasks.clone(),
            })
            .max_decoding_message_size(limits.frame_bytes),
            frames_room: room(limits.frames_room, limits.frame_bytes),
            messages_room: room(limits.messages_room, limits.message_bytes),
        };
        let handler = move |_: &Arc<Peer>| {
            let methods = methods.clone();
            move |request: http::Request<RequestBody>| {
                let answer = methods.clone().call(request.map(Body::new));
                answer.map(|answer| answer.unwrap_or_else(|never| match never {}))
            }
        };
        let drained = tasks.clone();
        let told = shutdown.clone();
        let serving = server.serve(listener, shutdown, DRAIN_MAX + CLOSE_WITHIN, handler);
        tokio::join!(serving, async move {
            told.cancelled().await;
            info!(streams.count = drained.len(), "ingest drains");
        });
        tasks.close();
        tasks.wait().await;
    }
}

fn settings(limits: &Limits) -> Settings {
    Settings {
        listener: "ingest",
        protocol: Protocol::Http2,
        // A sidecar's connection has a stream all the time: a reserve for more of them would only
        // be a higher limit.
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
        let shared = &self.shared;
        let refused = |refusal| shared.refuse("stream refused", peer, &refusal);
        // The place first: who waits for a review takes up room too.
        let opened = shared.open(request.extensions());
        let (place, mut ended) = opened.map_err(refused)?;
        let claim = shared.claim(request.metadata(), request.extensions(), &mut ended);
        let claim = claim.await.map_err(refused)?;
        let span = info_span!(
            parent: None,
            "stream",
            stream.id = place.id.0,
            peer = peer.map(tracing::field::display),
            pod = tracing::field::Empty
        );
        let (answers, outbound) = mpsc::channel(ANSWERS_MAX);
        let session = Session::new(Arc::clone(&self.shared), place, claim, answers);
        self.tasks
            .spawn(session.run(request.into_inner(), ended).instrument(span));
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
        let method = StreamMetrics(Arc::clone(&self.shared));
        let message_bytes = self.shared.limits.message_bytes;
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(native_sink::Codec)
                .max_decoding_message_size(message_bytes);
            Ok(grpc.client_streaming(method, request).await)
        })
    }
}

impl Methods {
    /// The call with messages that keep to their bounds.
    fn bounded(&self, request: http::Request<Body>, is_native: bool) -> http::Request<Body> {
        let limits = &self.shared.limits;
        let (room, most) = if is_native {
            (&self.messages_room, limits.message_bytes)
        } else {
            (&self.frames_room, limits.frame_bytes)
        };
        let bounds = Bounds {
            room: Arc::clone(room),
            peer: self.shared.door.address(request.extensions()),
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

/// As [`crate::ending::ending_of`] reads it.
fn refuse(refused: BodyError) -> BoxError {
    let text = refused.to_string();
    Box::new(match refused {
        BodyError::Full { .. } => Status::resource_exhausted(text),
        BodyError::Slow { .. } => Status::deadline_exceeded(text),
    })
}

// === impl StreamMetrics ===

impl ClientStreamingService<Bytes> for StreamMetrics {
    type Response = native_sink::Answer;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Self::Response>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        Box::pin(native_sink::serve(Arc::clone(&self.0), request))
    }
}
