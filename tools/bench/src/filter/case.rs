//! The Envoys that are compared: bootstraps that differ in one plugin.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

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
/// Adds to a variable of its own.
const LUA: &str = "local count = 0\nfunction envoy_on_request(handle) count = count + 1 end";
/// Counts what the filter counts.
const LUA_EQUAL: &str = include_str!("equal.lua");
/// Path whose response tells the totals of [`LUA_EQUAL`].
pub(super) const TOTALS: &str = "/totals";
/// The least module that Envoy takes: no callback, so that what it costs is the price of any Wasm
/// filter.
const EMPTY: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 0))"#;

common_names::named! {
    /// One Envoy of the comparison.
    #[derive(Serialize)]
    #[serde(rename_all = "snake_case")]
    pub(super) enum Case {
        /// No plugin: what the others are compared with.
        None = "none",
        /// A Wasm HTTP filter without callbacks: the floor of any.
        WasmEmpty = "wasm_empty",
        /// meshmeter as access logger that counts completions: one call into the module per
        /// request.
        AccessLog = "access_log",
        /// The same, with responses by class: the module asks Envoy for the status of each.
        AccessLogClasses = "access_log_classes",
        /// meshmeter as HTTP filter without responses: counts starts and requests in flight.
        FilterOff = "filter_off",
        /// meshmeter as HTTP filter: counts starts, requests in flight and responses.
        Filter = "filter",
        /// The same as a dynamic module.
        Module = "module",
        /// A Lua filter that increments its own variable, and reports nothing.
        Lua = "lua",
        /// A Lua filter that counts what `filter` counts, and reports nothing.
        LuaEqual = "lua_equal",
    }
}

// === impl Case ===

impl Case {
    /// Those whose memory is measured: one for each module.
    pub(super) const MEASURED: [Self; 3] = [Self::AccessLog, Self::Filter, Self::Module];

    /// What this Envoy does for each request, in one line.
    pub(super) fn does(self) -> &'static str {
        match self {
            Self::None => "no plugin",
            Self::WasmEmpty => "Wasm HTTP filter without callbacks",
            Self::AccessLog => "access logger, `responses` off",
            Self::AccessLogClasses => "access logger, `responses` by class",
            Self::FilterOff => "HTTP filter, `responses` off, requests in flight",
            Self::Filter => "HTTP filter, `responses` by class, requests in flight",
            Self::Module => "the same as a dynamic module, without a sandbox",
            Self::Lua => "Lua HTTP filter that adds to a variable",
            Self::LuaEqual => "Lua HTTP filter that counts what `filter` counts",
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
            Self::FilterOff | Self::Filter | Self::Module => Some(Role::Filter),
            Self::None | Self::WasmEmpty | Self::Lua | Self::LuaEqual => None,
        }
    }

    /// Whether meshmeter counts responses in this Envoy.
    pub(super) fn counts_responses(self) -> bool {
        matches!(self, Self::AccessLogClasses | Self::Filter | Self::Module)
    }

    /// The module of this Envoy, if it has one.
    pub(super) fn module(self) -> Option<Module> {
        match self {
            Self::Module => Some(Module::Native),
            _ => self.role().map(Module::of),
        }
    }

    /// The bootstrap: one inbound listener whose answer Envoy gives itself, so that nothing but the
    /// proxy is measured and the share of a plugin shows at its largest.
    /// A module made for the comparison goes into the folder `files`.
    pub(super) fn bootstrap(self, aggregator: SocketAddr, files: &Path) -> Result<Value> {
        let mut listener = Listener::new(LISTENER, Direction::Inbound);
        let answers = [("/404", 404), ("/503", 503), (TOTALS, 418), ("/", 200)].map(
            |(prefix, status)| json!({"match": {"prefix": prefix}, "direct_response": {"status": status}}),
        );
        listener.virtual_hosts = vec![virtual_host(LISTENER, &["*"], &answers)];
        match self {
            Self::None => {}
            Self::WasmEmpty => {
                let file = files.join("empty.wasm");
                fs::write(&file, wat::parse_str(EMPTY)?)?;
                let plugin = self.plugin(Role::Filter)?.with_module(file);
                listener.http_filters.push(plugin.http_filter());
            }
            Self::AccessLog | Self::AccessLogClasses => {
                let plugin = self.plugin(Role::AccessLog)?;
                listener.access_log.push(plugin.access_logger());
            }
            Self::FilterOff | Self::Filter => {
                let plugin = self.plugin(Role::Filter)?;
                listener.http_filters.push(plugin.http_filter());
            }
            Self::Module => {
                let plugin = self.plugin(Role::Filter)?;
                let plugin = plugin.with_module(Module::Native.path()?);
                listener.http_filters.push(plugin.http_filter());
            }
            Self::Lua => listener.http_filters.push(lua_filter(LUA)),
            Self::LuaEqual => listener.http_filters.push(lua_filter(LUA_EQUAL)),
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
        let responses = if self.counts_responses() {
            "class"
        } else {
            "off"
        };
        Ok(Plugin::new(role)?
            .with_aggregator()
            .with("responses", json!(responses))
            .with("direction", json!("inbound"))
            .with("identity", identity))
    }
}
