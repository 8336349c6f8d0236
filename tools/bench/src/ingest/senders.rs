//! The processes that are the sidecars: as many as the limit of open files asks for.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests_support::clock;
use tests_support::process::Process;

use super::server::Server;
use super::size::SIDECARS_PER_PROCESS;

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) sidecars: u32,
    pub(super) tls: bool,
    /// The next report as soon as the last one is acknowledged.
    pub(super) saturate: bool,
    /// A lost stream is opened again as the filter does it.
    pub(super) reconnect: bool,
    /// From the moment that all are connected.
    pub(super) time: Duration,
}

pub(super) struct Senders(Vec<Process>);

/// The newest line of each process, together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    pub(super) connected: u64,
    pub(super) acknowledged: u64,
    pub(super) failed: u64,
    /// Age of the oldest acknowledged report among all sidecars, in milliseconds.
    pub(super) oldest_ms: u64,
}

// === impl Senders ===

impl Senders {
    pub(super) fn start(bench: &Path, server: &Server, load: Load) -> Result<Self> {
        let mut processes = Vec::new();
        let mut first = 0;
        while first < load.sidecars {
            let count = (load.sidecars - first).min(SIDECARS_PER_PROCESS);
            let log = server.directory.path().join(format!("send-{first}.log"));
            processes.push(Process::spawn(
                bench,
                &arguments(server, load, first, count),
                &[],
                &log,
            )?);
            first += count;
        }
        Ok(Self(processes))
    }

    /// Waits until every sidecar has an acknowledgement or has failed.
    pub(super) async fn connected(&mut self, sidecars: u32, within: Duration) -> Result<()> {
        clock::wait_for("the sidecars to connect", within, async || {
            for process in &mut self.0 {
                process.check_running()?;
            }
            let progress = self.progress();
            Ok((progress.connected + progress.failed >= u64::from(sidecars)).then_some(()))
        })
        .await?;
        self.check()
    }

    /// Fails if a sidecar did.
    pub(super) fn check(&self) -> Result<()> {
        let failed = self.progress().failed;
        let logs: Vec<_> = self.0.iter().map(Process::log_tail).collect();
        ensure!(
            failed == 0,
            "{failed} sidecars failed:\n{}",
            logs.join("\n")
        );
        Ok(())
    }

    pub(super) fn progress(&self) -> Progress {
        let lines = self.0.iter().filter_map(last_line);
        lines.fold(Progress::default(), |sum, line| Progress {
            connected: sum.connected + line[0],
            acknowledged: sum.acknowledged + line[1],
            failed: sum.failed + line[2],
            oldest_ms: sum.oldest_ms.max(line[3]),
        })
    }
}

fn arguments(server: &Server, load: Load, first: u32, count: u32) -> Vec<String> {
    let mut arguments = vec![
        "send".to_owned(),
        format!("--target={}", server.addresses.ingest),
        format!("--first={first}"),
        format!("--sidecars={count}"),
        format!("--seconds={}", load.time.as_secs() + 4),
    ];
    if load.tls {
        let ca = server.directory.path().join("ca.pem");
        arguments.push(format!("--ca-file={}", ca.display()));
    }
    arguments.extend(load.saturate.then(|| "--saturate".to_owned()));
    arguments.extend(load.reconnect.then(|| "--reconnect".to_owned()));
    arguments
}

/// The newest whole line: connected, acknowledged, failed, age of the oldest report.
fn last_line(process: &Process) -> Option<[u64; 4]> {
    let log = process.log();
    let whole = log.rsplit_once('\n')?.0;
    let mut lines = whole.lines().rev();
    lines.find_map(|line| {
        let words = line.split(' ');
        let numbers: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
        numbers.try_into().ok()
    })
}
