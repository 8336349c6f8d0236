//! A gateway route: what requests to a virtual gateway are for which virtual service.

use serde::Deserialize;

use crate::resources::{
    BackendService, GrpcMatch, HeaderMatch, HttpMatch, MeshReference, Method, PathMatch,
    PortMapping, Protocol, QueryParameter, Reference,
};
use crate::selector::Labels;

/// Priority of a route without one, as in App Mesh: the lowest.
pub const PRIORITY_MAX: u32 = 1_000;

/// Exactly one of the three routes has to be set.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GatewayRouteSpec {
    /// Name in AWS; nothing refers to it.
    pub aws_name: Option<String>,
    /// Needed if no mesh selects the namespace.
    pub mesh_ref: Option<MeshReference>,
    /// Needed if no gateway selects the route.
    pub virtual_gateway_ref: Option<GatewayReference>,
    /// 0 comes first.
    pub priority: Option<u32>,
    pub http_route: Option<HttpGatewayRoute>,
    pub http2_route: Option<HttpGatewayRoute>,
    pub grpc_route: Option<GrpcGatewayRoute>,
    /// `metadata.labels`.
    #[serde(skip)]
    pub labels: Labels,
    #[serde(skip)]
    pub created: String,
    /// Its gateway with the namespace, once it is found.
    #[serde(skip)]
    pub gateway: Option<Reference>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayReference {
    pub name: String,
    /// `None` for that of the route.
    pub namespace: Option<String>,
    /// Set by App Mesh's controller. Not compared: a recreated gateway has another uid.
    pub uid: Option<String>,
}

/// That of the three routes which is set.
#[derive(Clone, Copy, Debug)]
pub enum GatewayRouting<'a> {
    Http(Protocol, &'a HttpGatewayRoute),
    Grpc(&'a GrpcGatewayRoute),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpGatewayRoute {
    pub r#match: HttpGatewayMatch,
    pub action: HttpGatewayAction,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrpcGatewayRoute {
    pub r#match: GrpcGatewayMatch,
    pub action: GrpcGatewayAction,
}

/// All conditions have to hold. One of `prefix`, `path` and `hostname` is needed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HttpGatewayMatch {
    /// Prefix of the path.
    pub prefix: Option<String>,
    pub path: Option<PathMatch>,
    pub hostname: Option<HostnameMatch>,
    pub headers: Vec<HeaderMatch>,
    pub method: Option<Method>,
    pub query_parameters: Vec<QueryParameter>,
    /// Port of the gateway's listener; `None` for all listeners of the protocol.
    pub port: Option<u16>,
}

/// All conditions have to hold. One of `service_name` and `hostname` is needed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GrpcGatewayMatch {
    /// With its package: `package.Service`.
    pub service_name: Option<String>,
    pub hostname: Option<HostnameMatch>,
    pub metadata: Vec<HeaderMatch>,
    /// As of [`HttpGatewayMatch`].
    pub port: Option<u16>,
}

/// Without a port, and without regard to case.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HostnameMatch {
    Exact(String),
    Suffix(String),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpGatewayAction {
    pub target: GatewayTarget,
    #[serde(default)]
    pub rewrite: HttpRewrite,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrpcGatewayAction {
    pub target: GatewayTarget,
    #[serde(default)]
    pub rewrite: GrpcRewrite,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GatewayTarget {
    pub virtual_service: BackendService,
    /// Needed if the service has several ports.
    pub port: Option<u16>,
}

/// At most one of `prefix` and `path`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpRewrite {
    pub prefix: Option<PrefixRewrite>,
    pub path: Option<PathRewrite>,
    pub hostname: HostnameRewrite,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcRewrite {
    pub hostname: HostnameRewrite,
}

/// At most one of both.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PrefixRewrite {
    /// `/` takes the place of the prefix that matched.
    pub default_prefix: Option<Switch>,
    /// Takes the place of the prefix that matched.
    pub value: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathRewrite {
    /// Takes the place of the path; the query stays.
    pub exact: String,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HostnameRewrite {
    /// The name of the virtual service takes the place of the host.
    pub default_target_hostname: Switch,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "UPPERCASE")]
pub enum Switch {
    #[default]
    Enabled,
    Disabled,
}

/// What becomes of a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PathChange<'a> {
    None,
    /// The second takes the place of the first, and of a slash after it.
    Prefix(&'a str, &'a str),
    Whole(&'a str),
}

// === impl GatewayRouteSpec ===

impl GatewayRouteSpec {
    /// `None` unless exactly one is set.
    pub fn routing(&self) -> Option<GatewayRouting<'_>> {
        let http = self.http_route.as_ref();
        let http2 = self.http2_route.as_ref();
        let all = [
            http.map(|route| GatewayRouting::Http(Protocol::Http, route)),
            http2.map(|route| GatewayRouting::Http(Protocol::Http2, route)),
            self.grpc_route.as_ref().map(GatewayRouting::Grpc),
        ];
        let mut set = all.into_iter().flatten();
        set.next().filter(|_| set.next().is_none())
    }

    pub fn targets(&self) -> impl Iterator<Item = &GatewayTarget> {
        let http = [&self.http_route, &self.http2_route];
        let http = http.into_iter().flatten();
        let grpc = self.grpc_route.as_ref();
        http.map(|route| &route.action.target)
            .chain(grpc.map(|route| &route.action.target))
    }

    pub fn targets_mut(&mut self) -> impl Iterator<Item = &mut GatewayTarget> {
        let http = [&mut self.http_route, &mut self.http2_route];
        let http = http.into_iter().flatten();
        let grpc = self.grpc_route.as_mut();
        http.map(|route| &mut route.action.target)
            .chain(grpc.map(|route| &mut route.action.target))
    }
}

// === impl GatewayRouting ===

impl<'a> GatewayRouting<'a> {
    pub fn protocol(self) -> Protocol {
        match self {
            Self::Http(protocol, _) => protocol,
            Self::Grpc(_) => Protocol::Grpc,
        }
    }

    pub fn port(self) -> Option<u16> {
        match self {
            Self::Http(_, route) => route.r#match.port,
            Self::Grpc(route) => route.r#match.port,
        }
    }

    pub fn hostname(self) -> Option<&'a HostnameMatch> {
        match self {
            Self::Http(_, route) => route.r#match.hostname.as_ref(),
            Self::Grpc(route) => route.r#match.hostname.as_ref(),
        }
    }

    pub fn target(self) -> &'a GatewayTarget {
        match self {
            Self::Http(_, route) => &route.action.target,
            Self::Grpc(route) => &route.action.target,
        }
    }

    pub fn keeps_host(self) -> bool {
        let rewrite = match self {
            Self::Http(_, route) => route.action.rewrite.hostname,
            Self::Grpc(route) => route.action.rewrite.hostname,
        };
        rewrite.default_target_hostname == Switch::Disabled
    }

    /// Whether it is of a gateway's listener.
    pub fn is_of(self, listener: PortMapping) -> bool {
        let port = self.port();
        self.protocol() == listener.protocol && port.is_none_or(|port| port == listener.port)
    }

    pub fn path_change(self) -> PathChange<'a> {
        match self {
            Self::Http(_, route) => route.path_change(),
            Self::Grpc(_) => PathChange::None,
        }
    }
}

// === impl HttpGatewayRoute ===

impl HttpGatewayRoute {
    /// A prefix becomes `/` unless the route says otherwise, as in App Mesh; a whole path stays.
    fn path_change(&self) -> PathChange<'_> {
        if let Some(path) = &self.action.rewrite.path {
            return PathChange::Whole(&path.exact);
        }
        if self.r#match.path.is_some() {
            return PathChange::None;
        }
        let prefix = self.r#match.prefix.as_deref().unwrap_or("/");
        let rewrite = self.action.rewrite.prefix.as_ref();
        let value = rewrite.and_then(|rewrite| rewrite.value.as_deref());
        let default = rewrite.and_then(|rewrite| rewrite.default_prefix);
        match (value, default) {
            (Some(value), _) => PathChange::Prefix(prefix, value),
            (None, Some(Switch::Disabled)) => PathChange::None,
            (None, _) if prefix == "/" => PathChange::None,
            (None, _) => PathChange::Prefix(prefix, "/"),
        }
    }
}

// === impl HttpGatewayMatch ===

impl HttpGatewayMatch {
    /// As of a route of a router, without the host.
    pub fn without_host(&self) -> HttpMatch {
        let everything = self.prefix.is_none() && self.path.is_none();
        HttpMatch {
            prefix: self
                .prefix
                .clone()
                .or_else(|| everything.then(|| "/".to_owned())),
            path: self.path.clone(),
            headers: self.headers.clone(),
            method: self.method,
            scheme: None,
            query_parameters: self.query_parameters.clone(),
            port: self.port,
        }
    }
}

// === impl GrpcGatewayMatch ===

impl GrpcGatewayMatch {
    /// As of a route of a router, without the host.
    pub fn without_host(&self) -> GrpcMatch {
        GrpcMatch {
            service_name: self.service_name.clone(),
            method_name: None,
            metadata: self.metadata.clone(),
            port: self.port,
        }
    }
}

// === impl HostnameMatch ===

impl HostnameMatch {
    /// Whether all hosts that this one matches are of `other`, too.
    pub fn is_within(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(host), Self::Exact(other)) => host.eq_ignore_ascii_case(other),
            (Self::Exact(host) | Self::Suffix(host), Self::Suffix(other)) => {
                let (host, other) = (host.to_ascii_lowercase(), other.to_ascii_lowercase());
                host.ends_with(&other)
            }
            (Self::Suffix(_), Self::Exact(_)) => false,
        }
    }
}
