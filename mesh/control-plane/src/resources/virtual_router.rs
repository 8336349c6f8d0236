//! A virtual router and its routes.

use serde::Deserialize;

use crate::resources::{HttpTimeout, MeshReference, PortMapping, Reference, Span};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct VirtualRouterSpec {
    /// The name outside of the cluster.
    pub aws_name: Option<String>,
    /// Its mesh, if the namespace does not say it.
    pub mesh_ref: Option<MeshReference>,
    pub listeners: Vec<RouterListener>,
    /// By priority, then as they stand.
    pub routes: Vec<Route>,
}

/// A port of a router.
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
    /// Of HTTP/1.1.
    pub http_route: Option<HttpRoute>,
    /// Of HTTP/2.
    pub http2_route: Option<HttpRoute>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpRoute {
    pub r#match: Match,
    pub action: Action,
    pub retry_policy: Option<RetryPolicy>,
    /// How long a request may take.
    pub timeout: Option<HttpTimeout>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// What the path begins with.
    pub prefix: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Action {
    pub weighted_targets: Vec<WeightedTarget>,
}

/// A workload and its weight.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WeightedTarget {
    pub virtual_node_ref: Reference,
    /// Its share of the sum of all.
    pub weight: u32,
    /// Its port, if it has several.
    pub port: Option<u16>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryPolicy {
    pub max_retries: u32,
    /// How long one may take.
    pub per_retry_timeout: Span,
    /// `server-error`, `gateway-error`, `client-error`, `stream-error`.
    #[serde(default)]
    pub http_retry_events: Vec<HttpRetryEvent>,
    /// `connection-error`.
    #[serde(default)]
    pub tcp_retry_events: Vec<TcpRetryEvent>,
}

/// What of HTTP is tried again.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum HttpRetryEvent {
    /// 500 to 511.
    ServerError,
    /// 502, 503, 504.
    GatewayError,
    /// 409.
    ClientError,
    StreamError,
}

/// What of TCP is tried again.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum TcpRetryEvent {
    ConnectionError,
}
