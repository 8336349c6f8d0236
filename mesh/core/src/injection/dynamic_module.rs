//! The filter as a dynamic module: an HTTP filter of another type, around the same configuration.

use prost::Message;
use serde::Serialize;

use crate::envoy_version::EnvoyVersion;

use super::{AnyString, AsyncDataSource, DataSource, Extension, NAME, STRING, StringValue};

/// Type of an HTTP filter that is a dynamic module.
pub const DYNAMIC_MODULE: &str =
    "type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter";
/// The Envoys that one build of the dynamic module serves, the last of them by Envoy's promise: a
/// module for one minor version works in the next.
pub const DYNAMIC_MODULE_ENVOYS: (EnvoyVersion, EnvoyVersion) =
    (EnvoyVersion::new(1, 38), EnvoyVersion::new(1, 41));
/// How the file of a dynamic module ends.
const ENDING: &str = ".so";

common_names::named! {
    /// What carries the filter into Envoy.
    pub enum Carrier {
        Wasm = "wasm",
        /// A dynamic module: native, without a sandbox.
        Module = "module",
    }
}

/// The HTTP filter, by whichever carrier: in wire format, and in JSON by `serde`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum HttpFilter {
    Wasm(Extension),
    Module(ModuleFilter),
}

/// `HttpFilter` with a dynamic module.
#[derive(Clone, PartialEq, Message, Serialize)]
pub struct ModuleFilter {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "4")]
    typed_config: Option<AnyModule>,
}

#[derive(Clone, PartialEq, Message, Serialize)]
struct AnyModule {
    #[prost(string, tag = "1")]
    #[serde(rename = "@type")]
    type_url: String,
    #[prost(message, optional, tag = "2")]
    #[serde(flatten)]
    value: Option<DynamicModuleFilter>,
}

#[derive(Clone, PartialEq, Message, Serialize)]
struct DynamicModuleFilter {
    #[prost(message, optional, tag = "1")]
    dynamic_module_config: Option<DynamicModuleConfig>,
    #[prost(string, tag = "2")]
    filter_name: String,
    #[prost(message, optional, tag = "3")]
    filter_config: Option<AnyString>,
}

#[derive(Clone, PartialEq, Message, Serialize)]
struct DynamicModuleConfig {
    #[prost(bool, tag = "3")]
    do_not_close: bool,
    #[prost(message, optional, tag = "6")]
    module: Option<AsyncDataSource>,
}

// === impl Carrier ===

impl Carrier {
    /// By the file of the module.
    pub fn of(file: &str) -> Self {
        if file.ends_with(ENDING) {
            Self::Module
        } else {
            Self::Wasm
        }
    }
}

// === impl HttpFilter ===

impl HttpFilter {
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Wasm(filter) => filter.encode_to_vec(),
            Self::Module(filter) => filter.encode_to_vec(),
        }
    }
}

// === impl ModuleFilter ===

impl ModuleFilter {
    pub(super) fn new(file: &str, configuration: &str) -> Self {
        let filter = DynamicModuleFilter {
            dynamic_module_config: Some(DynamicModuleConfig {
                // Its counts live in it; and threads of ours run in it.
                do_not_close: true,
                module: Some(AsyncDataSource {
                    local: Some(DataSource {
                        filename: file.to_owned(),
                        ..DataSource::default()
                    }),
                }),
            }),
            filter_name: NAME.to_owned(),
            filter_config: Some(AnyString {
                type_url: STRING.to_owned(),
                value: Some(StringValue(configuration.to_owned())),
            }),
        };
        Self {
            name: NAME.to_owned(),
            typed_config: Some(AnyModule {
                type_url: DYNAMIC_MODULE.to_owned(),
                value: Some(filter),
            }),
        }
    }
}
