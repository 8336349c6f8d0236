//! The supported part of the custom resources (`appmesh.k8s.aws/v1beta2`). A resource with any
//! other field is refused by that field's name: no field is ignored.

use serde::Deserialize;

use crate::selector::Selector;

mod virtual_router;

pub use virtual_router::{
    Action, HttpRetryEvent, HttpRoute, Match, RetryPolicy, Route, RouterListener, TcpRetryEvent,
    VirtualRouterSpec, WeightedTarget,
};

pub const API_VERSION: &str = "appmesh.k8s.aws/v1beta2";

/// Objects at most, of all kinds together.
pub const OBJECTS_MAX: usize = 10_000;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    pub name: String,
    /// "" in a manifest without one.
    pub namespace: String,
    /// RFC 3339, so that text order is time order; "" in a manifest.
    pub creation_timestamp: String,
}

common_names::named! {
    pub enum Kind {
        /// Cluster-scoped.
        Mesh = "Mesh",
        VirtualNode = "VirtualNode",
        VirtualService = "VirtualService",
        VirtualRouter = "VirtualRouter",
        VirtualGateway = "VirtualGateway",
        GatewayRoute = "GatewayRoute",
    }
}

/// The fields that every Kubernetes object has.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pub api_version: String,
    pub kind: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MeshSpec {
    /// Name in node IDs; default `metadata.name`.
    pub aws_name: Option<String>,
    /// Selects the namespaces of the mesh.
    pub namespace_selector: Option<Selector>,
    pub egress_filter: Option<EgressFilter>,
    pub mesh_service_discovery: Option<MeshServiceDiscovery>,
    #[serde(skip)]
    pub created: String,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MeshServiceDiscovery {
    /// For workloads without one.
    pub ip_preference: Option<IpPreference>,
}

/// IP versions for resolving hosts and for reaching the application.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub enum IpPreference {
    /// IPv4, else IPv6.
    #[serde(rename = "IPv4_PREFERRED")]
    V4Preferred,
    /// IPv6, else IPv4.
    #[serde(rename = "IPv6_PREFERRED")]
    V6Preferred,
    #[serde(rename = "IPv4_ONLY")]
    V4Only,
    #[serde(rename = "IPv6_ONLY")]
    V6Only,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct EgressFilter {
    pub r#type: Egress,
}

/// What pods may reach outside of the mesh.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
pub enum Egress {
    #[serde(rename = "ALLOW_ALL")]
    AllowAll,
    /// Nothing but `*.amazonaws.com` on port 443.
    #[default]
    #[serde(rename = "DROP_ALL")]
    DropAll,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeshReference {
    /// `metadata.name`.
    pub name: String,
    /// Set by App Mesh's controller. Not compared: a recreated mesh has another uid.
    pub uid: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct VirtualNodeSpec {
    /// Name in node IDs; default `NAME_NAMESPACE`.
    pub aws_name: Option<String>,
    /// Needed if no mesh selects the namespace.
    pub mesh_ref: Option<MeshReference>,
    /// `None` selects no pods.
    pub pod_selector: Option<Selector>,
    pub listeners: Vec<Listener>,
    pub service_discovery: Option<ServiceDiscovery>,
    pub backends: Vec<Backend>,
    #[serde(skip)]
    pub created: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listener {
    pub port_mapping: PortMapping,
    /// Used by the Envoys of callers.
    pub health_check: Option<HealthCheck>,
    pub timeout: Option<ListenerTimeout>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct PortMapping {
    pub port: u16,
    pub protocol: Protocol,
}

common_names::named! {
    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum Protocol {
        /// HTTP/1.1.
        Http = "http",
        Http2 = "http2",
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HealthCheck {
    pub protocol: Protocol,
    #[serde(default = "root")]
    pub path: String,
    /// `None` for the listener's port.
    pub port: Option<u16>,
    pub healthy_threshold: u32,
    pub unhealthy_threshold: u32,
    pub timeout_millis: u64,
    pub interval_millis: u64,
}

fn root() -> String {
    "/".to_owned()
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListenerTimeout {
    pub http: Option<HttpTimeout>,
    pub http2: Option<HttpTimeout>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HttpTimeout {
    pub per_request: Option<Span>,
    /// Longest time without a byte in either direction.
    pub idle: Option<Span>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    pub unit: Unit,
    pub value: u64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    S,
    Ms,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceDiscovery {
    pub dns: Dns,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dns {
    pub hostname: String,
    /// `None` for that of the mesh.
    pub ip_preference: Option<IpPreference>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backend {
    pub virtual_service: BackendService,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackendService {
    pub virtual_service_ref: Reference,
}

/// Without a namespace, that of the referring object.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    pub name: String,
    pub namespace: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct VirtualServiceSpec {
    /// Host name by which it is called; default `NAME.NAMESPACE`.
    pub aws_name: Option<String>,
    /// Needed if no mesh selects the namespace.
    pub mesh_ref: Option<MeshReference>,
    pub provider: Option<Provider>,
    #[serde(skip)]
    pub created: String,
}

/// Exactly one has to be set.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Provider {
    pub virtual_node: Option<NodeProvider>,
    pub virtual_router: Option<RouterProvider>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeProvider {
    pub virtual_node_ref: Reference,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouterProvider {
    pub virtual_router_ref: Reference,
}

// === impl Head ===

impl Head {
    /// Missing fields are "".
    pub fn of(document: &serde_json::Value) -> Self {
        let text = |field: &str| document[field].as_str().unwrap_or_default().to_owned();
        Self {
            api_version: text("apiVersion"),
            kind: text("kind"),
        }
    }
}

// === impl Kind ===

impl Kind {
    pub fn plural(self) -> &'static str {
        match self {
            Self::Mesh => "meshes",
            Self::VirtualNode => "virtualnodes",
            Self::VirtualService => "virtualservices",
            Self::VirtualRouter => "virtualrouters",
            Self::VirtualGateway => "virtualgateways",
            Self::GatewayRoute => "gatewayroutes",
        }
    }

    /// The condition type that App Mesh's controller uses for served resources.
    pub fn condition(self) -> &'static str {
        match self {
            Self::Mesh => "MeshActive",
            Self::VirtualNode => "VirtualNodeActive",
            Self::VirtualService => "VirtualServiceActive",
            Self::VirtualRouter => "VirtualRouterActive",
            Self::VirtualGateway => "VirtualGatewayActive",
            Self::GatewayRoute => "GatewayRouteActive",
        }
    }
}

// === impl Span ===

impl Span {
    pub fn millis(self) -> u64 {
        match self.unit {
            Unit::S => self.value.saturating_mul(1000),
            Unit::Ms => self.value,
        }
    }
}
