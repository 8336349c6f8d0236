//! Envoy configuration as JSON: the plugin, which `mesh-core` describes, and its clusters, which
//! `mesh-core` writes in wire format; a test compares the two.

use common_names::{Direction, Role};
use filter_core::config::{Config, Module};
use mesh_core::injection::{HTTP_OPTIONS, LOGGER, NAME, Plugin};
use serde_json::{Map, Value, json};

use crate::checks::{self, Refused};
use crate::options::{Address, MODULES_PATH, Options, TOKEN_SECRET_FILE, Target};

pub(crate) const ROUTER: &str = "envoy.filters.http.router";
pub(crate) const MANAGER: &str = "envoy.filters.network.http_connection_manager";
/// Name of the secret in Envoy's SDS file.
pub(crate) const TOKEN_SECRET: &str = "token";

/// Checked options, and values derived from them.
pub(crate) struct Plan<'a> {
    pub(crate) options: &'a Options,
    pub(crate) namespace: &'a str,
    pub(crate) streams: Vec<Stream<'a>>,
}

/// An aggregator as an upstream of Envoy.
pub(crate) struct Stream<'a> {
    pub(crate) cluster: String,
    /// `:authority` if the cluster's name is not a valid one.
    pub(crate) authority: Option<String>,
    pub(crate) address: &'a Address,
}

// === impl Plan ===

impl<'a> Plan<'a> {
    /// Fails if the plugin would reject its configuration.
    pub(crate) fn new(target: Target, options: &'a Options) -> Result<Self, Refused> {
        let streams = options.aggregators.iter().enumerate();
        let streams = streams.map(|(nth, address)| Stream::new(target, nth, address));
        let plan = Self {
            options,
            namespace: options.namespace.as_deref().unwrap_or_default(),
            streams: streams.collect(),
        };
        for field in ["role", "direction", "aggregators"] {
            if options.plugin_config.contains_key(field) {
                let why = format!("`{field}` comes from the other options");
                return Err(checks::value("plugin-config", why));
            }
        }
        plan.check_configuration(Role::Filter, Module::Filter)?;
        plan.check_configuration(Role::AccessLog, Module::Log)?;
        Ok(plan)
    }

    /// Parses the configuration as the filter does, before any Envoy loads it.
    fn check_configuration(&self, role: Role, module: Module) -> Result<(), Refused> {
        let text = self.configuration(role, Direction::Inbound).to_string();
        let (_, problems) = Config::parse(text.as_bytes(), module);
        let Some(problem) = problems.first() else {
            return Ok(());
        };
        let problem = problem.strip_prefix("plugin configuration: ");
        let problem = problem.unwrap_or(&problems[0]);
        Err(checks::value("plugin-config", problem))
    }

    /// The plugin configuration.
    pub(crate) fn configuration(&self, role: Role, direction: Direction) -> Value {
        let mut fields = self.options.plugin_config.clone();
        fields.insert("role".to_owned(), role.as_str().into());
        fields.insert("direction".to_owned(), direction.as_str().into());
        let aggregators = self.streams.iter().map(|stream| match &stream.authority {
            Some(authority) => json!({"cluster": stream.cluster, "authority": authority}),
            None => json!({"cluster": stream.cluster}),
        });
        fields.insert("aggregators".to_owned(), aggregators.collect());
        fields.into()
    }

    pub(crate) fn http_filter(&self, direction: Direction) -> Value {
        json!(self.plugin(Role::Filter).http_filter(direction))
    }

    pub(crate) fn access_log(&self, direction: Direction) -> Value {
        json!(self.plugin(Role::AccessLog).extension(LOGGER, direction))
    }

    /// The router with the upstream logger, to be merged into the existing router.
    pub(crate) fn router(&self, direction: Direction) -> Value {
        let mut router = json!({"@type": ROUTER_TYPE});
        if self.options.upstream_log {
            let logger = self.plugin(Role::UpstreamLog);
            router["upstream_log"] = json!([logger.extension(LOGGER, direction)]);
        }
        json!({"name": ROUTER, "typed_config": router})
    }

    pub(crate) fn is_filter(&self) -> bool {
        self.options.role == Role::Filter
    }

    fn plugin(&self, role: Role) -> Plugin {
        let configured = |direction| self.configuration(role, direction).to_string();
        Plugin {
            module: self.module(role),
            inbound: configured(Direction::Inbound),
            outbound: configured(Direction::Outbound),
        }
    }

    /// Path of the module in Envoy's file system.
    pub(crate) fn module(&self, role: Role) -> String {
        let (given, name) = match role {
            Role::Filter => (&self.options.module_file, "meshmeter-filter.wasm"),
            Role::AccessLog | Role::UpstreamLog => {
                (&self.options.log_module_file, "meshmeter-log.wasm")
            }
        };
        let ours = || format!("{MODULES_PATH}/{name}");
        given.clone().unwrap_or_else(ours)
    }

    pub(crate) fn clusters(&self) -> Vec<Value> {
        let clusters = self.streams.iter();
        clusters.map(|stream| self.cluster(stream)).collect()
    }

    fn cluster(&self, stream: &Stream<'_>) -> Value {
        let mut options = json!({
            "@type": format!("type.googleapis.com/{HTTP_OPTIONS}"),
            "explicit_http_config": {"http2_protocol_options": {
                "connection_keepalive": {"interval": "10s", "timeout": "5s"},
            }},
        });
        if self.options.aggregator_token {
            options["http_filters"] = self.token_filters();
        }
        let mut cluster = cluster(&stream.cluster, stream.address);
        cluster["typed_extension_protocol_options"] = json!({HTTP_OPTIONS: options});
        if let Some(authority) = &self.options.aggregator_ca {
            let name = self.options.aggregator_server_name.as_deref();
            let name = name.unwrap_or(&stream.address.host);
            cluster["transport_socket"] = transport_socket(authority, name);
        }
        cluster
    }

    /// Upstream filters that add the token to each request of the cluster.
    fn token_filters(&self) -> Value {
        let file = self.options.aggregator_token_file.as_deref();
        let file = file.unwrap_or(TOKEN_SECRET_FILE);
        json!([
            {
                "name": "envoy.filters.http.credential_injector",
                "typed_config": {
                    "@type": type_of("filters.http.credential_injector.v3.CredentialInjector"),
                    "overwrite": true,
                    "credential": {
                        "name": "envoy.http.injected_credentials.generic",
                        "typed_config": {
                            "@type": type_of("http.injected_credentials.generic.v3.Generic"),
                            // Without `header_value_prefix`, which Envoy 1.36 does not have: the
                            // aggregator accepts a bare token.
                            "header": "authorization",
                            "credential": {
                                "name": TOKEN_SECRET,
                                "sds_config": {"path_config_source": {"path": file}},
                            },
                        },
                    },
                },
            },
            {
                "name": "envoy.filters.http.upstream_codec",
                "typed_config": {"@type": type_of("filters.http.upstream_codec.v3.UpstreamCodec")},
            },
        ])
    }
}

// === impl Stream ===

impl<'a> Stream<'a> {
    fn new(target: Target, nth: usize, address: &'a Address) -> Self {
        let Address { host, port } = address;
        let (cluster, authority) = match target {
            // The name that Istio gives the cluster of a ServiceEntry. It is no host name, so the
            // stream needs an `:authority` of its own.
            Target::Istio | Target::IstioWasmPlugin => (
                format!("outbound|{port}||{host}"),
                Some(format!("{host}:{port}")),
            ),
            _ => (format!("{NAME}_aggregator_{nth}"), None),
        };
        Self {
            cluster,
            authority,
            address,
        }
    }
}

/// A cluster of one endpoint, resolved by DNS unless it is an IP address.
pub(crate) fn cluster(name: &str, address: &Address) -> Value {
    json!({
        "name": name,
        "type": if checks::syntax::is_ip(address) { "STATIC" } else { "STRICT_DNS" },
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {
                "address": address.host,
                "port_value": address.port,
            }}}}]}],
        },
    })
}

fn transport_socket(authority: &str, name: &str) -> Value {
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": type_of("transport_sockets.tls.v3.UpstreamTlsContext"),
            "sni": name,
            "common_tls_context": {"validation_context": {
                "trusted_ca": {"inline_string": authority},
                "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": name}}],
            }},
        },
    })
}

const ROUTER_TYPE: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";

pub(crate) fn type_of(message: &str) -> String {
    format!("type.googleapis.com/envoy.extensions.{message}")
}

/// An SDS file that refers to the token's file, which Envoy reloads when it is replaced.
pub(crate) fn token_secret(file: &str, folder: &str) -> Map<String, Value> {
    let secret = json!({"resources": [{
        "@type": type_of("transport_sockets.tls.v3.Secret"),
        "name": TOKEN_SECRET,
        "generic_secret": {"secret": {"filename": file, "watched_directory": {"path": folder}}},
    }]});
    Map::from_iter([("token.json".to_owned(), secret.to_string().into())])
}
