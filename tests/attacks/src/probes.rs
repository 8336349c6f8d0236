//! Probes as a kubelet sends them: each must be answered.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tests_support::{clock, http};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// A kubelet waits a second by default. On a machine that gives the program a tenth of a processor
/// everything takes ten times as long, so the outcome says how long it took, and only what is lost
/// is an error.
pub const PATIENCE: Duration = Duration::from_secs(30);
const EVERY: Duration = Duration::from_millis(250);

/// Probes that go on until asked for their outcome.
#[derive(Debug)]
pub struct Probes {
    stop: CancellationToken,
    task: JoinHandle<Result<Outcome>>,
}

/// What came of the probes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    pub answered: usize,
    pub slowest: Duration,
}

// === impl Probes ===

impl Probes {
    /// Asks `path` of `address` four times a second.
    pub fn start(address: SocketAddr, path: &'static str) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut outcome = Outcome::default();
            while !stopped.is_cancelled() {
                let begun = clock::now();
                let asked = timeout(PATIENCE, http::get_ok(address, path)).await;
                asked.with_context(|| format!("{path}: no answer within {PATIENCE:?}"))??;
                outcome.answered += 1;
                outcome.slowest = outcome.slowest.max(begun.elapsed());
                sleep(EVERY).await;
            }
            Ok(outcome)
        });
        Self { stop, task }
    }

    /// Ends; fails if one was not answered in time.
    pub async fn finish(self) -> Result<Outcome> {
        self.stop.cancel();
        self.task.await?
    }
}
