//! The input of all targets.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use common_names::Role;
use mesh_core::injection::{Carrier, Directions};
use serde_json::{Map, Value};

/// Mount path of the modules in [`Options::image`].
pub(crate) const MODULES_PATH: &str = "/opt/meshmeter";
/// Default of [`Options::aggregator_token_file`].
pub(crate) const TOKEN_SECRET_FILE: &str = "/etc/meshmeter/token.json";

common_names::named! {
    pub enum Target {
        /// By `TrafficExtension`, from Istio 1.30 on.
        Istio = "istio",
        /// By `WasmPlugin`, before Istio 1.30.
        IstioWasmPlugin = "istio-wasmplugin",
        IstioEnvoyFilter = "istio-envoyfilter",
        EnvoyGateway = "envoy-gateway",
        Consul = "consul",
        /// Kuma or Kong Mesh on Kubernetes.
        Kuma = "kuma",
        /// App Mesh, without the webhook.
        AppMesh = "appmesh",
        /// A bootstrap for an Envoy without control plane.
        Static = "static",
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

/// An option that is not given is `None`, empty or false. Flags have the names of the fields, with
/// hyphens.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Name of the rendered objects.
    pub name: String,
    /// Namespace of the rendered objects and of the pods.
    pub namespace: Option<String>,
    pub selector: BTreeMap<String, String>,
    /// Deployment of the pods; Consul's service; the Gateway.
    pub workload: Option<String>,
    /// Where requests are counted: `Filter` or `AccessLog`.
    pub role: Role,
    /// Also count upstream attempts, by an access logger of the router.
    pub upstream_log: bool,
    pub direction: Directions,
    /// What carries the filter into Envoy.
    pub carrier: Carrier,
    /// Further fields of the plugin configuration.
    pub plugin_config: Map<String, Value>,
    pub aggregators: Vec<Address>,
    /// CA bundle for verifying aggregators (PEM); `None` without TLS.
    pub aggregator_ca: Option<String>,
    /// Name in the aggregators' certificates; `None` for each aggregator's host.
    pub aggregator_server_name: Option<String>,
    /// Send the pod's service account token with the stream.
    pub aggregator_token: bool,
    /// Envoy's SDS file with the token, if not `/etc/meshmeter/token.json`.
    pub aggregator_token_file: Option<String>,
    /// Image with `meshmeter-mesh` and both modules.
    pub image: Option<String>,
    /// Image with the filter alone.
    pub module_image: Option<String>,
    /// Path of the filter in Envoy's file system.
    pub module_file: Option<String>,
    /// Path of the logger in Envoy's file system.
    pub log_module_file: Option<String>,
    /// HTTP URL of the filter.
    pub module_url: Option<String>,
    /// SHA-256 of the module, or of the image.
    pub module_sha256: Option<String>,
    /// Control plane that the xDS proxies connect to.
    pub upstream: Option<String>,
    pub listen: Option<SocketAddr>,
    pub application: Option<Address>,
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
            direction: Directions::Inbound,
            carrier: Carrier::Wasm,
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
