//! The modules as Envoy extensions: HTTP filter, access logger, router `upstream_log`.

use std::path::PathBuf;

use anyhow::Result;
use common_names::Direction;
pub use common_names::Role;
pub use mesh_core::injection::Carrier;
use mesh_core::injection::{self, LOGGER};
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

    /// The role `filter` by this carrier, counting inbound requests: a dynamic module is not told
    /// the direction.
    pub fn filter_by(carrier: Carrier) -> Result<Self> {
        let plugin = Self::new(Role::Filter)?.with("direction", json!("inbound"));
        Ok(match carrier {
            Carrier::Wasm => plugin,
            Carrier::Module => plugin.with_module(Module::Native.path()?),
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

    /// As an HTTP filter, by the carrier that the module's file is.
    pub fn http_filter(&self) -> Value {
        let mut filter = json!(self.injected().http_filter(Direction::Inbound));
        if Carrier::of(&self.module.to_string_lossy()) == Carrier::Wasm {
            filter["typed_config"]["config"]["fail_open"] = self.fail_open.into();
        }
        filter
    }

    /// As an access logger, of the connection manager or of the router.
    pub fn access_logger(&self) -> Value {
        let mut logger = json!(self.injected().extension(LOGGER, Direction::Inbound));
        logger["typed_config"]["config"]["fail_open"] = self.fail_open.into();
        logger
    }

    fn injected(&self) -> injection::Plugin {
        let configuration = match &self.configuration {
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        injection::Plugin {
            module: self.module.display().to_string(),
            inbound: configuration.clone(),
            outbound: configuration,
        }
    }
}
