//! A sidecar and a kubelet, on a thread of their own: what attackers do in this process must not
//! hold them up.

use std::thread::JoinHandle;

use anyhow::{Context as _, Result, anyhow};
use tests_support::aggregator::Aggregator;
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;

use crate::probes::Probes;
use crate::sidecar::Sidecar;

/// The pod of the sidecar.
pub const POD: &str = "jazz-1";

/// Both, until asked for their outcome.
#[derive(Debug)]
pub struct WellBehaved {
    stop: CancellationToken,
    thread: JoinHandle<Result<String>>,
}

// === impl WellBehaved ===

impl WellBehaved {
    pub fn start(aggregator: &Aggregator) -> Result<Self> {
        let (ingest, admin) = (aggregator.ingest(), aggregator.admin());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::spawn(move || {
            runtime.block_on(async move {
                let sidecar = Sidecar::start(ingest, POD).await?;
                let probes = Probes::start(admin, "/livez");
                stopped.cancelled().await;
                let sidecar = sidecar.finish().await.context("the well-behaved sidecar")?;
                let probes = probes.finish().await.context("the probes")?;
                Ok(format!("{sidecar:?}, probes: {probes:?}"))
            })
        });
        Ok(Self { stop, thread })
    }

    /// Ends; fails if the sidecar or a probe was not answered in time.
    pub fn finish(self) -> Result<String> {
        self.stop.cancel();
        let outcome = self.thread.join();
        outcome.map_err(|_| anyhow!("the well-behaved panicked"))?
    }
}
