//! The built modules as a deployment configures them.

use anyhow::Result;
use serde_json::{Value, json};

use crate::module::Built;
use crate::plugin::{Attach, Failure, Plugin};

/// The one Envoy cluster that leads to an aggregator.
pub(crate) const CLUSTER: &str = "aggregator";

/// A role of the filter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    Filter,
    /// Access logger of the connection manager.
    AccessLog,
    /// Access logger of the router.
    UpstreamLog,
}

// === impl Role ===

impl Role {
    /// The plugin of this role on the inbound listener, which streams to the aggregator.
    pub fn plugin(self) -> Result<Plugin> {
        self.plugin_with(|_| ())
    }

    /// The same with a changed configuration.
    pub fn plugin_with(self, change: impl FnOnce(&mut Value)) -> Result<Plugin> {
        let mut configuration = json!({
            "role": self.name(),
            "aggregators": [{"cluster": CLUSTER}],
            "identity": {
                "namespace": "prod",
                "pod": "jazz-v1-0",
                "uid": "5c1e7a2b-5e1f-4f53-9a0c-0d6d6b8f2d11",
                "labels": {"app": "jazz"},
            },
        });
        change(&mut configuration);
        let (built, attach, failure) = match self {
            Self::Filter => (Built::Filter, Attach::HttpFilter, Failure::Open),
            Self::AccessLog => (Built::Log, Attach::AccessLog, Failure::Reload),
            Self::UpstreamLog => (Built::Log, Attach::UpstreamLog, Failure::Reload),
        };
        let mut plugin = Plugin::new(built.code()?, attach, &configuration.to_string());
        plugin.failure = failure;
        Ok(plugin)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::AccessLog => "access_log",
            Self::UpstreamLog => "upstream_log",
        }
    }
}
