//! The custom resources (`appmesh.k8s.aws/v1beta2`) as far as they are served. A field that is not
//! here is refused by its name, with the resource it is in; nothing is ignored.

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
    /// The namespace; "" in a manifest that leaves it to the command line.
    pub namespace: String,
    /// When it was made (RFC 3339, so that earlier sorts first); "" in a manifest.
    pub creation_timestamp: String,
}

common_names::named! {
    /// The kinds of the group.
    pub enum Kind {
        /// A mesh; it has no namespace.
        Mesh = "Mesh",
        VirtualNode = "VirtualNode",
        /// A name that is called.
        VirtualService = "VirtualService",
        VirtualRouter = "VirtualRouter",
        VirtualGateway = "VirtualGateway",
        GatewayRoute = "GatewayRoute",
    }
}

/// What every object has, whatever it is.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pub api_version: String,
    pub kind: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MeshSpec {
    /// The name outside of the cluster.
    pub aws_name: Option<String>,
    /// Whose objects and pods are of the mesh.
    pub namespace_selector: Option<Selector>,
    /// What pods may reach outside of the mesh.
    pub egress_filter: Option<EgressFilter>,
    /// How its workloads are found.
    pub mesh_service_discovery: Option<MeshServiceDiscovery>,
    #[serde(skip)]
    pub created: String,
}

/// How the workloads of a mesh are found.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MeshServiceDiscovery {
    /// By which version of IP, for workloads that do not say.
    pub ip_preference: Option<IpPreference>,
}

/// Versions of IP: which addresses of a host are asked for, and by which an application is reached.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub enum IpPreference {
    /// IPv4, else IPv6.
    #[serde(rename = "IPv4_PREFERRED")]
    V4Preferred,
    /// IPv6, else IPv4.
    #[serde(rename = "IPv6_PREFERRED")]
    V6Preferred,
    /// IPv4 alone.
    #[serde(rename = "IPv4_ONLY")]
    V4Only,
    /// IPv6 alone.
    #[serde(rename = "IPv6_ONLY")]
    V6Only,
}

/// What pods may reach outside of the mesh.
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
    /// Its name in the cluster.
    pub name: String,
    /// As App Mesh's controller writes it. A mesh that was made again has another one, and is the
    /// mesh all the same.
    pub uid: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct VirtualNodeSpec {
    /// The name in node ids; default `name_namespace`.
    pub aws_name: Option<String>,
    /// Its mesh, if the namespace does not say it.
    pub mesh_ref: Option<MeshReference>,
    /// Its pods: none without one.
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
    /// How others see whether it is well.
    pub health_check: Option<HealthCheck>,
    /// How long a request may take.
    pub timeout: Option<ListenerTimeout>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct PortMapping {
    pub port: u16,
    pub protocol: Protocol,
}

common_names::named! {
    /// The protocols that are served.
    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum Protocol {
        /// HTTP/1.1.
        Http = "http",
        /// HTTP/2.
        Http2 = "http2",
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HealthCheck {
    pub protocol: Protocol,
    #[serde(default = "root")]
    pub path: String,
    /// The port, if it is another.
    pub port: Option<u16>,
    /// Successes until it is well.
    pub healthy_threshold: u32,
    /// Failures until it is not.
    pub unhealthy_threshold: u32,
    /// How long one may take.
    pub timeout_millis: u64,
    pub interval_millis: u64,
}

fn root() -> String {
    "/".to_owned()
}

/// Timeouts of a listener, by protocol.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListenerTimeout {
    /// For [`Protocol::Http`].
    pub http: Option<HttpTimeout>,
    /// For [`Protocol::Http2`].
    pub http2: Option<HttpTimeout>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HttpTimeout {
    pub per_request: Option<Span>,
    /// Without a byte.
    pub idle: Option<Span>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// `s` or `ms`.
    pub unit: Unit,
    pub value: u64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Seconds.
    S,
    /// Milliseconds.
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
    /// Which of its addresses; that of the mesh, if it does not say.
    pub ip_preference: Option<IpPreference>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backend {
    pub virtual_service: BackendService,
}

/// A virtual service that is called.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackendService {
    pub virtual_service_ref: Reference,
}

/// A name, in the same namespace if there is none.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    pub name: String,
    pub namespace: Option<String>,
}

/// A name that is called.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct VirtualServiceSpec {
    /// The name as it is called; default `name.namespace`.
    pub aws_name: Option<String>,
    /// Its mesh, if the namespace does not say it.
    pub mesh_ref: Option<MeshReference>,
    pub provider: Option<Provider>,
    #[serde(skip)]
    pub created: String,
}

/// Who answers a virtual service.
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
    /// Of anything: what has none has empty ones.
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

    /// The condition by which App Mesh's controller says that it is served.
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
    /// In milliseconds.
    pub fn millis(self) -> u64 {
        match self.unit {
            Unit::S => self.value.saturating_mul(1000),
            Unit::Ms => self.value,
        }
    }
}
