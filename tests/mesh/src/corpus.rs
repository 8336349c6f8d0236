//! A configuration as App Mesh's control plane gave it, with all its shapes, and what is asked of
//! an Envoy that runs it.
//!
//! The proxy protocol stands for the redirection of iptables: it says which port a connection was
//! for.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use prost::Message as _;
use serde_json::{Value, json};
use tests_support::artifacts::Module;

use crate::configuration;
use crate::corpus::backends::Backends;
use crate::grpc::{self, Answer};
use crate::versions::Version;
use mesh_core::discovery::{self, CLUSTER, Form, LISTENER};

pub mod backends;
pub mod requests;

const CORPUS: &str = include_str!("../corpus/app_mesh.json");
const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";

/// Its resources, as bytes.
#[derive(Clone, Debug)]
pub struct Corpus {
    listeners: Vec<Vec<u8>>,
    clusters: Vec<Vec<u8>>,
    routes: Vec<Vec<u8>>,
}

// === impl Corpus ===

impl Corpus {
    /// For this version, leading to these backends.
    pub async fn new(version: Version, backends: &Backends) -> Result<Self> {
        // Found by its name alone, as listeners of App Mesh once had it: Envoy 1.40 does not know
        // how any more.
        let router = match version {
            Version::Old => json!({"name": "envoy.filters.http.router"}),
            Version::New => json!({
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
            }),
        };
        let module = Module::Filter.path()?.display().to_string();
        let text = CORPUS
            .replace("\"ROUTER-BY-NAME\"", &router.to_string())
            .replace("\"APP-PORT\"", &backends.application.port().to_string())
            .replace("\"ECHO-PORT\"", &backends.echo.port().to_string())
            .replace("\"TLS-PORT\"", &backends.tls.port().to_string())
            .replace("OTHER-MODULE", &module);
        let all: Value = serde_json::from_str(&text)?;
        let of = async |kind: &str| -> Result<Vec<Vec<u8>>> {
            configuration::bytes_of(all[kind].as_array().context("a list")?).await
        };
        Ok(Self {
            listeners: of("listeners").await?,
            clusters: of("clusters").await?,
            routes: of("routes").await?,
        })
    }

    /// Responses of a control plane: each type once a stream.
    pub fn answer(&self, form: Form) -> Answer {
        let all = self.clone();
        Arc::new(move |request| match form {
            Form::StateOfTheWorld => all.state(request),
            Form::Delta => all.changes(request),
        })
    }

    fn of(&self, type_url: &str) -> &[Vec<u8>] {
        match type_url {
            LISTENER => &self.listeners,
            CLUSTER => &self.clusters,
            ROUTE => &self.routes,
            _ => &[],
        }
    }

    fn state(&self, request: &[u8]) -> Vec<Bytes> {
        let Ok(head) = discovery::request_head(request, Form::StateOfTheWorld) else {
            return Vec::new();
        };
        let resources = self.of(&head.type_url);
        // Routes are asked for again as more of them are known.
        let asked = head.nonce.is_empty() || (head.type_url == ROUTE && head.nonce != "all");
        if resources.is_empty() || !asked {
            return Vec::new();
        }
        vec![grpc::response(&head.type_url, "all", resources)]
    }

    fn changes(&self, request: &[u8]) -> Vec<Bytes> {
        let Ok(request) = DeltaDiscoveryRequest::decode(request) else {
            return Vec::new();
        };
        let names = &request.resource_names_subscribe;
        let everything = request.response_nonce.is_empty() && request.type_url != ROUTE;
        let asked = |resource: &&Vec<u8>| everything || names.contains(&grpc::name(resource));
        let asked: Vec<_> = self
            .of(&request.type_url)
            .iter()
            .filter(asked)
            .cloned()
            .collect();
        grpc::responses(Form::Delta, &request.type_url, "first", &asked)
    }

    /// All listeners once more, each with one field changed, so that Envoy takes them for new.
    pub fn next_listeners(&self, form: Form) -> Vec<Bytes> {
        // `continue_on_listener_filters_timeout` (17), which costs nothing here.
        let changed = self.listeners.iter().map(|listener| {
            let mut listener = listener.clone();
            listener.extend([0x88, 0x01, 0x01]);
            listener
        });
        grpc::responses(form, LISTENER, "next", &changed.collect::<Vec<_>>())
    }
}
