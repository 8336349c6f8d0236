//! A kubelet and one more that does no harm, on a thread of their own: what attackers do in this
//! process must not hold them up.

use std::net::SocketAddr;
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, anyhow};
use tests_support::stopwatch::Summary;
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;

use crate::probes::probe;

/// Both, until asked for their outcome.
#[derive(Debug)]
pub struct WellBehaved<T> {
    stop: CancellationToken,
    thread: JoinHandle<Result<Served<T>>>,
}

#[derive(Debug)]
pub struct Served<T> {
    pub client: T,
    pub livez: Summary,
    pub readyz: Summary,
}

// === impl WellBehaved ===

impl<T: Send + 'static> WellBehaved<T> {
    /// Probes the program `pid` at `admin`, and runs `client`, until it is stopped.
    pub fn start<F>(
        (pid, admin): (u32, SocketAddr),
        client: impl FnOnce(CancellationToken) -> F + Send + 'static,
    ) -> Result<Self>
    where
        F: Future<Output = Result<T>>,
    {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::spawn(move || {
            let probes = |path| probe(pid, admin, path, stopped.clone());
            runtime.block_on(async {
                let (client, live, ready) =
                    tokio::join!(client(stopped.clone()), probes("/livez"), probes("/readyz"));
                Ok(Served {
                    client: client.context("the well-behaved client")?,
                    livez: live.context("probes")?,
                    readyz: ready.context("probes")?,
                })
            })
        });
        Ok(Self { stop, thread })
    }

    /// Ends; fails if the client was not served right, or a probe not in time.
    pub fn finish(self) -> Result<Served<T>> {
        self.stop.cancel();
        let outcome = self.thread.join();
        outcome.map_err(|_| anyhow!("the well-behaved panicked"))?
    }
}
