//! What requests a route is for.

use serde::Deserialize;

/// All conditions have to hold. One of `prefix` and `path` is needed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HttpMatch {
    /// Prefix of the path.
    pub prefix: Option<String>,
    pub path: Option<PathMatch>,
    pub headers: Vec<HeaderMatch>,
    pub method: Option<Method>,
    pub scheme: Option<Scheme>,
    pub query_parameters: Vec<QueryParameter>,
    /// Port of the router's listener; `None` for all listeners of the protocol.
    pub port: Option<u16>,
}

/// All conditions have to hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GrpcMatch {
    /// With its package: `package.Service`.
    pub service_name: Option<String>,
    /// Needs a service.
    pub method_name: Option<String>,
    pub metadata: Vec<HeaderMatch>,
    /// As of [`HttpMatch`].
    pub port: Option<u16>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TcpMatch {
    /// As of [`HttpMatch`].
    pub port: Option<u16>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PathMatch {
    /// Without the query.
    Exact(String),
    /// Of the whole path.
    Regex(String),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderMatch {
    pub name: String,
    /// `None` if the header only has to be there.
    pub r#match: Option<ValueMatch>,
    /// Matches what it would not match otherwise.
    #[serde(default)]
    pub invert: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ValueMatch {
    Exact(String),
    Prefix(String),
    Suffix(String),
    /// Of the whole value.
    Regex(String),
    /// Of an integer.
    Range(Range),
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    pub start: i64,
    /// Not in the range itself.
    pub end: i64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryParameter {
    pub name: String,
    /// `None` if the parameter only has to be there.
    pub r#match: Option<ExactMatch>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExactMatch {
    pub exact: Option<String>,
}

common_names::named! {
    #[derive(Deserialize)]
    #[serde(rename_all = "UPPERCASE")]
    pub enum Method {
        Connect = "CONNECT",
        Delete = "DELETE",
        Get = "GET",
        Head = "HEAD",
        Options = "OPTIONS",
        Patch = "PATCH",
        Post = "POST",
        Put = "PUT",
        Trace = "TRACE",
    }
}

common_names::named! {
    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum Scheme {
        Http = "http",
        Https = "https",
    }
}
