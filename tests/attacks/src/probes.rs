//! Probes as a kubelet sends them: each must be answered, and within a second.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tests_support::http;
use tests_support::stopwatch::{Summary, Times};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// A probe that is not answered within this time is lost, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The kubelet's default timeout.
const WITHIN: Duration = Duration::from_secs(1);
const EVERY: Duration = Duration::from_millis(250);

/// Asks `path` of `address`, where the program `pid` listens, four times a second until `stop`.
pub async fn probe(
    pid: u32,
    address: SocketAddr,
    path: &'static str,
    stop: CancellationToken,
) -> Result<Summary> {
    let mut times = Times::new(pid, WITHIN);
    while !stop.is_cancelled() {
        let lap = times.begin();
        let asked = timeout(PATIENCE, http::get_ok(address, path)).await;
        asked.with_context(|| format!("{path}: no answer within {PATIENCE:?}"))??;
        times.end(&lap);
        sleep(EVERY).await;
    }
    times.judge(path)
}
