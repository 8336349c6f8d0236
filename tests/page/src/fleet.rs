//! Many pods on a standalone aggregator: sidecars of `bench send`, a report a second each.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tempfile::TempDir;
use tests_support::aggregator::{Aggregator, Options};
use tests_support::clock;
use tests_support::process::Process;

pub const NAMESPACE: &str = "prod";
/// Workloads of which the pods are, in equal parts.
pub const WORKLOADS: u32 = 50;
/// For all sidecars to connect, on a machine that does much else.
const CONNECTED_WITHIN: Duration = Duration::from_mins(2);

/// The aggregator and its sidecars, ended when dropped.
#[derive(Debug)]
pub struct Fleet {
    pub aggregator: Aggregator,
    senders: Process,
    _folder: TempDir,
}

// === impl Fleet ===

impl Fleet {
    /// Starts both, and waits until all `pods` sidecars have reported; they do so for `time` from
    /// then on.
    pub async fn start(pods: u32, time: Duration) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("meshmeter-fleet-")
            .tempdir()?;
        let pods_file = folder.path().join("pods.json");
        std::fs::write(&pods_file, pods_json(pods))?;
        let options = Options {
            pods_file: Some(pods_file),
            log_level: "warn",
            ..Options::default()
        };
        let aggregator = Aggregator::start(&options).await?;
        let arguments = [
            "send".to_owned(),
            format!("--target={}", aggregator.ingest()),
            format!("--sidecars={pods}"),
            format!("--seconds={}", time.as_secs()),
        ];
        let log = folder.path().join("send.log");
        let senders = Process::spawn(&bench()?, &arguments, &[], &log)?;
        let mut fleet = Self {
            aggregator,
            senders,
            _folder: folder,
        };
        clock::wait_for("the sidecars to connect", CONNECTED_WITHIN, async || {
            fleet.check()?;
            Ok((fleet.counts()[0] >= u64::from(pods)).then_some(()))
        })
        .await?;
        fleet.aggregator.wait_ready().await?;
        Ok(fleet)
    }

    /// Reports that were acknowledged until a second ago.
    pub fn reports(&self) -> u64 {
        self.counts()[1]
    }

    /// Fails if a sidecar or the aggregator has failed.
    pub fn check(&mut self) -> Result<()> {
        self.aggregator.check_running()?;
        self.senders.check_running()?;
        let [_, _, failed] = self.counts();
        let log = || self.senders.log_tail();
        ensure!(failed == 0, "{failed} sidecars failed:\n{}", log());
        Ok(())
    }

    /// The newest whole line of the senders: connected, acknowledged, failed.
    fn counts(&self) -> [u64; 3] {
        let log = self.senders.log();
        let (whole, _) = log.rsplit_once('\n').unwrap_or_default();
        let numbers = |line: &str| -> Option<[u64; 3]> {
            let numbers: Result<Vec<u64>, _> = line.split(' ').map(str::parse).collect();
            numbers.ok()?.try_into().ok()
        };
        whole.lines().rev().find_map(numbers).unwrap_or_default()
    }
}

/// The name of a workload.
pub fn workload(number: u32) -> String {
    format!("shop-{}", number % WORKLOADS)
}

/// The pods by which `bench send` calls itself.
fn pods_json(pods: u32) -> String {
    let pod = |number: u32| {
        let app = workload(number);
        json!({
            "namespace": NAMESPACE, "name": format!("jazz-v1-7d9c8b6f5-{number:05}"),
            "labels": {"app": app, "tier": "a"},
            "owner": {"group": "apps", "kind": "Deployment", "name": app},
        })
    };
    let pods: Vec<_> = (0..pods).map(pod).collect();
    json!({ "pods": pods }).to_string()
}

fn bench() -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("bench");
    let built = program.is_file();
    ensure!(
        built,
        "{} is not there: cargo build --package tools-bench --bin bench makes it",
        program.display()
    );
    Ok(program)
}
