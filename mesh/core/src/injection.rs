//! The injected configuration: the Wasm plugin as an HTTP filter and as access loggers, and the
//! clusters that it streams to.
//!
//! Messages list only the fields that are written; numbers are those of Envoy's API v3.

use common_names::Direction;
use prost::Message;
use serde::Serialize;

pub use self::cluster::{CA, HTTP_OPTIONS, StreamCluster, Tls, TrustedCa};
pub use self::dns::SINCE as DNS_CLUSTER_SINCE;
use self::dynamic_module::ModuleFilter;
pub use self::dynamic_module::{Carrier, DYNAMIC_MODULE, DYNAMIC_MODULE_ENVOYS, HttpFilter};
use crate::envoy_version::EnvoyVersion;

mod cluster;
mod dns;
mod dynamic_module;

/// Name of all injected filters, access loggers and plugins.
pub const NAME: &str = "meshmeter";

pub const FILTER: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
pub const LOGGER: &str =
    "type.googleapis.com/envoy.extensions.access_loggers.wasm.v3.WasmAccessLog";
/// Type of the `Any` around a plugin's configuration.
const STRING: &str = "type.googleapis.com/google.protobuf.StringValue";
/// All plugins of a sidecar use one VM ID: Envoy shares data only between VMs of the same ID.
pub const VM_ID: &str = "meshmeter";
const RUNTIME: &str = "envoy.wasm.runtime.v8";
/// Environment variables of Envoy that the VM may see.
pub const HOST_ENV_KEYS: [&str; 4] = ["POD_NAME", "POD_NAMESPACE", "POD_UID", "NODE_NAME"];

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plugin {
    /// Path of the module in Envoy's file system.
    pub module: String,
    /// Its configuration (JSON) in listeners towards the pod's application. Each side has its own
    /// because Envoy before 1.39 does not tell a logger which side it is on, and some listeners do
    /// not say it at all.
    pub inbound: String,
    /// Its configuration in listeners from the pod's application.
    pub outbound: String,
}

common_names::named! {
    /// Which listeners.
    pub enum Directions {
        Inbound = "inbound",
        Outbound = "outbound",
        Both = "both",
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Injection {
    pub filter: Option<Plugin>,
    /// Access logger of the connection manager.
    pub access_log: Option<Plugin>,
    /// Access logger of the router, called for each upstream attempt.
    pub upstream_log: Option<Plugin>,
    pub directions: Directions,
    pub clusters: Vec<StreamCluster>,
}

// === impl Directions ===

impl Directions {
    pub fn each(self) -> &'static [Direction] {
        match self {
            Self::Inbound => &[Direction::Inbound],
            Self::Outbound => &[Direction::Outbound],
            Self::Both => &Direction::ALL,
        }
    }
}

// === impl Injection ===

impl Injection {
    /// Why this Envoy cannot have it, in a sentence; a version that is not known fits.
    pub fn unfit(&self, envoy: Option<EnvoyVersion>) -> Option<String> {
        let filter = self.filter.as_ref()?;
        let version = envoy.filter(|_| Carrier::of(&filter.module) == Carrier::Module)?;
        let (oldest, newest) = DYNAMIC_MODULE_ENVOYS;
        if (oldest..=newest).contains(&version) {
            return None;
        }
        Some(format!(
            "Envoy is {}.{}, and the dynamic module is for {}.{} to {}.{}: nothing is inserted; take the Wasm module",
            version.major, version.minor, oldest.major, oldest.minor, newest.major, newest.minor
        ))
    }

    pub fn modules(&self) -> impl Iterator<Item = &str> {
        [&self.filter, &self.access_log, &self.upstream_log]
            .into_iter()
            .flatten()
            .map(|plugin| plugin.module.as_str())
    }
}

// === impl Plugin ===

impl Plugin {
    /// As an `HttpFilter`, by the carrier that the module's file is.
    pub fn http_filter(&self, direction: Direction) -> HttpFilter {
        match Carrier::of(&self.module) {
            Carrier::Wasm => HttpFilter::Wasm(self.extension(FILTER, direction)),
            Carrier::Module => {
                let configuration = self.configuration(direction);
                HttpFilter::Module(ModuleFilter::new(&self.module, configuration))
            }
        }
    }

    fn configuration(&self, direction: Direction) -> &str {
        match direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
        }
    }

    /// As an `HttpFilter`, with the type [`FILTER`], or as an `AccessLog`, with [`LOGGER`].
    pub fn extension(&self, type_url: &str, direction: Direction) -> Extension {
        Extension {
            name: NAME.to_owned(),
            typed_config: Some(AnyWasm {
                type_url: type_url.to_owned(),
                value: Some(Wasm {
                    config: Some(self.config(direction)),
                }),
            }),
        }
    }

    fn config(&self, direction: Direction) -> PluginConfig {
        PluginConfig {
            name: NAME.to_owned(),
            root_id: NAME.to_owned(),
            vm_config: Some(VmConfig {
                vm_id: VM_ID.to_owned(),
                runtime: RUNTIME.to_owned(),
                code: Some(AsyncDataSource {
                    local: Some(DataSource {
                        filename: self.module.clone(),
                        ..DataSource::default()
                    }),
                }),
                environment_variables: Some(EnvironmentVariables {
                    host_env_keys: HOST_ENV_KEYS.map(str::to_owned).into(),
                }),
            }),
            configuration: Some(AnyString {
                type_url: STRING.to_owned(),
                value: Some(StringValue(self.configuration(direction).to_owned())),
            }),
            // Not `failure_policy`, although Envoy warns: with it requests in flight get 503 when
            // the VM dies (docs/decisions/0033).
            fail_open: true,
        }
    }
}

fn any(type_url: &str, message: &impl Message) -> Any {
    Any {
        type_url: type_url.to_owned(),
        value: message.encode_to_vec(),
    }
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Duration {
    #[prost(int64, tag = "1")]
    seconds: i64,
}

/// `HttpFilter` and `AccessLog`: a name and, under the same number, a typed configuration.
#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "4")]
    typed_config: Option<Any>,
}

/// `HttpFilter` or `AccessLog`, in wire format by `prost` and in JSON by `serde`.
#[derive(Clone, PartialEq, Message, Serialize)]
pub struct Extension {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "4")]
    typed_config: Option<AnyWasm>,
}

/// An `Any` of a [`Wasm`]: on the wire, a message is the same as its bytes.
#[derive(Clone, PartialEq, Message, Serialize)]
struct AnyWasm {
    #[prost(string, tag = "1")]
    #[serde(rename = "@type")]
    type_url: String,
    #[prost(message, optional, tag = "2")]
    #[serde(flatten)]
    value: Option<Wasm>,
}

#[derive(Clone, PartialEq, Message, Serialize)]
struct Wasm {
    #[prost(message, optional, tag = "1")]
    config: Option<PluginConfig>,
}

#[derive(Clone, PartialEq, Message, Serialize)]
struct PluginConfig {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    root_id: String,
    #[prost(message, optional, tag = "3")]
    vm_config: Option<VmConfig>,
    #[prost(message, optional, tag = "4")]
    configuration: Option<AnyString>,
    #[prost(bool, tag = "5")]
    fail_open: bool,
}

#[derive(Clone, PartialEq, Message, Serialize)]
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

#[derive(Clone, PartialEq, Message, Serialize)]
struct AsyncDataSource {
    #[prost(message, optional, tag = "1")]
    local: Option<DataSource>,
}

#[derive(Clone, PartialEq, Message, Serialize)]
struct DataSource {
    #[prost(string, tag = "1")]
    filename: String,
    #[prost(string, tag = "3")]
    #[serde(skip_serializing_if = "String::is_empty")]
    inline_string: String,
}

#[derive(Clone, PartialEq, Message, Serialize)]
struct EnvironmentVariables {
    #[prost(string, repeated, tag = "1")]
    host_env_keys: Vec<String>,
}

/// An `Any` of a [`StringValue`].
#[derive(Clone, PartialEq, Message, Serialize)]
struct AnyString {
    #[prost(string, tag = "1")]
    #[serde(rename = "@type")]
    type_url: String,
    #[prost(message, optional, tag = "2")]
    value: Option<StringValue>,
}

#[derive(Clone, PartialEq, Message, Serialize)]
struct StringValue(#[prost(string, tag = "1")] String);
