//! Aggregated discovery towards Envoy.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mesh_core::discovery::Form;
use mesh_core::insertion::Insertion;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};

use crate::MESSAGE_BYTES_MAX;
use crate::codec::Raw;
use crate::metrics::Metrics;
use crate::modules::Modules;
use crate::notices::{Notice, Notices};
use crate::session::{Rejections, Request as Outcome, Session};
use crate::upstream::Upstream;

/// Messages that wait for the other side at most; then the one side is not read any more.
const WAITING_MAX: usize = 16;

/// Time for the origin to take a stream.
const OPEN_WITHIN: Duration = Duration::from_secs(10);

/// The service.
#[derive(Clone, Debug)]
pub struct Interposer {
    shared: Arc<Shared>,
}

/// What it is made of.
#[derive(Debug)]
pub struct Parts {
    /// The way to the origin.
    pub upstream: Arc<Upstream>,
    /// What goes in.
    pub insertion: Arc<Insertion>,
    /// The files that have to be there for it.
    pub modules: Arc<Modules>,
    /// What is counted.
    pub metrics: Metrics,
    /// Who hears of what went wrong.
    pub notices: Notices,
    /// The monotonic clock.
    pub clock: fn() -> Instant,
    /// Ends all streams; Envoy keeps its configuration.
    pub stop: CancellationToken,
}

#[derive(Debug)]
struct Shared {
    parts: Parts,
    rejections: Arc<Rejections>,
}

/// A response on its way to Envoy.
struct Outgoing {
    response: Result<Bytes, Status>,
    /// When Envoy's rejection came in, if it is the original after one.
    rejected_at: Option<Instant>,
}

type Responses = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// The path of a method.
pub(crate) fn path(form: Form) -> &'static str {
    match form {
        Form::StateOfTheWorld => {
            "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
        }
        Form::Delta => {
            "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
        }
    }
}

// === impl Interposer ===

impl Interposer {
    /// The service of these parts.
    pub fn new(parts: Parts) -> Self {
        let shared = Shared {
            parts,
            rejections: Arc::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }
}

impl NamedService for Interposer {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl tower_service::Service<http::Request<Body>> for Interposer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let forms = [Form::StateOfTheWorld, Form::Delta];
        let form = forms
            .into_iter()
            .find(|form| path(*form) == request.uri().path());
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let Some(form) = form else {
                return Ok(Status::unimplemented("only aggregated discovery is served").into_http());
            };
            let mut grpc = Grpc::new(Raw)
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX);
            Ok(grpc.streaming(Discovery { shared, form }, request).await)
        })
    }
}

/// One call.
struct Discovery {
    shared: Arc<Shared>,
    form: Form,
}

impl StreamingService<Bytes> for Discovery {
    type Response = Bytes;
    type ResponseStream = Responses;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Responses>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let (shared, form) = (Arc::clone(&self.shared), self.form);
        Box::pin(async move {
            let (to_envoy, responses) = mpsc::channel(WAITING_MAX);
            let (clock, restore) = (shared.parts.clock, shared.parts.metrics.restore.clone());
            tokio::spawn(run(shared, form, request.into_inner(), to_envoy));
            // The connection takes it: from here on it is on its way.
            let responses = ReceiverStream::new(responses).map(move |outgoing: Outgoing| {
                if let Some(rejected_at) = outgoing.rejected_at {
                    let took = clock().saturating_duration_since(rejected_at);
                    restore.observe(took.as_secs_f64());
                }
                outgoing.response
            });
            let responses: Responses = Box::pin(responses);
            Ok(Response::new(responses))
        })
    }
}

// === impl Outgoing ===

impl Outgoing {
    fn new(response: Result<Bytes, Status>) -> Self {
        Self {
            response,
            rejected_at: None,
        }
    }
}

type ToEnvoy = mpsc::Sender<Outgoing>;

/// One stream, until either side ends it.
async fn run(shared: Arc<Shared>, form: Form, envoy: Streaming<Bytes>, to_envoy: ToEnvoy) {
    let metrics = &shared.parts.metrics;
    metrics.streams.inc();
    let stop = shared.parts.stop.clone();
    let ended = tokio::select! {
        () = stop.cancelled() => Err(Status::unavailable("the interposer ends")),
        ended = relay(&shared, form, envoy, &to_envoy) => ended,
    };
    metrics.streams.dec();
    if let Err(status) = ended {
        metrics.upstream_failures.inc();
        tracing::warn!(code = ?status.code(), reason = status.message(), "stream of discovery ended");
        // Envoy connects again, and keeps what it has.
        let _ = to_envoy.send(Outgoing::new(Err(status))).await;
    }
}

async fn relay(
    shared: &Shared,
    form: Form,
    mut envoy: Streaming<Bytes>,
    to_envoy: &ToEnvoy,
) -> Result<(), Status> {
    let (insertion, rejections) = (&shared.parts.insertion, &shared.rejections);
    let mut session = Session::new(form, Arc::clone(insertion), Arc::clone(rejections));
    let (to_origin, requests) = mpsc::channel(WAITING_MAX);
    // An origin may wait for the first request before it answers at all.
    let Some(first) = envoy.message().await? else {
        return Ok(());
    };
    if let Outcome::Forward(first) = session.request(first) {
        let _ = to_origin.send(first).await;
    }
    let opening = shared
        .parts
        .upstream
        .open(form, ReceiverStream::new(requests));
    let opened = tokio::time::timeout(OPEN_WITHIN, opening).await;
    let late = |_| Status::unavailable("the origin does not answer");
    let mut origin = opened.map_err(late)??.into_inner();
    loop {
        tokio::select! {
            request = envoy.message() => {
                let Some(request) = request? else { return Ok(()) };
                let came_at = (shared.parts.clock)();
                match session.request(request) {
                    Outcome::Forward(request) => {
                        if to_origin.send(request).await.is_err() {
                            return Err(Status::unavailable("the origin ended the stream"));
                        }
                    }
                    Outcome::Restore { response, type_url, reason } => {
                        let restored = Outgoing { response: Ok(response), rejected_at: Some(came_at) };
                        if to_envoy.send(restored).await.is_err() {
                            return Ok(());
                        }
                        shared.parts.metrics.rejected.inc();
                        tracing::error!(type_url, reason, "Envoy rejected the change; it gets the original");
                        shared.parts.notices.tell(Notice::Rejected { type_url, reason });
                    }
                }
            }
            response = origin.message() => {
                let Some(response) = response? else {
                    return Err(Status::unavailable("the origin ended the stream"));
                };
                let passed = Outgoing::new(Ok(pass(&shared.parts, &mut session, response)));
                if to_envoy.send(passed).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

fn pass(parts: &Parts, session: &mut Session, response: Bytes) -> Bytes {
    let metrics = &parts.metrics;
    metrics.responses.inc();
    let there = parts.modules.check();
    if let Err(reason) = &there {
        metrics.without_module.inc();
        tracing::warn!(
            reason,
            "the module cannot be used; configuration passes as it is"
        );
        parts.notices.tell(Notice::NoModule {
            reason: reason.clone(),
        });
    }
    let passed = session.response(response, there.is_ok());
    metrics.changed.inc_by(passed.changed as u64);
    metrics.malformed.inc_by(passed.malformed as u64);
    metrics.given_up.inc_by(u64::from(passed.given_up));
    passed.response
}
