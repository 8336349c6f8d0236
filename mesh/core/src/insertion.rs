//! What goes in: the Wasm plugin as an HTTP filter and as access loggers, and the clusters it streams to.
//!
//! Only what is written is described here; field numbers are those of Envoy's API v3.

use prost::Message;

/// Name of everything that is put in.
pub const NAME: &str = "meshmeter";

/// Type of a Wasm HTTP filter.
pub const FILTER: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
/// Type of a Wasm access logger.
pub const LOGGER: &str =
    "type.googleapis.com/envoy.extensions.access_loggers.wasm.v3.WasmAccessLog";
/// Type of a plugin's configuration.
pub const STRING: &str = "type.googleapis.com/google.protobuf.StringValue";
/// Name of a cluster's HTTP options, and with a prefix their type.
pub const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
/// All plugins of a sidecar share it, and with it their shared data.
pub const VM_ID: &str = "meshmeter";
/// What Envoy runs the module in.
pub const RUNTIME: &str = "envoy.wasm.runtime.v8";
/// Environment variables of Envoy that the VM may see.
pub const HOST_ENV_KEYS: [&str; 4] = ["POD_NAME", "POD_NAMESPACE", "POD_UID", "NODE_NAME"];

/// A plugin: a module and its configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plugin {
    /// File of the module, where Envoy runs.
    pub module: String,
    /// JSON.
    pub configuration: String,
}

/// Which listeners.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Directions {
    /// Those towards the pod's application.
    Inbound,
    /// Those from it.
    Outbound,
    /// Both.
    Both,
}

/// A cluster to stream to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StreamCluster {
    /// Its name, as the plugin configuration has it.
    pub name: String,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// All that goes in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Insertion {
    /// Before the router.
    pub filter: Option<Plugin>,
    /// Beside the access loggers of the connection manager.
    pub access_log: Option<Plugin>,
    /// Into the router, called for each upstream attempt.
    pub upstream_log: Option<Plugin>,
    /// Into which listeners.
    pub directions: Directions,
    /// Beside the clusters.
    pub clusters: Vec<StreamCluster>,
}

// === impl Insertion ===

impl Insertion {
    /// The modules' files.
    pub fn modules(&self) -> impl Iterator<Item = &str> {
        [&self.filter, &self.access_log, &self.upstream_log]
            .into_iter()
            .flatten()
            .map(|plugin| plugin.module.as_str())
    }
}

// === impl Plugin ===

impl Plugin {
    /// As an `HttpFilter`.
    pub(crate) fn http_filter(&self) -> Vec<u8> {
        let wasm = Wasm {
            config: Some(self.config()),
        };
        let filter = Named {
            name: NAME.to_owned(),
            typed_config: Some(any(FILTER, &wasm)),
        };
        filter.encode_to_vec()
    }

    /// As an `AccessLog`.
    pub(crate) fn access_log(&self) -> Vec<u8> {
        let wasm = Wasm {
            config: Some(self.config()),
        };
        let log = Named {
            name: NAME.to_owned(),
            typed_config: Some(any(LOGGER, &wasm)),
        };
        log.encode_to_vec()
    }

    fn config(&self) -> PluginConfig {
        let configuration = StringValue {
            value: self.configuration.clone(),
        };
        PluginConfig {
            name: NAME.to_owned(),
            root_id: NAME.to_owned(),
            vm_config: Some(VmConfig {
                vm_id: VM_ID.to_owned(),
                runtime: RUNTIME.to_owned(),
                code: Some(AsyncDataSource {
                    local: Some(DataSource {
                        filename: self.module.clone(),
                    }),
                }),
                environment_variables: Some(EnvironmentVariables {
                    host_env_keys: HOST_ENV_KEYS.map(str::to_owned).into(),
                }),
            }),
            configuration: Some(any(STRING, &configuration)),
            // Not `failure_policy`: Envoys before 1.34 do not know it, and later ones take only one of the two.
            fail_open: true,
        }
    }
}

// === impl StreamCluster ===

impl StreamCluster {
    /// As a `Cluster` of HTTP/2, by DNS unless it is an address.
    pub fn encode(&self) -> Vec<u8> {
        let options = HttpProtocolOptions {
            explicit_http_config: Some(ExplicitHttpConfig {
                http2_protocol_options: Some(Empty {}),
            }),
        };
        let type_url = format!("type.googleapis.com/{HTTP_OPTIONS}");
        let options = any(&type_url, &options);
        let address = SocketAddress {
            address: self.host.clone(),
            port_value: self.port.into(),
        };
        let endpoint = LbEndpoint {
            endpoint: Some(Endpoint {
                address: Some(Address {
                    socket_address: Some(address),
                }),
            }),
        };
        let is_address = self.host.parse::<std::net::IpAddr>().is_ok();
        let cluster = Cluster {
            name: self.name.clone(),
            r#type: if is_address { STATIC } else { STRICT_DNS },
            connect_timeout: Some(Duration { seconds: 5 }),
            load_assignment: Some(LoadAssignment {
                cluster_name: self.name.clone(),
                endpoints: vec![Locality {
                    lb_endpoints: vec![endpoint],
                }],
            }),
            typed_extension_protocol_options: vec![ExtensionOptions {
                key: HTTP_OPTIONS.to_owned(),
                value: Some(options),
            }],
        };
        cluster.encode_to_vec()
    }
}

fn any(type_url: &str, message: &impl Message) -> Any {
    Any {
        type_url: type_url.to_owned(),
        value: message.encode_to_vec(),
    }
}

const STATIC: i32 = 0;
const STRICT_DNS: i32 = 1;

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `HttpFilter` and `AccessLog`: a name and, under the same number, a typed configuration.
#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "4")]
    typed_config: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Wasm {
    #[prost(message, optional, tag = "1")]
    config: Option<PluginConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct PluginConfig {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    root_id: String,
    #[prost(message, optional, tag = "3")]
    vm_config: Option<VmConfig>,
    #[prost(message, optional, tag = "4")]
    configuration: Option<Any>,
    #[prost(bool, tag = "5")]
    fail_open: bool,
}

#[derive(Clone, PartialEq, Message)]
struct VmConfig {
    #[prost(string, tag = "1")]
    vm_id: String,
    #[prost(string, tag = "2")]
    runtime: String,
    #[prost(message, optional, tag = "3")]
    code: Option<AsyncDataSource>,
    #[prost(message, optional, tag = "7")]
    environment_variables: Option<EnvironmentVariables>,
}

#[derive(Clone, PartialEq, Message)]
struct AsyncDataSource {
    #[prost(message, optional, tag = "1")]
    local: Option<DataSource>,
}

#[derive(Clone, PartialEq, Message)]
struct DataSource {
    #[prost(string, tag = "1")]
    filename: String,
}

#[derive(Clone, PartialEq, Message)]
struct EnvironmentVariables {
    #[prost(string, repeated, tag = "1")]
    host_env_keys: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct StringValue {
    #[prost(string, tag = "1")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Cluster {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int32, tag = "2")]
    r#type: i32,
    #[prost(message, optional, tag = "4")]
    connect_timeout: Option<Duration>,
    #[prost(message, optional, tag = "33")]
    load_assignment: Option<LoadAssignment>,
    #[prost(message, repeated, tag = "36")]
    typed_extension_protocol_options: Vec<ExtensionOptions>,
}

/// An entry of a map.
#[derive(Clone, PartialEq, Message)]
struct ExtensionOptions {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Any>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Duration {
    #[prost(int64, tag = "1")]
    seconds: i64,
}

#[derive(Clone, PartialEq, Message)]
struct LoadAssignment {
    #[prost(string, tag = "1")]
    cluster_name: String,
    #[prost(message, repeated, tag = "2")]
    endpoints: Vec<Locality>,
}

#[derive(Clone, PartialEq, Message)]
struct Locality {
    #[prost(message, repeated, tag = "2")]
    lb_endpoints: Vec<LbEndpoint>,
}

#[derive(Clone, PartialEq, Message)]
struct LbEndpoint {
    #[prost(message, optional, tag = "1")]
    endpoint: Option<Endpoint>,
}

#[derive(Clone, PartialEq, Message)]
struct Endpoint {
    #[prost(message, optional, tag = "1")]
    address: Option<Address>,
}

#[derive(Clone, PartialEq, Message)]
struct Address {
    #[prost(message, optional, tag = "1")]
    socket_address: Option<SocketAddress>,
}

#[derive(Clone, PartialEq, Message)]
struct SocketAddress {
    #[prost(string, tag = "2")]
    address: String,
    #[prost(uint32, tag = "3")]
    port_value: u32,
}

#[derive(Clone, PartialEq, Message)]
struct HttpProtocolOptions {
    #[prost(message, optional, tag = "3")]
    explicit_http_config: Option<ExplicitHttpConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct ExplicitHttpConfig {
    #[prost(message, optional, tag = "2")]
    http2_protocol_options: Option<Empty>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Empty {}
