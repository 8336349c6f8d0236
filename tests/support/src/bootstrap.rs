//! Envoy's configuration as JSON: listeners with an HTTP connection manager each, clusters, admin,
//! node.
//!
//! Only what demo, tests and benches need; names and shapes are the caller's.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

pub use common_names::Direction;
use serde_json::{Value, json};

const TYPE: &str = "type.googleapis.com/envoy.";

#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// `node.id`.
    pub node_id: String,
    /// `node.metadata`.
    pub node_metadata: Value,
    pub listeners: Vec<Listener>,
    pub clusters: Vec<Cluster>,
    /// Further top-level fields, such as `stats_config`.
    pub extra: serde_json::Map<String, Value>,
}

/// A listener with one HTTP connection manager.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Name, also the key of [`crate::envoy::Envoy::listener`].
    pub name: String,
    pub ip: IpAddr,
    /// Port; 0, the kernel's choice, but for a listener that is to be changed in place.
    pub port: u16,
    /// Which side of the sidecar it is.
    pub direction: Direction,
    /// Prefix of the connection manager's statistics.
    pub stat_prefix: String,
    /// Virtual hosts of the route configuration.
    pub virtual_hosts: Vec<Value>,
    /// HTTP filters before the router.
    pub http_filters: Vec<Value>,
    /// Access loggers of the connection manager.
    pub access_log: Vec<Value>,
    /// Access loggers of the router, called for each upstream attempt.
    pub upstream_log: Vec<Value>,
}

/// A cluster with fixed endpoints.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub name: String,
    /// Endpoints and their load-balancing weights.
    pub endpoints: Vec<(SocketAddr, u32)>,
    /// Speak HTTP/2, as gRPC needs it.
    pub http2: bool,
    /// Speak TLS, and show a token.
    pub secure: Option<Secure>,
}

/// TLS to a server, with a bearer token from a file.
#[derive(Clone, Debug)]
pub struct Secure {
    /// File of the CA that the server's certificate must be of.
    pub ca: PathBuf,
    /// A name that the certificate must be valid for.
    pub server_name: String,
    /// File in the form of SDS that says where the secret `token` is; that file is read again when
    /// it is replaced.
    pub token: PathBuf,
}

// === impl Bootstrap ===

impl Bootstrap {
    /// A bootstrap without listeners and clusters.
    pub fn new(node_id: &str) -> Self {
        Self {
            node_id: node_id.to_owned(),
            node_metadata: json!({}),
            listeners: Vec::new(),
            clusters: Vec::new(),
            extra: serde_json::Map::new(),
        }
    }

    /// The JSON that Envoy reads.
    pub fn to_json(&self) -> Value {
        let listeners: Vec<Value> = self.listeners.iter().map(Listener::to_json).collect();
        let clusters: Vec<Value> = self.clusters.iter().map(Cluster::to_json).collect();
        let mut bootstrap = json!({
            "node": {"id": self.node_id, "cluster": "meshmeter-test", "metadata": self.node_metadata},
            "admin": {"address": socket_address(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))},
            "static_resources": {"listeners": listeners, "clusters": clusters},
        });
        if let Some(fields) = bootstrap.as_object_mut() {
            fields.extend(self.extra.clone());
        }
        bootstrap
    }
}

// === impl Listener ===

impl Listener {
    /// A listener on loopback without routes and filters; `name` is the stat prefix too.
    pub fn new(name: &str, direction: Direction) -> Self {
        Self {
            name: name.to_owned(),
            ip: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            direction,
            stat_prefix: name.to_owned(),
            virtual_hosts: Vec::new(),
            http_filters: Vec::new(),
            access_log: Vec::new(),
            upstream_log: Vec::new(),
        }
    }

    /// The `Listener` resource.
    pub fn to_json(&self) -> Value {
        let mut filters = self.http_filters.clone();
        filters.push(json!({
            "name": "envoy.filters.http.router",
            "typed_config": {
                "@type": type_of("extensions.filters.http.router.v3.Router"),
                "upstream_log": self.upstream_log,
            },
        }));
        let manager = json!({
            "@type": type_of(
                "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
            ),
            "stat_prefix": self.stat_prefix,
            "codec_type": "AUTO",
            "access_log": self.access_log,
            "http_filters": filters,
            "route_config": {"name": self.name, "virtual_hosts": self.virtual_hosts},
        });
        json!({
            "name": self.name,
            "traffic_direction": self.direction.as_str().to_uppercase(),
            "address": socket_address(SocketAddr::new(self.ip, self.port)),
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": manager,
            }]}],
        })
    }
}

// === impl Cluster ===

impl Cluster {
    /// An HTTP/1.1 cluster with one endpoint.
    pub fn new(name: &str, endpoint: SocketAddr) -> Self {
        Self {
            name: name.to_owned(),
            endpoints: vec![(endpoint, 1)],
            http2: false,
            secure: None,
        }
    }

    /// The same over TLS, with a token.
    #[must_use]
    pub fn with_secure(mut self, secure: Secure) -> Self {
        self.secure = Some(secure);
        self
    }

    /// The same with HTTP/2.
    #[must_use]
    pub fn with_http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// The same with one endpoint more.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: SocketAddr, weight: u32) -> Self {
        self.endpoints.push((endpoint, weight));
        self
    }

    fn to_json(&self) -> Value {
        let endpoints: Vec<Value> = self
            .endpoints
            .iter()
            .map(|(address, weight)| {
                json!({
                    "endpoint": {"address": socket_address(*address)},
                    "load_balancing_weight": weight,
                })
            })
            .collect();
        let mut cluster = json!({
            "name": self.name,
            "type": "STATIC",
            "connect_timeout": "0.25s",
            "load_assignment": {
                "cluster_name": self.name,
                "endpoints": [{"lb_endpoints": endpoints}],
            },
            "circuit_breakers": {"thresholds": [no_limits()]},
            // Else one dead endpoint of two puts the cluster into panic mode.
            "common_lb_config": {"healthy_panic_threshold": {"value": 0.0}},
        });
        if self.http2 {
            cluster["typed_extension_protocol_options"] = json!({
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": type_of("extensions.upstreams.http.v3.HttpProtocolOptions"),
                    "explicit_http_config": {"http2_protocol_options": {
                        "connection_keepalive": {"interval": "10s", "timeout": "5s"},
                    }},
                }
            });
        }
        if let Some(secure) = &self.secure {
            let options = &mut cluster["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
            options["http_filters"] = secure.http_filters();
            cluster["transport_socket"] = secure.transport_socket();
        }
        cluster
    }
}

// === impl Secure ===

impl Secure {
    fn transport_socket(&self) -> Value {
        json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": type_of("extensions.transport_sockets.tls.v3.UpstreamTlsContext"),
                "sni": self.server_name,
                "common_tls_context": {"validation_context": {
                    "trusted_ca": {"filename": self.ca},
                    "match_typed_subject_alt_names": [
                        {"san_type": "DNS", "matcher": {"exact": self.server_name}}],
                }},
            },
        })
    }

    /// The credential injector puts the token on each request of this cluster.
    fn http_filters(&self) -> Value {
        json!([
            {
                "name": "envoy.filters.http.credential_injector",
                "typed_config": {
                    "@type": type_of("extensions.filters.http.credential_injector.v3.CredentialInjector"),
                    "overwrite": true,
                    "credential": {
                        "name": "envoy.http.injected_credentials.generic",
                        "typed_config": {
                            "@type": type_of("extensions.http.injected_credentials.generic.v3.Generic"),
                            "header": "authorization",
                            "header_value_prefix": "Bearer ",
                            "credential": {
                                "name": "token",
                                "sds_config": {"path_config_source": {"path": self.token}},
                            },
                        },
                    },
                },
            },
            {
                "name": "envoy.filters.http.upstream_codec",
                "typed_config": {"@type": type_of("extensions.filters.http.upstream_codec.v3.UpstreamCodec")},
            },
        ])
    }
}

/// A virtual host for the given domains.
pub fn virtual_host(name: &str, domains: &[&str], routes: &[Value]) -> Value {
    json!({"name": name, "domains": domains, "routes": routes})
}

/// A route of all paths that begin with `prefix` to `cluster`, without retries.
pub fn route(prefix: &str, cluster: &str) -> Value {
    json!({"match": {"prefix": prefix}, "route": {"cluster": cluster, "timeout": "10s"}})
}

/// As [`route`], with at most `retries` retries after a 5xx, a reset or a refused connection, soon,
/// and on another endpoint where there is one.
pub fn route_with_retries(prefix: &str, cluster: &str, retries: u32) -> Value {
    let mut route = route(prefix, cluster);
    route["route"]["retry_policy"] = json!({
        "retry_on": "5xx,reset,connect-failure,refused-stream",
        "num_retries": retries,
        "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.02s"},
        "retry_host_predicate": [{
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {
                "@type": type_of("extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"),
            },
        }],
        "host_selection_retry_max_attempts": "3",
    });
    route
}

/// A route that Envoy answers itself.
pub fn direct_response(prefix: &str, status: u16, text: &str) -> Value {
    json!({
        "match": {"prefix": prefix},
        "direct_response": {"status": status, "body": {"inline_string": text}},
    })
}

/// An HTTP filter that counts requests in a Lua global and does nothing else: the native yardstick
/// of the bench.
pub fn lua_filter(source: &str) -> Value {
    json!({
        "name": "envoy.filters.http.lua",
        "typed_config": {
            "@type": type_of("extensions.filters.http.lua.v3.Lua"),
            "default_source_code": {"inline_string": source},
        },
    })
}

/// An access logger that writes one line `text` per request into `file`.
pub fn file_access_log(file: &Path, text: &str) -> Value {
    json!({
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": type_of("extensions.access_loggers.file.v3.FileAccessLog"),
            "path": file.display().to_string(),
            "log_format": {"text_format_source": {"inline_string": format!("{text}\n")}},
        },
    })
}

/// The type URL of one of Envoy's messages.
pub(crate) fn type_of(message: &str) -> String {
    format!("{TYPE}{message}")
}

fn socket_address(address: SocketAddr) -> Value {
    json!({"socket_address": {
        "address": address.ip().to_string(),
        "port_value": address.port(),
    }})
}

/// App Mesh sets every threshold to the highest number, so does this.
fn no_limits() -> Value {
    let most = i32::MAX;
    json!({
        "max_connections": most,
        "max_pending_requests": most,
        "max_requests": most,
        "max_retries": most,
    })
}
