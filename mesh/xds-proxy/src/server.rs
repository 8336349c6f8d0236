//! Aggregated discovery towards Envoy.

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

/// Messages that wait for the other side at most; then the one side is not read any more. Each may
/// be as large as any.
const WAITING_MAX: usize = 1;

#[derive(Clone, Debug)]
pub struct XdsProxy {
    shared: Arc<ProxyContext>,
}

/// What it is made of.
#[derive(Debug)]
pub struct Dependencies {
    /// The way to the control plane.
    pub upstream: Arc<Upstream>,
    pub injection: Arc<Injection>,
    /// The files that have to be there for it.
    pub modules: Arc<Modules>,
    pub metrics: Metrics,
    /// Who hears of what went wrong.
    pub events: EventSender,
    /// The monotonic clock.
    pub clock: fn() -> Instant,
    /// How large messages may be.
    pub limits: Limits,
    /// Ends all streams; Envoy keeps its configuration.
    pub stop: CancellationToken,
}

#[derive(Debug)]
struct ProxyContext {
    parts: Dependencies,
    rejections: Arc<Rejections>,
}

/// A response on its way to Envoy.
struct Outgoing {
    response: Result<Bytes, Status>,
    /// When Envoy's rejection came in, if it is the original after one.
    rejected_at: Option<Instant>,
}

type Responses = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

// === impl XdsProxy ===

impl XdsProxy {
    /// The service of these parts.
    pub fn new(parts: Dependencies) -> Self {
        let shared = ProxyContext {
            parts,
            rejections: Arc::default(),
        };
        Self {
            shared: Arc::new(shared),
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
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let Some(form) = form else {
                return Ok(Status::unimplemented("only aggregated discovery is served").into_http());
            };
            let mut grpc = Grpc::new(Raw)
                .max_decoding_message_size(REQUEST_BYTES_MAX)
                .max_encoding_message_size(usize::MAX);
            Ok(grpc.streaming(Discovery { shared, form }, request).await)
        })
    }
}

struct Discovery {
    shared: Arc<ProxyContext>,
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
type Opening<'a> =
    Pin<Box<dyn Future<Output = Result<Response<Streaming<Bytes>>, Status>> + Send + 'a>>;

/// The control plane's side of a stream.
enum FromControlPlane<'a> {
    /// It may take the stream only with its first response, and have none as long as nothing
    /// changes.
    Opening(Opening<'a>),
    Open(Box<Streaming<Bytes>>),
}

/// Who ended a stream in which way.
enum Ended {
    ByEnvoy,
    /// As some do now and then, to spread their streams anew.
    ByControlPlane,
    Failed(Status),
}

// === impl FromControlPlane ===

impl FromControlPlane<'_> {
    /// The next response. May be given up and asked for again.
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

/// One stream, until either side ends it.
async fn run(shared: Arc<ProxyContext>, form: Form, envoy: Streaming<Bytes>, to_envoy: ToEnvoy) {
    let metrics = &shared.parts.metrics;
    metrics.streams.inc();
    let stop = shared.parts.stop.clone();
    let ended = tokio::select! {
        () = stop.cancelled() => None,
        ended = relay(&shared, form, envoy, &to_envoy) => Some(ended),
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
            let status = too_large(status, shared.parts.limits.message_bytes);
            tracing::warn!(code = ?status.code(), reason = status.message(), "discovery stream failed");
            status
        }
        None => Status::unavailable("xDS proxy stopped"),
    };
    // Envoy connects again, and keeps what it has.
    let _ = to_envoy.send(Outgoing::new(Err(status))).await;
}

/// Says what to do about a message of the control plane that is larger than it may be.
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
    shared: &ProxyContext,
    form: Form,
    mut envoy: Streaming<Bytes>,
    to_envoy: &ToEnvoy,
) -> Ended {
    let (injection, rejections) = (&shared.parts.injection, &shared.rejections);
    let limits = shared.parts.limits;
    let mut session = Session::new(form, Arc::clone(injection), Arc::clone(rejections), limits);
    let (to_control_plane, requests) = mpsc::channel(WAITING_MAX);
    let requests = ReceiverStream::new(requests);
    let opening = Box::pin(
        shared
            .parts
            .upstream
            .open(form, requests, limits.message_bytes),
    );
    let mut control_plane = FromControlPlane::Opening(opening);
    loop {
        tokio::select! {
            request = next_request(&mut envoy, &to_control_plane) => {
                let Some((permit, request)) = request else { return Ended::ByEnvoy };
                let came_at = (shared.parts.clock)();
                let answer = session.request(request);
                if let Some(response) = answer.to_envoy {
                    let restored = Outgoing { response: Ok(response), rejected_at: Some(came_at) };
                    if to_envoy.send(restored).await.is_err() {
                        return Ended::ByEnvoy;
                    }
                }
                if let Some(request) = answer.to_control_plane {
                    permit.send(request);
                }
                if let Some(rejected) = answer.rejected {
                    tell(&shared.parts, rejected);
                }
            }
            response = next_response(&mut control_plane, to_envoy) => {
                let (permit, response) = match response {
                    Some((permit, Ok(Some(response)))) => (permit, response),
                    Some((_, Ok(None))) => return Ended::ByControlPlane,
                    Some((_, Err(status))) => return Ended::Failed(status),
                    None => return Ended::ByEnvoy,
                };
                permit.send(Outgoing::new(Ok(pass(&shared.parts, &mut session, response))));
            }
        }
    }
}

/// The next response of the control plane, once there is room for it on its way to Envoy: none is
/// received before, since each may be large. `None` if Envoy has gone. May be given up and asked
/// for again.
async fn next_response<'a>(
    control_plane: &mut FromControlPlane<'_>,
    to_envoy: &'a ToEnvoy,
) -> Option<(mpsc::Permit<'a, Outgoing>, Result<Option<Bytes>, Status>)> {
    let permit = to_envoy.reserve().await.ok()?;
    Some((permit, control_plane.next().await))
}

/// The next request of Envoy, once there is room for it on its way to the control plane; `None` if
/// there is none any more. May be given up and asked for again.
async fn next_request<'a>(
    envoy: &mut Streaming<Bytes>,
    to_control_plane: &'a mpsc::Sender<Bytes>,
) -> Option<(mpsc::Permit<'a, Bytes>, Bytes)> {
    let Ok(permit) = to_control_plane.reserve().await else {
        // The control plane has ended the stream: its own side says why.
        return std::future::pending().await;
    };
    let request = envoy.message().await.ok()??;
    Some((permit, request))
}

fn tell(parts: &Dependencies, rejected: Rejected) {
    let Rejected { type_url, reason } = rejected;
    parts.metrics.rejected.inc();
    tracing::error!(
        type_url,
        reason,
        "Envoy rejected the change; it gets the original"
    );
    parts.events.tell(Event::Rejected { type_url, reason });
}

fn pass(parts: &Dependencies, session: &mut Session, response: Bytes) -> Bytes {
    let metrics = &parts.metrics;
    metrics.responses.inc();
    let there = parts.modules.check();
    if let Err(reason) = &there {
        metrics.without_module.inc();
        tracing::warn!(reason, "module unusable; configuration passes unchanged");
        parts.events.tell(Event::NoModule {
            reason: reason.clone(),
        });
    }
    let passed = session.response(response, there.is_ok());
    metrics.changed.inc_by(passed.changed as u64);
    metrics.malformed.inc_by(passed.malformed as u64);
    metrics.given_up.inc_by(u64::from(passed.given_up));
    if let Some(type_url) = passed.unread {
        metrics.unread.inc();
        let bytes = passed.response.len();
        let most = parts.limits.changed_bytes;
        tracing::warn!(
            type_url,
            bytes,
            most,
            "response too large to change within --memory-limit; passed unchanged, its requests are not counted"
        );
        parts.events.tell(Event::TooLarge {
            type_url,
            bytes,
            most,
        });
    }
    passed.response
}
