//! The gRPC server of aggregated discovery (state of the world).

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::mesh::Meshes;
use crate::metrics::Metrics;

mod streams;
mod subscriber;

use streams::{StreamGuard, Streams};
use subscriber::{Received, Subscriber};

/// Responses queued for an Envoy at most.
const QUEUED_MAX: usize = 16;

/// Concurrent streams at most, whatever the memory limit: one per sidecar, about 100 KB each.
pub const STREAMS_MAX: usize = 10_000;

/// Largest request in bytes: a node, and the names of the resources it subscribes to.
pub const REQUEST_BYTES_MAX: usize = 1024 * 1024;

/// Timeout of the first request, which contains the node.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub struct ControlPlane {
    meshes: watch::Receiver<Arc<Meshes>>,
    metrics: Metrics,
    streams: Streams,
}

type Responses = Pin<Box<dyn Stream<Item = Result<DiscoveryResponse, Status>> + Send>>;

// === impl ControlPlane ===

impl ControlPlane {
    /// Serves `meshes`, as they change, on at most `streams_max` concurrent streams.
    pub fn new(
        meshes: watch::Receiver<Arc<Meshes>>,
        metrics: Metrics,
        streams_max: usize,
    ) -> AggregatedDiscoveryServiceServer<Self> {
        AggregatedDiscoveryServiceServer::new(Self {
            streams: Streams::new(streams_max, &metrics),
            meshes,
            metrics,
        })
        .max_decoding_message_size(REQUEST_BYTES_MAX)
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for ControlPlane {
    type StreamAggregatedResourcesStream = Responses;
    type DeltaAggregatedResourcesStream =
        Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send>>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let guard = self.streams.open()?;
        let (sender, responses) = mpsc::channel(QUEUED_MAX);
        let (meshes, requests) = (self.meshes.clone(), request.into_inner());
        let metrics = self.metrics.clone();
        tokio::spawn(async move {
            if let Err(status) = serve(meshes, requests, &sender, &metrics, &guard).await {
                tracing::warn!(reason = status.message(), "discovery stream ended");
                let _ = sender.send(Err(status)).await;
            }
            drop(guard);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }

    async fn delta_aggregated_resources(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented(
            "delta discovery is not served: set api_type GRPC",
        ))
    }
}

async fn serve(
    mut meshes: watch::Receiver<Arc<Meshes>>,
    mut requests: Streaming<DiscoveryRequest>,
    responses: &mpsc::Sender<Result<DiscoveryResponse, Status>>,
    metrics: &Metrics,
    guard: &StreamGuard,
) -> Result<(), Status> {
    let first = tokio::select! {
        first = timeout(FIRST_REQUEST_TIMEOUT, requests.message()) => first,
        () = guard.evicted() => {
            let text = "too many streams: one that sent no request made room for another";
            return Err(Status::resource_exhausted(text));
        }
    };
    let first = first.map_err(|_| Status::deadline_exceeded("no request came within 10 s"))?;
    let Some(first) = first? else {
        return Ok(());
    };
    guard.keep();
    let mut subscriber = Subscriber::new(&first.node.clone().unwrap_or_default());
    update(&mut subscriber, &mut meshes, metrics)?;
    receive(&mut subscriber, first, metrics)?;
    loop {
        for response in subscriber.next() {
            metrics.response(&response.type_url);
            if responses.send(Ok(response)).await.is_err() {
                return Ok(());
            }
        }
        tokio::select! {
            request = requests.message() => match request? {
                Some(request) => receive(&mut subscriber, request, metrics)?,
                None => return Ok(()),
            },
            changed = meshes.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                update(&mut subscriber, &mut meshes, metrics)?;
            }
        }
    }
}

fn update(
    subscriber: &mut Subscriber,
    meshes: &mut watch::Receiver<Arc<Meshes>>,
    metrics: &Metrics,
) -> Result<(), Status> {
    let meshes = Arc::clone(&meshes.borrow_and_update());
    if subscriber.update(&meshes) {
        return Ok(());
    }
    metrics.unknown_nodes.inc();
    let node = subscriber.node();
    // Envoy keeps its configuration and reconnects; the VirtualNode may exist by then.
    let text = format!("there is no VirtualNode for the node id {node:?}");
    Err(Status::not_found(text))
}

fn receive(
    subscriber: &mut Subscriber,
    request: DiscoveryRequest,
    metrics: &Metrics,
) -> Result<(), Status> {
    match subscriber.receive(request) {
        Received::Ok => {}
        Received::Rejection(type_url) => metrics.rejection(type_url),
        Received::TooManyNames => {
            return Err(Status::resource_exhausted(
                "the request subscribes to too many resources",
            ));
        }
    }
    Ok(())
}
