//! The supported part of the custom resources (`appmesh.k8s.aws/v1beta2`). A resource with any
//! other field is refused by that field's name: no field is ignored.

use serde::Deserialize;

use crate::selector::Selector;

mod arn;
mod backend_group;
mod gateway_route;
mod logging;
mod matching;
mod tls;
mod virtual_gateway;
mod virtual_node;
mod virtual_router;
mod virtual_service;

pub use arn::{Arn, Pointer, Reference};
pub use backend_group::BackendGroupSpec;
pub use gateway_route::{
    GatewayReference, GatewayRouteSpec, GatewayRouting, GatewayTarget, GrpcGatewayAction,
    GrpcGatewayMatch, GrpcGatewayRoute, GrpcRewrite, HostnameMatch, HostnameRewrite,
    HttpGatewayAction, HttpGatewayMatch, HttpGatewayRoute, HttpRewrite, PRIORITY_MAX, PathChange,
    PathRewrite, PrefixRewrite, Switch,
};
pub use logging::{AccessLog, FileLog, LogField, LogFormat, Logging};
pub use matching::{
    ExactMatch, GrpcMatch, HeaderMatch, HttpMatch, Method, PathMatch, QueryParameter, Range,
    Scheme, TcpMatch, ValueMatch,
};
pub use tls::{
    AcmCertificate, AcmTrust, BackendDefaults, Certificate, ClientPolicy, ClientTls,
    FileCertificate, FileTrust, ListenerTls, NameMatch, SdsSecret, SubjectAlternativeNames,
    TlsMode, Trust, Validation,
};
pub use virtual_gateway::{GatewayListener, VirtualGatewaySpec};
pub use virtual_node::{
    Backend, BackendService, CloudMap, CloudMapAttribute, ConnectionPool, Dns, HealthCheck,
    HttpPool, Listener, ListenerTimeout, OutlierDetection, RequestPool, ResponseType,
    ServiceDiscovery, TcpPool, VirtualNodeSpec,
};
pub use virtual_router::{
    Action, GrpcRetryEvent, GrpcRoute, HttpRetryEvent, HttpRoute, RetryPolicy, Route,
    RouterListener, Routing, TcpRetryEvent, TcpRoute, VirtualRouterSpec, WeightedTarget,
};
pub use virtual_service::{NodeProvider, Provider, RouterProvider, VirtualServiceSpec};

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
        BackendGroup = "BackendGroup",
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
        Grpc = "grpc",
        Tcp = "tcp",
    }
}

/// Of requests by HTTP and gRPC.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HttpTimeout {
    pub per_request: Option<Span>,
    /// Longest time without a byte in either direction.
    pub idle: Option<Span>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TcpTimeout {
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
            Self::BackendGroup => "backendgroups",
        }
    }

    /// The condition type that App Mesh's controller uses for served resources; that of backend
    /// groups is like them, for the controller has none.
    pub fn condition(self) -> &'static str {
        match self {
            Self::Mesh => "MeshActive",
            Self::VirtualNode => "VirtualNodeActive",
            Self::VirtualService => "VirtualServiceActive",
            Self::VirtualRouter => "VirtualRouterActive",
            Self::VirtualGateway => "VirtualGatewayActive",
            Self::GatewayRoute => "GatewayRouteActive",
            Self::BackendGroup => "BackendGroupActive",
        }
    }
}

// === impl Protocol ===

impl Protocol {
    /// Whether Envoy speaks HTTP/2 to servers of this protocol.
    pub fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc)
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
