//! The Wasm modules as Envoy extensions: HTTP filter, access logger, router `upstream_log`.

use std::path::PathBuf;

use anyhow::Result;
use common_names::Direction;
pub use common_names::Role;
use mesh_core::injection::{self, FILTER, LOGGER};
use serde_json::{Value, json};

use crate::artifacts::Module;

/// Name of the Envoy cluster that leads to the aggregator in all configurations of this crate.
pub const AGGREGATOR_CLUSTER: &str = "meshmeter-aggregator";

#[derive(Clone, Debug)]
pub struct Plugin {
    role: Role,
    module: PathBuf,
    /// The plugin configuration. Anything but an object is passed as it stands, for tests of bad
    /// input.
    pub configuration: Value,
    /// Serve on when the VM has died.
    pub fail_open: bool,
}

// === impl Plugin ===

impl Plugin {
    /// The built module in `role` with no configuration but that: it counts and streams nowhere.
    pub fn new(role: Role) -> Result<Self> {
        Ok(Self {
            role,
            module: Module::of(role).path()?,
            configuration: json!({"role": role.as_str()}),
            fail_open: true,
        })
    }

    /// The same with the module in `file`.
    #[must_use]
    pub fn with_module(mut self, file: PathBuf) -> Self {
        self.module = file;
        self
    }

    /// Where it belongs. A test may have put something else into its configuration.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The same, streaming to the cluster [`AGGREGATOR_CLUSTER`].
    #[must_use]
    pub fn with_aggregator(self) -> Self {
        self.with("aggregators", json!([{"cluster": AGGREGATOR_CLUSTER}]))
    }

    /// The same with one field of the plugin configuration set.
    #[must_use]
    pub fn with(mut self, field: &str, value: Value) -> Self {
        if let Some(fields) = self.configuration.as_object_mut() {
            fields.insert(field.to_owned(), value);
        }
        self
    }

    pub fn http_filter(&self) -> Value {
        self.extension(FILTER)
    }

    /// As an access logger, of the connection manager or of the router.
    pub fn access_logger(&self) -> Value {
        self.extension(LOGGER)
    }

    fn extension(&self, type_url: &str) -> Value {
        let configuration = match &self.configuration {
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        let plugin = injection::Plugin {
            module: self.module.display().to_string(),
            inbound: configuration.clone(),
            outbound: configuration,
        };
        let mut extension = json!(plugin.extension(type_url, Direction::Inbound));
        extension["typed_config"]["config"]["fail_open"] = self.fail_open.into();
        extension
    }
}
