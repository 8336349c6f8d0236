//! The Envoys that are compared: bootstraps that differ in one plugin.

use std::net::SocketAddr;

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};
use tests_support::artifacts::Module;
use tests_support::bootstrap::{Bootstrap, Cluster, Direction, Listener, lua_filter, virtual_host};
use tests_support::plugin::{AGGREGATOR_CLUSTER, Plugin, Role};

/// Name of the only listener.
pub(super) const LISTENER: &str = "bench";
/// Namespace of the pods that the Envoys speak for; see [`Case::pod`].
pub(super) const NAMESPACE: &str = "bench";
/// Counts like the modules, but only for itself.
const LUA: &str = "local count = 0\nfunction envoy_on_request(handle) count = count + 1 end";

common_names::named! {
    /// One Envoy of the comparison.
    #[derive(Serialize)]
    #[serde(rename_all = "snake_case")]
    pub(super) enum Case {
        /// No plugin: what the others are compared with.
        None = "none",
        /// meshmeter as access logger that counts completions: one call into the module per
        /// request.
        AccessLog = "access_log",
        /// The same, with responses by class: the module asks Envoy for the status of each.
        AccessLogClasses = "access_log_classes",
        /// meshmeter as HTTP filter: counts starts, requests in flight and responses.
        Filter = "filter",
        /// A Lua filter that increments its own variable, and reports nothing.
        Lua = "lua",
    }
}

// === impl Case ===

impl Case {
    /// One for each Wasm module.
    pub(super) const WASM: [Self; 2] = [Self::AccessLog, Self::Filter];

    /// What this Envoy does for each request, in one line.
    pub(super) fn does(self) -> &'static str {
        match self {
            Self::None => "no plugin",
            Self::AccessLog => "access logger, `responses` off",
            Self::AccessLogClasses => "access logger, `responses` by class",
            Self::Filter => "HTTP filter, `responses` by class, requests in flight",
            Self::Lua => "Lua HTTP filter that adds to a variable",
        }
    }

    /// The pod that this Envoy speaks for.
    pub(super) fn pod(self) -> String {
        self.as_str().replace('_', "-")
    }

    /// Where meshmeter runs in this Envoy, if it does.
    pub(super) fn role(self) -> Option<Role> {
        match self {
            Self::AccessLog | Self::AccessLogClasses => Some(Role::AccessLog),
            Self::Filter => Some(Role::Filter),
            Self::None | Self::Lua => None,
        }
    }

    /// The module of this Envoy, if it has one.
    pub(super) fn module(self) -> Option<Module> {
        self.role().map(Module::of)
    }

    /// The bootstrap: one inbound listener whose answer Envoy gives itself, so that nothing but the
    /// proxy is measured and the share of a plugin shows at its largest.
    pub(super) fn bootstrap(self, aggregator: SocketAddr) -> Result<Value> {
        let mut listener = Listener::new(LISTENER, Direction::Inbound);
        let answer = json!({"match": {"prefix": "/"}, "direct_response": {"status": 200}});
        listener.virtual_hosts = vec![virtual_host(LISTENER, &["*"], &[answer])];
        match self {
            Self::None => {}
            Self::AccessLog => {
                let plugin = self
                    .plugin(Role::AccessLog)?
                    .with("responses", json!("off"));
                listener.access_log.push(plugin.access_logger());
            }
            Self::AccessLogClasses => {
                let plugin = self
                    .plugin(Role::AccessLog)?
                    .with("responses", json!("class"));
                listener.access_log.push(plugin.access_logger());
            }
            Self::Filter => {
                let plugin = self.plugin(Role::Filter)?.with("responses", json!("class"));
                listener.http_filters.push(plugin.http_filter());
            }
            Self::Lua => listener.http_filters.push(lua_filter(LUA)),
        }
        let mut bootstrap = Bootstrap::new(self.as_str());
        bootstrap.listeners.push(listener);
        bootstrap
            .clusters
            .push(Cluster::new(AGGREGATOR_CLUSTER, aggregator).with_http2());
        let mut bootstrap = bootstrap.to_json();
        // Every worker gets its share of the connections, so that the memory of each is in use.
        bootstrap["static_resources"]["listeners"][0]["connection_balance_config"] =
            json!({"exact_balance": {}});
        Ok(bootstrap)
    }

    fn plugin(self, role: Role) -> Result<Plugin> {
        let pod = self.pod();
        let identity = json!({"namespace": NAMESPACE, "pod": pod, "uid": pod, "node": "bench"});
        Ok(Plugin::new(role)?
            .with_aggregator()
            .with("direction", json!("inbound"))
            .with("identity", identity))
    }
}
