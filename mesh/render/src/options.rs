//! What all targets are rendered from.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Map, Value};

/// Where the modules of [`Options::image`] are.
pub(crate) const MODULES_PATH: &str = "/opt/meshmeter";
/// The usual place of [`Options::aggregator_token_file`].
pub(crate) const TOKEN_SECRET_FILE: &str = "/etc/meshmeter/token.json";

common_names::named! {
    pub enum Target {
        /// Istio, by its API for Wasm.
        Istio = "istio",
        /// Istio, by patches of what it sends to Envoy.
        IstioEnvoyFilter = "istio-envoyfilter",
        EnvoyGateway = "envoy-gateway",
        Consul = "consul",
        /// Kuma and Kong Mesh on Kubernetes.
        Kuma = "kuma",
        /// App Mesh, without the webhook.
        AppMesh = "appmesh",
        /// An Envoy of one's own.
        Static = "static",
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// Requests that begin, are in flight and end.
    Filter,
    AccessLog,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    Inbound,
    Outbound,
    Both,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

/// An option that is not given is `None`, empty or false. The names of the flags are those of the
/// fields, with hyphens.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Name of what is made.
    pub name: String,
    /// Namespace of it, and of the pods.
    pub namespace: Option<String>,
    pub selector: BTreeMap<String, String>,
    /// Deployment of the pods; Consul's service; the Gateway.
    pub workload: Option<String>,
    pub role: Role,
    /// Attempts too, in the router.
    pub upstream_log: bool,
    pub direction: Direction,
    /// Fields of the plugin configuration; those that are rendered win.
    pub plugin_config: Map<String, Value>,
    pub aggregators: Vec<Address>,
    /// CA bundle for verifying aggregators (PEM): TLS.
    pub aggregator_ca: Option<String>,
    /// Name that those certificates are valid for; without it, each aggregator's host.
    pub aggregator_server_name: Option<String>,
    /// The pod's token goes with the stream.
    pub aggregator_token: bool,
    /// Envoy's secret file with it, if it is not at its usual place.
    pub aggregator_token_file: Option<String>,
    /// Image with `meshmeter-mesh` and both modules.
    pub image: Option<String>,
    /// Image with the filter alone.
    pub module_image: Option<String>,
    /// The filter where Envoy runs.
    pub module_file: Option<String>,
    /// The logger where Envoy runs.
    pub log_module_file: Option<String>,
    /// The filter on a web server.
    pub module_url: Option<String>,
    /// SHA-256 of the module, or of the image.
    pub module_sha256: Option<String>,
    /// Control plane of the xDS proxies' configuration.
    pub upstream: Option<String>,
    /// Where the static Envoy listens.
    pub listen: Option<SocketAddr>,
    pub application: Option<Address>,
    /// Where the static Envoy's admin interface is.
    pub admin_listen: Option<SocketAddr>,
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self {
            name: mesh_core::injection::NAME.to_owned(),
            namespace: None,
            selector: BTreeMap::new(),
            workload: None,
            role: Role::Filter,
            upstream_log: false,
            direction: Direction::Inbound,
            plugin_config: Map::new(),
            aggregators: Vec::new(),
            aggregator_ca: None,
            aggregator_server_name: None,
            aggregator_token: false,
            aggregator_token_file: None,
            image: None,
            module_image: None,
            module_file: None,
            log_module_file: None,
            module_url: None,
            module_sha256: None,
            upstream: None,
            listen: None,
            application: None,
            admin_listen: None,
        }
    }
}
