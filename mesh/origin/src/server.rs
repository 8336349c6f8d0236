//! Aggregated discovery, state of the world.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::google::protobuf::value::Kind;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::envoy::{CLUSTER, Place, Snapshot, TYPES};
use crate::mesh::Mesh;

/// Responses that wait for an Envoy at most.
const WAITING_MAX: usize = 16;

/// Tells Envoys what the mesh is.
#[derive(Clone, Debug)]
pub struct Origin {
    mesh: watch::Receiver<Arc<Mesh>>,
}

type Responses = Pin<Box<dyn Stream<Item = Result<DiscoveryResponse, Status>> + Send>>;

/// One stream: what an Envoy wants, and what it was told.
struct Subscriber {
    node: String,
    place: Place,
    wanted: BTreeMap<&'static str, Wanted>,
    snapshot: Snapshot,
    /// Told as well until the next change: routes of before may still lead there.
    leaving: Snapshot,
    nonces: u64,
}

#[derive(Default)]
struct Wanted {
    names: BTreeSet<String>,
    nonce: String,
    version: String,
}

// === impl Origin ===

impl Origin {
    /// Of what `mesh` holds, as it changes.
    pub fn new(mesh: watch::Receiver<Arc<Mesh>>) -> AggregatedDiscoveryServiceServer<Self> {
        AggregatedDiscoveryServiceServer::new(Self { mesh })
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Origin {
    type StreamAggregatedResourcesStream = Responses;
    type DeltaAggregatedResourcesStream =
        Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send>>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let (sender, responses) = mpsc::channel(WAITING_MAX);
        let (mesh, requests) = (self.mesh.clone(), request.into_inner());
        tokio::spawn(async move {
            if let Err(status) = serve(mesh, requests, &sender).await {
                tracing::warn!(reason = status.message(), "a stream of discovery ended");
                let _ = sender.send(Err(status)).await;
            }
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
    mut mesh: watch::Receiver<Arc<Mesh>>,
    mut requests: Streaming<DiscoveryRequest>,
    responses: &mpsc::Sender<Result<DiscoveryResponse, Status>>,
) -> Result<(), Status> {
    let Some(first) = requests.message().await? else {
        return Ok(());
    };
    let node = first.node.clone().unwrap_or_default();
    let mut subscriber = Subscriber::new(&node);
    subscriber.update(&mesh.borrow_and_update())?;
    let mut next = Some(first);
    loop {
        let told = match next.take() {
            Some(request) => subscriber.request(request).into_iter().collect(),
            None => subscriber.changes(),
        };
        for response in told {
            if responses.send(Ok(response)).await.is_err() {
                return Ok(());
            }
        }
        tokio::select! {
            request = requests.message() => match request? {
                Some(request) => next = Some(request),
                None => return Ok(()),
            },
            changed = mesh.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                subscriber.update(&mesh.borrow_and_update())?;
            }
        }
    }
}

// === impl Subscriber ===

impl Subscriber {
    fn new(node: &Node) -> Self {
        let metadata = |key: &str| -> Option<SocketAddr> {
            let value = node.metadata.as_ref()?.fields.get(key)?;
            match value.kind.as_ref()? {
                Kind::StringValue(text) => text.parse().ok(),
                _ => None,
            }
        };
        Self {
            node: node.id.clone(),
            place: Place {
                ingress: metadata("meshmeter.ingress"),
                egress: metadata("meshmeter.egress"),
                application: metadata("meshmeter.application"),
            },
            wanted: BTreeMap::new(),
            snapshot: Snapshot::default(),
            leaving: Snapshot::default(),
            nonces: 0,
        }
    }

    fn update(&mut self, mesh: &Mesh) -> Result<(), Status> {
        let Some(node) = mesh.node_of(&self.node) else {
            // Envoy keeps what it has, and asks again.
            let text = format!("there is no VirtualNode for the node id {:?}", self.node);
            return Err(Status::not_found(text));
        };
        let snapshot = Snapshot::new(mesh, node, &self.place);
        if snapshot != self.snapshot {
            self.leaving = std::mem::replace(&mut self.snapshot, snapshot);
        }
        Ok(())
    }

    fn request(&mut self, request: DiscoveryRequest) -> Option<DiscoveryResponse> {
        let type_url = *TYPES.iter().find(|known| **known == request.type_url)?;
        let wanted = self.wanted.entry(type_url).or_default();
        // An answer to a response before the last one says nothing new.
        if !request.response_nonce.is_empty() && request.response_nonce != wanted.nonce {
            return None;
        }
        if let Some(error) = &request.error_detail {
            tracing::error!(
                node = self.node,
                type_url,
                reason = error.message,
                "Envoy rejected what it was told"
            );
        }
        let names: BTreeSet<_> = request.resource_names.into_iter().collect();
        let new = request.response_nonce.is_empty() || names != wanted.names;
        wanted.names = names;
        new.then(|| self.response(type_url))
    }

    /// What of the types that are wanted is not what was told last.
    fn changes(&mut self) -> Vec<DiscoveryResponse> {
        let mut changed = Vec::new();
        for type_url in TYPES {
            let version = self.snapshot.version(type_url);
            if self
                .wanted
                .get(type_url)
                .is_some_and(|wanted| wanted.version != version)
            {
                changed.push(self.response(type_url));
            }
        }
        changed
    }

    fn response(&mut self, type_url: &'static str) -> DiscoveryResponse {
        self.nonces += 1;
        let wanted = self.wanted.entry(type_url).or_default();
        wanted.nonce = self.nonces.to_string();
        wanted.version = self.snapshot.version(type_url);
        let of = |snapshot: &Snapshot| {
            snapshot
                .resources
                .get(type_url)
                .cloned()
                .unwrap_or_default()
        };
        let mut resources = of(&self.snapshot);
        if type_url == CLUSTER {
            for (name, cluster) in of(&self.leaving) {
                resources.entry(name).or_insert(cluster);
            }
        }
        let asked = |name: &String| wanted.names.is_empty() || wanted.names.contains(name);
        DiscoveryResponse {
            version_info: wanted.version.clone(),
            resources: resources
                .into_iter()
                .filter(|(name, _)| asked(name))
                .map(|(_, resource)| resource)
                .collect(),
            type_url: type_url.to_owned(),
            nonce: wanted.nonce.clone(),
            ..DiscoveryResponse::default()
        }
    }
}
