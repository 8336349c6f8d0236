//! What a request costs: host calls and work inside the VM, by role.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Result;
use serde_json::Value;

use crate::envoy::{Envoy, Setup};
use crate::plugin::{Plugin, Role};
use crate::process::Life;
use crate::request::Request;

/// Requests before measuring, so that what happens once has happened.
const WARM_UP: usize = 50;
const MEASURED: u64 = 1000;
/// Callbacks that belong to a request.
const CALLBACKS: [&str; 5] = [
    "proxy_on_context_create",
    "proxy_on_request_headers",
    "proxy_on_log",
    "proxy_on_done",
    "proxy_on_delete",
];

#[derive(Debug, Eq, PartialEq)]
pub struct Cost {
    /// How often it calls what, by callback and function: crossings into the VM are `(callback)`
    /// and `(allocator)`.
    pub calls: BTreeMap<(&'static str, &'static str), u64>,
    /// Work of all its callbacks; 1 is about one instruction.
    pub work: u64,
}

// === impl Cost ===

impl Cost {
    /// Measures a role with a changed configuration.
    ///
    /// # Errors
    /// If the module is missing, or if requests differ in their calls.
    pub fn of(role: Role, change: impl FnOnce(&mut Value)) -> Result<Self> {
        let mut envoy =
            Envoy::start(Setup::new(vec![Plugin::deployed_with(role, change)?]).workers(1))?;
        envoy.run_seconds(1);
        let send = |envoy: &mut Envoy| match role {
            Role::UpstreamLog => envoy.attempt(0, &Request::inbound()),
            Role::Filter | Role::AccessLog => {
                envoy.request(0, &Request::inbound());
            }
        };
        for _ in 0..WARM_UP {
            send(&mut envoy);
        }
        // No time passes, so no tick is in between.
        envoy.reset_calls();
        for _ in 0..MEASURED {
            send(&mut envoy);
        }
        let mut calls = BTreeMap::new();
        for ((life, callback, function), count) in envoy.calls() {
            if life == Life::Live && CALLBACKS.contains(&callback) {
                anyhow::ensure!(count % MEASURED == 0, "{function}: {count} in {MEASURED}");
                calls.insert((callback, function), count / MEASURED);
            }
        }
        let work: u64 = envoy.work().values().sum();
        Ok(Self {
            calls,
            work: work / MEASURED,
        })
    }

    /// Calls of host functions in a callback, with their number.
    pub fn host_calls(&self, callback: &str) -> Vec<(&'static str, u64)> {
        let of = self.calls.iter().filter(|((of, _), _)| *of == callback);
        let host = of.filter(|((_, name), _)| !name.starts_with('('));
        host.map(|((_, name), count)| (*name, *count)).collect()
    }

    pub fn crossings(&self) -> u64 {
        let into = self
            .calls
            .iter()
            .filter(|((_, name), _)| *name == "(callback)");
        into.map(|(_, count)| count).sum()
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((callback, function), count) in &self.calls {
            writeln!(f, "  {callback:<28} {function:<38} {count}")?;
        }
        writeln!(f, "  work {}", self.work)
    }
}
