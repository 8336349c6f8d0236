//! The built modules as a deployment configures them.

use anyhow::Result;
use serde_json::{Value, json};

use crate::module::Built;
use crate::plugin::{Failure, Plugin, Role};

/// The one Envoy cluster that leads to an aggregator.
pub(crate) const CLUSTER: &str = "aggregator";

impl Plugin {
    /// The plugin of this role on the inbound listener, which streams to the aggregator.
    pub fn deployed(role: Role) -> Result<Self> {
        Self::deployed_with(role, |_| ())
    }

    /// The same with a changed configuration.
    pub fn deployed_with(role: Role, change: impl FnOnce(&mut Value)) -> Result<Self> {
        let mut configuration = json!({
            "role": role.as_str(),
            "aggregators": [{"cluster": CLUSTER}],
            "identity": {
                "namespace": "prod",
                "pod": "jazz-v1-0",
                "uid": "5c1e7a2b-5e1f-4f53-9a0c-0d6d6b8f2d11",
                "labels": {"app": "jazz"},
            },
        });
        change(&mut configuration);
        let failure = match role {
            Role::Filter => Failure::Open,
            Role::AccessLog | Role::UpstreamLog => Failure::Reload,
        };
        let code = Built::of(role).code()?;
        let mut plugin = Self::new(code, role, &configuration.to_string());
        plugin.failure = failure;
        Ok(plugin)
    }
}
