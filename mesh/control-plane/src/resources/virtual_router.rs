//! A virtual router and its routes.

use serde::Deserialize;

use crate::resources::{HttpTimeout, MeshReference, PortMapping, Reference, Span};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct VirtualRouterSpec {
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

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Route {
    pub name: String,
    pub priority: Option<u32>,
    pub http_route: Option<HttpRoute>,
    pub http2_route: Option<HttpRoute>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpRoute {
    pub r#match: Match,
    pub action: Action,
    pub retry_policy: Option<RetryPolicy>,
    pub timeout: Option<HttpTimeout>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// Prefix of the path.
    pub prefix: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Action {
    pub weighted_targets: Vec<WeightedTarget>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WeightedTarget {
    pub virtual_node_ref: Reference,
    /// Relative to the sum of all weights.
    pub weight: u32,
    /// `None` for the workload's first port.
    pub port: Option<u16>,
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
