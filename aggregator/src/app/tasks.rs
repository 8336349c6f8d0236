//! The tasks of the program: spawning, watching and stopping.

use std::time::Duration;

use anyhow::anyhow;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

pub(super) struct Tasks {
    pub(super) ingest: Task,
    pub(super) api: Task,
    pub(super) admin: Task,
    pub(super) expiry: Task,
    pub(super) pulse: Task,
    pub(super) reads: Task,
    pub(super) remote_write: Task,
    pub(super) watches: Task,
}

/// A task, and the token that stops it.
pub(super) struct Task {
    pub(super) task: JoinHandle<()>,
    pub(super) stop: CancellationToken,
}

// === impl Tasks ===

impl Tasks {
    /// Waits for a task to end before it was stopped; the error names it.
    pub(super) async fn any_ended(&mut self) -> anyhow::Error {
        tokio::select! {
            ended = &mut self.ingest.task => ended_early("ingest", ended),
            ended = &mut self.api.task => ended_early("API", ended),
            ended = &mut self.admin.task => ended_early("admin", ended),
            ended = &mut self.expiry.task => ended_early("expiry", ended),
            ended = &mut self.pulse.task => ended_early("pulse", ended),
            ended = &mut self.reads.task => ended_early("ledger", ended),
            ended = &mut self.remote_write.task => ended_early("remote write", ended),
            ended = &mut self.watches.task => ended_early("watches", ended),
        }
    }

    /// Stops all tasks in order; each may take `drain`, then it is aborted.
    pub(super) async fn stop(self, drain: Duration) {
        let Self {
            ingest,
            api,
            admin,
            expiry,
            pulse,
            reads,
            remote_write,
            watches,
        } = self;
        ingest.stop("ingest", drain).await;
        // After the ingest, so that the last flush has all reports. It limits itself to `drain`.
        remote_write
            .stop("remote write", drain + Duration::from_secs(1))
            .await;
        // The API limits itself to `drain`; the second is for aborting its connections.
        api.stop("API", drain + Duration::from_secs(1)).await;
        // After the API, so that the last reads are written.
        reads.stop("ledger", drain).await;
        expiry.stop("expiry", drain).await;
        pulse.stop("pulse", drain).await;
        watches.stop("watches", drain).await;
        // Last, so that metrics and health can be read until the end.
        admin.stop("admin", drain).await;
    }
}

// === impl Task ===

impl Task {
    pub(super) fn spawn<F>(make: impl FnOnce(CancellationToken) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = CancellationToken::new();
        Self {
            task: tokio::spawn(make(stop.clone())),
            stop,
        }
    }

    async fn stop(mut self, name: &'static str, deadline: Duration) {
        self.stop.cancel();
        if self.task.is_finished() {
            return;
        }
        if tokio::time::timeout(deadline, &mut self.task)
            .await
            .is_err()
        {
            tracing::warn!(part = name, "cut at shutdown");
            self.task.abort();
        }
    }
}

fn ended_early(part: &'static str, ended: Result<(), JoinError>) -> anyhow::Error {
    match ended {
        Ok(()) => anyhow!("{part} ended unexpectedly"),
        Err(error) => died(part, error),
    }
}

fn died(part: &'static str, error: JoinError) -> anyhow::Error {
    anyhow!(error).context(format!("{part} died"))
}
