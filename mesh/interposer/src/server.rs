//! Aggregated discovery towards Envoy.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use mesh_core::discovery::Form;
use mesh_core::insertion::Insertion;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};

use crate::MESSAGE_BYTES_MAX;
use crate::codec::Raw;
use crate::metrics::Metrics;
use crate::modules::Modules;
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

#[derive(Debug)]
struct Shared {
    upstream: Upstream,
    insertion: Arc<Insertion>,
    modules: Modules,
    rejections: Arc<Rejections>,
    metrics: Metrics,
    stop: CancellationToken,
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
    /// Streams end when `stop` is cancelled; Envoy keeps its configuration.
    pub fn new(
        upstream: Upstream,
        insertion: Insertion,
        modules: Modules,
        metrics: Metrics,
        stop: CancellationToken,
    ) -> Self {
        let shared = Shared {
            upstream,
            insertion: Arc::new(insertion),
            modules,
            rejections: Arc::default(),
            metrics,
            stop,
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
            tokio::spawn(run(shared, form, request.into_inner(), to_envoy));
            let responses: Responses = Box::pin(ReceiverStream::new(responses));
            Ok(Response::new(responses))
        })
    }
}

type ToEnvoy = mpsc::Sender<Result<Bytes, Status>>;

/// One stream, until either side ends it.
async fn run(shared: Arc<Shared>, form: Form, envoy: Streaming<Bytes>, to_envoy: ToEnvoy) {
    shared.metrics.streams.inc();
    let stop = shared.stop.clone();
    let ended = tokio::select! {
        () = stop.cancelled() => Err(Status::unavailable("the interposer ends")),
        ended = relay(&shared, form, envoy, &to_envoy) => ended,
    };
    shared.metrics.streams.dec();
    if let Err(status) = ended {
        shared.metrics.upstream_failures.inc();
        tracing::warn!(code = ?status.code(), reason = status.message(), "stream of discovery ended");
        // Envoy connects again, and keeps what it has.
        let _ = to_envoy.send(Err(status)).await;
    }
}

async fn relay(
    shared: &Shared,
    form: Form,
    mut envoy: Streaming<Bytes>,
    to_envoy: &ToEnvoy,
) -> Result<(), Status> {
    let (insertion, rejections) = (&shared.insertion, &shared.rejections);
    let mut session = Session::new(form, Arc::clone(insertion), Arc::clone(rejections));
    let (to_origin, requests) = mpsc::channel(WAITING_MAX);
    // An origin may wait for the first request before it answers at all.
    let Some(first) = envoy.message().await? else {
        return Ok(());
    };
    if let Outcome::Forward(first) = session.request(first) {
        let _ = to_origin.send(first).await;
    }
    let opening = shared.upstream.open(form, ReceiverStream::new(requests));
    let opened = tokio::time::timeout(OPEN_WITHIN, opening).await;
    let late = |_| Status::unavailable("the origin does not answer");
    let mut origin = opened.map_err(late)??.into_inner();
    loop {
        tokio::select! {
            request = envoy.message() => {
                let Some(request) = request? else { return Ok(()) };
                match session.request(request) {
                    Outcome::Forward(request) => {
                        if to_origin.send(request).await.is_err() {
                            return Err(Status::unavailable("the origin ended the stream"));
                        }
                    }
                    Outcome::Restore { response, type_url, reason } => {
                        shared.metrics.rejected.inc();
                        tracing::error!(type_url, reason, "Envoy rejected the change; it gets the original");
                        if to_envoy.send(Ok(response)).await.is_err() {
                            return Ok(());
                        }
                    }
                }
            }
            response = origin.message() => {
                let Some(response) = response? else {
                    return Err(Status::unavailable("the origin ended the stream"));
                };
                if to_envoy.send(Ok(pass(shared, &mut session, response))).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

fn pass(shared: &Shared, session: &mut Session, response: Bytes) -> Bytes {
    let metrics = &shared.metrics;
    metrics.responses.inc();
    let there = shared.modules.check();
    if let Err(reason) = &there {
        metrics.without_module.inc();
        tracing::warn!(
            reason,
            "the module cannot be used; configuration passes as it is"
        );
    }
    let passed = session.response(response, there.is_ok());
    metrics.changed.inc_by(passed.changed as u64);
    metrics.malformed.inc_by(passed.malformed as u64);
    metrics.given_up.inc_by(u64::from(passed.given_up));
    passed.response
}
