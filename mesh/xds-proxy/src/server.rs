//! The gRPC server of aggregated discovery, which relays each stream to the control plane.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use mesh_core::discovery::Form;
use mesh_core::injection::Injection;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::codec::{Raw, path};
use crate::events::{Event, EventSender};
use crate::metrics::Metrics;
use crate::modules::Modules;
use crate::session::{Rejected, Rejections, Session};
use crate::upstream::Upstream;
use crate::{Limits, REQUEST_BYTES_MAX};

/// Messages queued per direction at most; with more, the sender is not read (backpressure). One,
/// because a message may have the full size that the memory limit allows.
const QUEUED_MAX: usize = 1;

#[derive(Clone, Debug)]
pub struct XdsProxy {
    context: Arc<ProxyContext>,
}

#[derive(Debug)]
pub struct Dependencies {
    pub upstream: Arc<Upstream>,
    pub injection: Arc<Injection>,
    /// Files that the injected configuration refers to.
    pub modules: Arc<Modules>,
    pub metrics: Metrics,
    pub events: EventSender,
    pub clock: fn() -> Instant,
    pub limits: Limits,
    /// Ends all streams. Envoy keeps its configuration.
    pub stop: CancellationToken,
}

#[derive(Debug)]
struct ProxyContext {
    dependencies: Dependencies,
    rejections: Arc<Rejections>,
}

/// A response on its way to Envoy.
struct Outgoing {
    response: Result<Bytes, Status>,
    /// Arrival of Envoy's NACK if this is the original sent in reply.
    rejected_at: Option<Instant>,
}

type Responses = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

// === impl XdsProxy ===

impl XdsProxy {
    pub fn new(dependencies: Dependencies) -> Self {
        let context = ProxyContext {
            dependencies,
            rejections: Arc::default(),
        };
        Self {
            context: Arc::new(context),
        }
    }
}

impl NamedService for XdsProxy {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl tower_service::Service<http::Request<Body>> for XdsProxy {
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
        let context = Arc::clone(&self.context);
        Box::pin(async move {
            let Some(form) = form else {
                return Ok(Status::unimplemented("only aggregated discovery is served").into_http());
            };
            let mut grpc = Grpc::new(Raw)
                .max_decoding_message_size(REQUEST_BYTES_MAX)
                .max_encoding_message_size(usize::MAX);
            Ok(grpc.streaming(Discovery { context, form }, request).await)
        })
    }
}

struct Discovery {
    context: Arc<ProxyContext>,
    form: Form,
}

impl StreamingService<Bytes> for Discovery {
    type Response = Bytes;
    type ResponseStream = Responses;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Responses>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let (context, form) = (Arc::clone(&self.context), self.form);
        Box::pin(async move {
            let (to_envoy, responses) = mpsc::channel(QUEUED_MAX);
            let (clock, restore) = (
                context.dependencies.clock,
                context.dependencies.metrics.restore.clone(),
            );
            tokio::spawn(run(context, form, request.into_inner(), to_envoy));
            // Measured as the connection takes the response, not as it is queued.
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
type Opening<'a> =
    Pin<Box<dyn Future<Output = Result<Response<Streaming<Bytes>>, Status>> + Send + 'a>>;

/// The control plane's side of a stream.
enum FromControlPlane<'a> {
    /// A control plane may send the response headers only with its first response, and that only
    /// once something changes.
    Opening(Opening<'a>),
    Open(Box<Streaming<Bytes>>),
}

/// Why a stream ended.
enum Ended {
    ByEnvoy,
    /// Not an error: some control planes close streams regularly to rebalance them.
    ByControlPlane,
    Failed(Status),
}

// === impl FromControlPlane ===

impl FromControlPlane<'_> {
    /// The next response. Cancel-safe.
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            match self {
                Self::Opening(opening) => {
                    *self = Self::Open(Box::new(opening.await?.into_inner()));
                }
                Self::Open(stream) => return stream.message().await,
            }
        }
    }
}

/// Relays one stream until either side ends it.
async fn run(context: Arc<ProxyContext>, form: Form, envoy: Streaming<Bytes>, to_envoy: ToEnvoy) {
    let metrics = &context.dependencies.metrics;
    metrics.streams.inc();
    let stop = context.dependencies.stop.clone();
    let ended = tokio::select! {
        () = stop.cancelled() => None,
        ended = relay(&context, form, envoy, &to_envoy) => Some(ended),
    };
    metrics.streams.dec();
    let status = match ended {
        Some(Ended::ByEnvoy) => return,
        Some(Ended::ByControlPlane) => {
            tracing::info!("control plane closed the discovery stream");
            Status::unavailable("control plane closed the stream")
        }
        Some(Ended::Failed(status)) => {
            metrics.upstream_failures.inc();
            let status = too_large(status, context.dependencies.limits.message_bytes);
            tracing::warn!(code = ?status.code(), reason = status.message(), "discovery stream failed");
            status
        }
        None => Status::unavailable("xDS proxy stopped"),
    };
    // Envoy reconnects after an error, and keeps its configuration meanwhile.
    let _ = to_envoy.send(Outgoing::new(Err(status))).await;
}

/// Tells an operator how to mend a response over the size limit, which tonic reports as
/// `OutOfRange`.
fn too_large(status: Status, most: usize) -> Status {
    if status.code() != Code::OutOfRange {
        return status;
    }
    Status::resource_exhausted(format!(
        "the control plane's response is too large: {}; a response may have {most} bytes within --memory-limit: raise the \
         memory limit of the container",
        status.message()
    ))
}

async fn relay(
    context: &ProxyContext,
    form: Form,
    mut envoy: Streaming<Bytes>,
    to_envoy: &ToEnvoy,
) -> Ended {
    let (injection, rejections) = (&context.dependencies.injection, &context.rejections);
    let limits = context.dependencies.limits;
    let mut session = Session::new(form, Arc::clone(injection), Arc::clone(rejections), limits);
    let (to_control_plane, requests) = mpsc::channel(QUEUED_MAX);
    let requests = ReceiverStream::new(requests);
    let opening = Box::pin(context.dependencies.upstream.open(
        form,
        requests,
        limits.message_bytes,
    ));
    // Not awaited here: Envoy's first request has to be relayed before the control plane may
    // accept the stream.
    let mut control_plane = FromControlPlane::Opening(opening);
    loop {
        tokio::select! {
            request = next_request(&mut envoy, &to_control_plane) => {
                let Some((permit, request)) = request else { return Ended::ByEnvoy };
                let received_at = (context.dependencies.clock)();
                let outcome = session.request(request);
                if let Some(response) = outcome.to_envoy {
                    let restored = Outgoing { response: Ok(response), rejected_at: Some(received_at) };
                    if to_envoy.send(restored).await.is_err() {
                        return Ended::ByEnvoy;
                    }
                }
                if let Some(request) = outcome.to_control_plane {
                    permit.send(request);
                }
                if let Some(rejected) = outcome.rejected {
                    report_rejection(&context.dependencies, rejected);
                }
            }
            response = next_response(&mut control_plane, to_envoy) => {
                let (permit, response) = match response {
                    Some((permit, Ok(Some(response)))) => (permit, response),
                    Some((_, Ok(None))) => return Ended::ByControlPlane,
                    Some((_, Err(status))) => return Ended::Failed(status),
                    None => return Ended::ByEnvoy,
                };
                let response = inject(&context.dependencies, &mut session, response);
                permit.send(Outgoing::new(Ok(response)));
            }
        }
    }
}

/// The next response of the control plane, received only once it fits into Envoy's queue, since it
/// may be large. `None` if Envoy has disconnected. Cancel-safe.
async fn next_response<'a>(
    control_plane: &mut FromControlPlane<'_>,
    to_envoy: &'a ToEnvoy,
) -> Option<(mpsc::Permit<'a, Outgoing>, Result<Option<Bytes>, Status>)> {
    let permit = to_envoy.reserve().await.ok()?;
    Some((permit, control_plane.next().await))
}

/// The next request of Envoy, received only once it fits into the control plane's queue; `None` if
/// Envoy ended the stream. Cancel-safe.
async fn next_request<'a>(
    envoy: &mut Streaming<Bytes>,
    to_control_plane: &'a mpsc::Sender<Bytes>,
) -> Option<(mpsc::Permit<'a, Bytes>, Bytes)> {
    let Ok(permit) = to_control_plane.reserve().await else {
        // The control plane ended the stream: `next_response` returns the reason.
        return std::future::pending().await;
    };
    let request = envoy.message().await.ok()??;
    Some((permit, request))
}

fn report_rejection(dependencies: &Dependencies, rejected: Rejected) {
    let Rejected { type_url, reason } = rejected;
    dependencies.metrics.rejected.inc();
    tracing::error!(
        type_url,
        reason,
        "Envoy rejected the change; it gets the original"
    );
    dependencies
        .events
        .send(Event::Rejected { type_url, reason });
}

fn inject(dependencies: &Dependencies, session: &mut Session, response: Bytes) -> Bytes {
    let metrics = &dependencies.metrics;
    metrics.responses.inc();
    let usable = dependencies.modules.check();
    if let Err(reason) = &usable {
        metrics.without_module.inc();
        tracing::warn!(reason, "module unusable; configuration passes unchanged");
        dependencies.events.send(Event::NoModule {
            reason: reason.clone(),
        });
    }
    let passed = session.response(response, usable.is_ok());
    metrics.changed.inc_by(passed.changed as u64);
    metrics.malformed.inc_by(passed.malformed as u64);
    metrics.given_up.inc_by(u64::from(passed.given_up));
    if let Some(type_url) = passed.unread {
        metrics.unread.inc();
        let bytes = passed.response.len();
        let max_bytes = dependencies.limits.changed_bytes;
        tracing::warn!(
            type_url,
            bytes,
            most = max_bytes,
            "response too large to change within --memory-limit; passed unchanged, its requests are not counted"
        );
        dependencies.events.send(Event::TooLarge {
            type_url,
            bytes,
            max_bytes,
        });
    }
    passed.response
}
