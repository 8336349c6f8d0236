//! The storm: the aggregator restarts with all sidecars connected, and all come back at once.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use tests_support::{clock, http};

use super::run::{CONNECTED_WITHIN, real};
use super::senders::{Load, Senders};
use super::server::{Server, Setting, Subject};
use super::size::memory_limit;
use crate::cpus::Cpus;
use crate::usage;

/// All connected, before the restart.
const CALM: Duration = Duration::from_secs(8);
/// Between two looks at the aggregator, each of which has it count its pods.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The longest storm.
const STORM_MAX: Duration = Duration::from_mins(5);
/// What is still watched once all values are live.
const AFTERMATH: Duration = Duration::from_secs(5);

/// What one storm did.
#[derive(Debug, Serialize)]
pub(super) struct Storm {
    sidecars: u32,
    tls: bool,
    /// From the end of the old process, which the new one follows at once, to its listening.
    listens_after_s: f64,
    /// From the same moment to the last value live again.
    all_live_after_s: f64,
    half_live_after_s: f64,
    /// CPU time of the new process until then.
    cpu_s: f64,
    /// The oldest report that any sidecar had acknowledged last, at the worst moment.
    oldest_value_s: f64,
    memory_peak_bytes: u64,
    memory_limit_bytes: u64,
    memory_before_bytes: u64,
}

/// Restarts the aggregator at `program` with so many sidecars connected.
pub(super) async fn run(
    bench: &Path,
    program: &Path,
    cpus: Cpus,
    sidecars: u32,
    tls: bool,
) -> Result<Storm> {
    let limit = memory_limit(sidecars);
    let setting = Setting {
        cpus,
        tls,
        sidecars,
        memory_limit: limit,
    };
    let mut server = setting.start(Subject::Aggregator(program)).await?;
    let load = Load {
        sidecars,
        tls,
        saturate: false,
        reconnect: true,
        time: CALM + STORM_MAX,
    };
    let mut senders = Senders::start(bench, &server, load)?;
    senders.connected(sidecars, CONNECTED_WITHIN).await?;
    tokio::time::sleep(CALM).await;
    ensure!(
        live(&server).await? == u64::from(sidecars),
        "not all are live before the storm:\n{}",
        server.log_tail()
    );
    let memory_before_bytes = usage::resident_bytes(server.pid)?;
    let begun = clock::now();
    server.restart().await?;
    let listens_after_s = begun.elapsed().as_secs_f64();
    let mut storm = Storm {
        sidecars,
        tls,
        listens_after_s,
        all_live_after_s: 0.0,
        half_live_after_s: 0.0,
        cpu_s: 0.0,
        oldest_value_s: 0.0,
        memory_peak_bytes: 0,
        memory_limit_bytes: limit,
        memory_before_bytes,
    };
    loop {
        let elapsed = begun.elapsed();
        storm.look(&senders);
        let live = live(&server).await.unwrap_or(0);
        if storm.half_live_after_s == 0.0 && 2 * live >= u64::from(sidecars) {
            storm.half_live_after_s = elapsed.as_secs_f64();
        }
        if live == u64::from(sidecars) {
            storm.all_live_after_s = elapsed.as_secs_f64();
            storm.cpu_s = real(usage::cpu_ns(server.pid)?) / 1e9;
            break;
        }
        if elapsed > STORM_MAX {
            bail!(
                "{live} of {sidecars} are live after {} s:\n{}",
                STORM_MAX.as_secs(),
                server.log_tail()
            );
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    tokio::time::sleep(AFTERMATH).await;
    storm.look(&senders);
    storm.memory_peak_bytes = usage::resident_peak_bytes(server.pid)?;
    Ok(storm)
}

/// Pods with a live value.
async fn live(server: &Server) -> Result<u64> {
    let admin = server.addresses.admin.context("no admin pages")?;
    let page = http::get_ok(admin, "/metrics").await?.text();
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix("meshmeter_pods{state=\"live\"} "));
    let count = line.context("no pods by state in /metrics")?;
    count.parse().context("the number of live pods")
}

// === impl Storm ===

impl Storm {
    fn look(&mut self, senders: &Senders) {
        let oldest = real(senders.progress().oldest_ms) / 1e3;
        self.oldest_value_s = self.oldest_value_s.max(oldest);
    }

    pub(super) fn is_within_limits(&self) -> bool {
        self.memory_peak_bytes <= self.memory_limit_bytes
    }
}

impl fmt::Display for Storm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| real(bytes) / 1024.0 / 1024.0;
        writeln!(
            f,
            "storm of {} sidecars, {}: listens after {:.1} s, half live after {:.1} s, all after {:.1} s; {:.1} s of CPU",
            self.sidecars,
            if self.tls { "TLS" } else { "plain" },
            self.listens_after_s,
            self.half_live_after_s,
            self.all_live_after_s,
            self.cpu_s
        )?;
        writeln!(
            f,
            "oldest value meanwhile {:.1} s; memory {:.0} MiB before, {:.0} MiB at most, limit {:.0} MiB{}",
            self.oldest_value_s,
            mib(self.memory_before_bytes),
            mib(self.memory_peak_bytes),
            mib(self.memory_limit_bytes),
            if self.is_within_limits() {
                ""
            } else {
                "  OVER"
            }
        )
    }
}
