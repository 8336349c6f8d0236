//! An SDS server on a Unix socket, as the agent of SPIRE is one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use envoy_types::pb::envoy::config::core::v3::DataSource;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, TlsCertificate,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_server::{
    SecretDiscoveryService, SecretDiscoveryServiceServer,
};
use envoy_types::pb::google::protobuf::Any;
use prost::{Message as _, Name as _};
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use crate::grpc_cluster;

/// As App Mesh's agent names it.
const CLUSTER: &str = "static_cluster_sds_unix_socket";
const WAITING_MAX: usize = 16;

/// A secret, PEM.
#[derive(Clone, Debug)]
pub enum Pem {
    Certificate { chain: String, key: String },
    Authority(String),
}

/// Ends when dropped.
#[derive(Debug)]
pub struct SdsServer {
    pub socket: PathBuf,
    _stop: DropGuard,
}

#[derive(Clone)]
struct Secrets(Arc<BTreeMap<String, Pem>>);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

// === impl SdsServer ===

impl SdsServer {
    pub fn start(socket: &Path, secrets: BTreeMap<String, Pem>) -> Result<Self> {
        let listener = UnixListener::bind(socket).context("the socket of SDS")?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let service = SecretDiscoveryServiceServer::new(Secrets(Arc::new(secrets)));
        let server = Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming_shutdown(
            UnixListenerStream::new(listener),
            async move {
                stopped.cancelled().await;
            },
        ));
        Ok(Self {
            socket: socket.to_owned(),
            _stop: stop.drop_guard(),
        })
    }
}

// === impl Secrets ===

impl Secrets {
    /// The secrets of these names that are there.
    fn answer(&self, request: &DiscoveryRequest, nonce: usize) -> DiscoveryResponse {
        let names = request.resource_names.iter();
        let found = names.filter_map(|name| Some((name, self.0.get(name)?)));
        DiscoveryResponse {
            version_info: "1".to_owned(),
            resources: found.map(|(name, pem)| pem.secret(name)).collect(),
            type_url: request.type_url.clone(),
            nonce: nonce.to_string(),
            ..DiscoveryResponse::default()
        }
    }
}

#[tonic::async_trait]
impl SecretDiscoveryService for Secrets {
    type DeltaSecretsStream = Answers<DeltaDiscoveryResponse>;
    type StreamSecretsStream = Answers<DiscoveryResponse>;

    async fn delta_secrets(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Err(Status::unimplemented("delta"))
    }

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let mut requests = request.into_inner();
        let (sender, answers) = mpsc::channel(WAITING_MAX);
        let secrets = self.clone();
        tokio::spawn(async move {
            let mut nonce = 0;
            while let Some(Ok(request)) = requests.next().await {
                // One with a version is an answer to ours.
                if request.version_info.is_empty() && request.error_detail.is_none() {
                    nonce += 1;
                    let answer = secrets.answer(&request, nonce);
                    if sender.send(Ok(answer)).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn fetch_secrets(
        &self,
        _: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented("fetch"))
    }
}

// === impl Pem ===

impl Pem {
    fn secret(&self, name: &str) -> Any {
        let kind = match self {
            Self::Certificate { chain, key } => Type::TlsCertificate(TlsCertificate {
                certificate_chain: Some(inline(chain)),
                private_key: Some(inline(key)),
                ..TlsCertificate::default()
            }),
            Self::Authority(pem) => Type::ValidationContext(CertificateValidationContext {
                trusted_ca: Some(inline(pem)),
                ..CertificateValidationContext::default()
            }),
        };
        let secret = Secret {
            name: name.to_owned(),
            r#type: Some(kind),
        };
        Any {
            type_url: Secret::type_url(),
            value: secret.encode_to_vec(),
        }
    }
}

fn inline(pem: &str) -> DataSource {
    DataSource {
        specifier: Some(Specifier::InlineString(pem.to_owned())),
        ..DataSource::default()
    }
}

/// Adds the server's cluster to a bootstrap, as App Mesh's agent does.
pub(crate) fn add(bootstrap: &mut Value, socket: &Path) -> Result<()> {
    let clusters = bootstrap["static_resources"]["clusters"].as_array_mut();
    let clusters = clusters.context("the bootstrap has no clusters")?;
    clusters.push(grpc_cluster(CLUSTER, &json!({"pipe": {"path": socket}})));
    Ok(())
}
