//! One measurement: start a server, connect the sidecars, read the accounts.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use tests_support::clock;

use super::senders::{Load, Senders};
use super::server::{Setting, Subject};
use crate::usage;

/// Longest wait for senders to connect.
pub(super) const CONNECTED_WITHIN: Duration = Duration::from_mins(4);
/// From all connected to the first reading.
const WARM_UP: Duration = Duration::from_secs(4);
/// Sidecars that saturate a server together.
pub(super) const SATURATING: u32 = 500;
/// How long saturation is measured: the window of a connection ends it.
const SATURATED: Duration = Duration::from_secs(3);
/// From all connected to the first reading where a server is saturated.
const SATURATED_WARM_UP: Duration = Duration::from_millis(500);

/// The accounts of a server.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Accounts {
    pub(super) reports_per_s: f64,
    /// Share of one processor that the server used.
    pub(super) cores: f64,
    /// CPU time of a report.
    pub(super) cpu_us_per_report: f64,
    /// Resident memory with all connected.
    pub(super) resident_bytes: u64,
    /// Resident memory before the first connection.
    pub(super) resident_before: u64,
}

/// What is measured of a server.
#[derive(Clone, Copy, Debug)]
pub(super) enum Measure {
    /// One report a second from each sidecar, for so long.
    Steady(Duration),
    /// As many reports as possible.
    Saturated,
}

/// Measures `subject` from its start to its end.
pub(super) async fn measure(
    bench: &Path,
    subject: Subject<'_>,
    setting: Setting,
    what: Measure,
) -> Result<Accounts> {
    let (saturate, warm_up, time) = match what {
        Measure::Steady(time) => (false, WARM_UP, time),
        Measure::Saturated => (true, SATURATED_WARM_UP, SATURATED),
    };
    let server = setting.start(subject).await?;
    let resident_before = usage::resident_bytes(server.pid)?;
    let load = Load {
        sidecars: setting.sidecars,
        tls: setting.tls,
        saturate,
        reconnect: false,
        time: warm_up + time,
    };
    let mut senders = Senders::start(bench, &server, load)?;
    senders
        .connected(setting.sidecars, CONNECTED_WITHIN)
        .await?;
    tokio::time::sleep(warm_up).await;
    let (cpu, begun) = (usage::cpu_ns(server.pid)?, clock::now());
    let acknowledged = senders.progress().acknowledged;
    tokio::time::sleep(time).await;
    let cpu = usage::cpu_ns(server.pid)?.saturating_sub(cpu);
    let elapsed = begun.elapsed().as_secs_f64();
    // The senders' line is up to a second old at both ends.
    let acknowledged = senders.progress().acknowledged.saturating_sub(acknowledged);
    senders.check()?;
    let reports = if saturate {
        real(acknowledged)
    } else {
        f64::from(setting.sidecars) * elapsed
    };
    Ok(Accounts {
        reports_per_s: reports / elapsed,
        cores: real(cpu) / 1e9 / elapsed,
        cpu_us_per_report: real(cpu) / 1e3 / reports,
        resident_bytes: usage::resident_bytes(server.pid)?,
        resident_before,
    })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "accounts of a minute are far below 2^53"
)]
pub(super) fn real(count: u64) -> f64 {
    count as f64
}
