//! The scenarios, by the part that fails.

mod aggregator;
mod clocks;
mod counters;
mod envoy;
mod gaps;
mod hot_restart;
mod plugin;
mod vm;

use std::pin::Pin;

use anyhow::Result;

use crate::row::Row;

type Running = Pin<Box<dyn Future<Output = Result<Vec<Row>>>>>;

/// A fault and the function that causes it.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Name for `--scenario`.
    pub name: &'static str,
    pub about: &'static str,
    run: fn(u32) -> Running,
}

// === impl Scenario ===

impl Scenario {
    /// Causes the fault, `rounds` times if it can be repeated.
    pub async fn run(&self, rounds: u32) -> Result<Vec<Row>> {
        (self.run)(rounds).await
    }
}

/// All scenarios, in the order of the table.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "aggregator-sigkill",
        about: "the aggregator is killed and comes back at the same address, again and again",
        run: |rounds| Box::pin(aggregator::killed(rounds)),
    },
    Scenario {
        name: "aggregator-late",
        about: "there is no aggregator when Envoy starts; it comes later",
        run: |_| Box::pin(aggregator::late()),
    },
    Scenario {
        name: "aggregator-black-hole",
        about: "the aggregator's port accepts and never reads; then the aggregator is back",
        run: |_| Box::pin(aggregator::black_hole()),
    },
    Scenario {
        name: "second-aggregator-stalled",
        about: "one of two aggregators accepts and never reads",
        run: |_| Box::pin(aggregator::second_stalled()),
    },
    Scenario {
        name: "envoy-sigterm",
        about: "an Envoy under load ends in order, again and again",
        run: |rounds| Box::pin(envoy::terminated(rounds)),
    },
    Scenario {
        name: "envoy-sigkill",
        about: "an Envoy under load is killed",
        run: |rounds| Box::pin(envoy::killed(rounds.div_ceil(4))),
    },
    Scenario {
        name: "hot-restart",
        about: "an Envoy takes over from another while that one drains",
        run: |_| Box::pin(hot_restart::hot_restart()),
    },
    Scenario {
        name: "gap-cut",
        about: "no connection from the sidecar to the aggregator for 3, 8 and 15 s",
        run: |_| Box::pin(gaps::cut()),
    },
    Scenario {
        name: "gap-aggregator-paused",
        about: "the aggregator's process is stopped for 3, 8 and 15 s",
        run: |_| Box::pin(gaps::paused()),
    },
    Scenario {
        name: "gap-idle",
        about: "no traffic for 20 and 5 s, and traffic again",
        run: |_| Box::pin(gaps::idle()),
    },
    Scenario {
        name: "clock-aggregator",
        about: "the aggregator's wall clock is set by -3, -10, -60, -3600 and +30 s",
        run: |_| Box::pin(clocks::of_aggregator()),
    },
    Scenario {
        name: "clock-envoy",
        about: "Envoy's wall clock is set by +30 and -30 min",
        run: |_| Box::pin(clocks::of_envoy()),
    },
    Scenario {
        name: "listener-update",
        about: "file-based xDS changes plugin configuration, code and routes under load",
        run: |_| Box::pin(plugin::listener_updates()),
    },
    Scenario {
        name: "vm-trap",
        about: "a worker's VM dies (a build for tests only)",
        run: |_| Box::pin(vm::trapped()),
    },
    Scenario {
        name: "retries-dead-upstreams",
        about: "failing, refusing and absent upstreams, with retries",
        run: |_| Box::pin(counters::retries()),
    },
    Scenario {
        name: "reset-counters",
        about: "/reset_counters in the middle of the run",
        run: |_| Box::pin(counters::reset()),
    },
    Scenario {
        name: "stats-matcher",
        about: "the bootstrap's stats_matcher hides the filter's counters",
        run: |_| Box::pin(counters::hidden()),
    },
];
