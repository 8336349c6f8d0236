//! A virtual router and its routes.

use serde::Deserialize;

use crate::resources::{
    Arn, GrpcMatch, HttpMatch, HttpTimeout, MeshReference, Pointer, PortMapping, Protocol,
    Reference, Span, TcpMatch, TcpTimeout,
};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct VirtualRouterSpec {
    /// Name in ARNs; default `NAME_NAMESPACE`.
    pub aws_name: Option<String>,
    /// Needed if no mesh selects the namespace.
    pub mesh_ref: Option<MeshReference>,
    pub listeners: Vec<RouterListener>,
    /// Matched by priority, then in this order.
    pub routes: Vec<Route>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouterListener {
    pub port_mapping: PortMapping,
}

/// Exactly one of the four has to be set.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Route {
    pub name: String,
    /// 0 comes first, and `None` last.
    pub priority: Option<u32>,
    pub http_route: Option<HttpRoute>,
    pub http2_route: Option<HttpRoute>,
    pub grpc_route: Option<GrpcRoute>,
    pub tcp_route: Option<TcpRoute>,
}

/// That of the four routes which is set.
#[derive(Clone, Copy, Debug)]
pub enum Routing<'a> {
    Http(Protocol, &'a HttpRoute),
    Grpc(&'a GrpcRoute),
    Tcp(&'a TcpRoute),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpRoute {
    pub r#match: HttpMatch,
    pub action: Action,
    pub retry_policy: Option<RetryPolicy>,
    pub timeout: Option<HttpTimeout>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrpcRoute {
    pub r#match: GrpcMatch,
    pub action: Action,
    pub retry_policy: Option<RetryPolicy>,
    pub timeout: Option<HttpTimeout>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpRoute {
    #[serde(default)]
    pub r#match: TcpMatch,
    pub action: Action,
    #[serde(default)]
    pub timeout: TcpTimeout,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Action {
    pub weighted_targets: Vec<WeightedTarget>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "TargetFields")]
pub struct WeightedTarget {
    pub node: Pointer,
    /// Relative to the sum of all weights.
    pub weight: u32,
    /// `None` for the workload's first port.
    pub port: Option<u16>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TargetFields {
    virtual_node_ref: Option<Reference>,
    #[serde(rename = "virtualNodeARN")]
    virtual_node_arn: Option<Arn>,
    weight: u32,
    port: Option<u16>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryPolicy {
    pub max_retries: u32,
    pub per_retry_timeout: Span,
    #[serde(default)]
    pub http_retry_events: Vec<HttpRetryEvent>,
    #[serde(default)]
    pub tcp_retry_events: Vec<TcpRetryEvent>,
    /// Of [`GrpcRoute`] only.
    #[serde(default)]
    pub grpc_retry_events: Vec<GrpcRetryEvent>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum HttpRetryEvent {
    /// Status 500 to 511.
    ServerError,
    /// Status 502, 503, 504.
    GatewayError,
    /// Status 409.
    ClientError,
    StreamError,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum TcpRetryEvent {
    ConnectionError,
}

common_names::named! {
    /// Status of an answer, with Envoy's names.
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum GrpcRetryEvent {
        Cancelled = "cancelled",
        DeadlineExceeded = "deadline-exceeded",
        Internal = "internal",
        ResourceExhausted = "resource-exhausted",
        Unavailable = "unavailable",
    }
}

// === impl VirtualRouterSpec ===

impl VirtualRouterSpec {
    /// The routes in the order in which they are tried, with their indices in `routes`. Those of
    /// one priority keep their order.
    pub fn in_order(&self) -> Vec<(usize, &Route)> {
        let mut routes: Vec<_> = self.routes.iter().enumerate().collect();
        routes.sort_by_key(|(_, route)| route.priority.unwrap_or(u32::MAX));
        routes
    }
}

// === impl Route ===

impl Route {
    /// `None` unless exactly one is set.
    pub fn routing(&self) -> Option<Routing<'_>> {
        let http = self.http_route.as_ref();
        let http2 = self.http2_route.as_ref();
        let all = [
            http.map(|route| Routing::Http(Protocol::Http, route)),
            http2.map(|route| Routing::Http(Protocol::Http2, route)),
            self.grpc_route.as_ref().map(Routing::Grpc),
            self.tcp_route.as_ref().map(Routing::Tcp),
        ];
        let mut set = all.into_iter().flatten();
        set.next().filter(|_| set.next().is_none())
    }

    pub fn targets_mut(&mut self) -> impl Iterator<Item = &mut WeightedTarget> {
        let http = [&mut self.http_route, &mut self.http2_route];
        let http = http.into_iter().flatten().map(|route| &mut route.action);
        let grpc = self.grpc_route.as_mut().map(|route| &mut route.action);
        let tcp = self.tcp_route.as_mut().map(|route| &mut route.action);
        let actions = http.chain(grpc).chain(tcp);
        actions.flat_map(|action| &mut action.weighted_targets)
    }
}

// === impl Routing ===

impl<'a> Routing<'a> {
    pub fn protocol(self) -> Protocol {
        match self {
            Self::Http(protocol, _) => protocol,
            Self::Grpc(_) => Protocol::Grpc,
            Self::Tcp(_) => Protocol::Tcp,
        }
    }

    pub fn action(self) -> &'a Action {
        match self {
            Self::Http(_, route) => &route.action,
            Self::Grpc(route) => &route.action,
            Self::Tcp(route) => &route.action,
        }
    }

    /// Whether it is of a router's listener.
    pub fn is_of(self, listener: PortMapping) -> bool {
        let port = self.port();
        self.protocol() == listener.protocol && port.is_none_or(|port| port == listener.port)
    }

    pub fn port(self) -> Option<u16> {
        match self {
            Self::Http(_, route) => route.r#match.port,
            Self::Grpc(route) => route.r#match.port,
            Self::Tcp(route) => route.r#match.port,
        }
    }
}

// === impl WeightedTarget ===

impl TryFrom<TargetFields> for WeightedTarget {
    type Error = String;

    fn try_from(fields: TargetFields) -> Result<Self, String> {
        let (reference, arn) = (fields.virtual_node_ref, fields.virtual_node_arn);
        Ok(Self {
            node: Pointer::of("virtualNode", reference, arn)?,
            weight: fields.weight,
            port: fields.port,
        })
    }
}
