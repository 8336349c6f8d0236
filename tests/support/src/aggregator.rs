//! The real aggregator: the built binary in standalone mode, its API as an HPA asks it, its admin
//! pages.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http::StatusCode;
use serde::Deserialize;
use tempfile::TempDir;

pub use self::api::{ApiClient, DescribedObject, MetricList, MetricValue, pods_metric_path};
pub use self::pods::{PodState, Pods, SeriesState};
use crate::process::Process;
use crate::{artifacts, clock, http as client};

mod api;
mod pods;

/// Longest time until the aggregator listens.
const START_MAX: Duration = Duration::from_secs(30);
/// Longest time until it is ready: two flush intervals after listening, and some for a busy
/// machine.
const READY_MAX: Duration = Duration::from_secs(20);
/// Longest time from SIGTERM to the end.
const STOP_MAX: Duration = Duration::from_secs(20);

/// Options of the aggregator.
#[derive(Clone, Debug)]
pub struct Options {
    /// Ingest address; a fixed port is for an aggregator that restarts.
    pub ingest: SocketAddr,
    pub api: SocketAddr,
    /// Whether there is a cluster, and further flags; `--standalone` by default.
    pub flags: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// The pods that exist; without it they are learnt from the streams.
    pub pods_file: Option<PathBuf>,
    pub log_level: &'static str,
    /// The file of the cgroup that it runs in, which takes its pid.
    pub cgroup: Option<PathBuf>,
}

/// A running aggregator. Killed when dropped.
#[derive(Debug)]
pub struct Aggregator {
    process: Process,
    addresses: Addresses,
    api: ApiClient,
    _directory: TempDir,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Addresses {
    ingest: SocketAddr,
    api: SocketAddr,
    admin: SocketAddr,
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self {
            ingest: (Ipv4Addr::LOCALHOST, 0).into(),
            api: (Ipv4Addr::LOCALHOST, 0).into(),
            flags: vec!["--standalone".to_owned()],
            environment: Vec::new(),
            pods_file: None,
            log_level: "info",
            cgroup: None,
        }
    }
}

// === impl Aggregator ===

impl Aggregator {
    /// Starts it and waits until it listens. It says that it is ready two seconds later:
    /// [`Self::wait_ready`].
    pub async fn start(options: &Options) -> Result<Self> {
        let binary = artifacts::meshmeter()?;
        let directory = tempfile::Builder::new()
            .prefix("meshmeter-aggregator-")
            .tempdir()
            .context("make a directory for the aggregator")?;
        let file = directory.path().join("addresses.json");
        let log = directory.path().join("meshmeter.log");
        let mut process = Process::spawn_in(
            options.cgroup.as_deref(),
            &binary,
            &arguments(options, &file),
            &options.environment,
            &log,
        )?;
        let addresses = wait_addresses(&mut process, &file).await?;
        Ok(Self {
            process,
            addresses,
            api: ApiClient::new(addresses.api)?,
            _directory: directory,
        })
    }

    pub fn ingest(&self) -> SocketAddr {
        self.addresses.ingest
    }

    pub fn api_address(&self) -> SocketAddr {
        self.addresses.api
    }

    /// Address of the admin pages.
    pub fn admin(&self) -> SocketAddr {
        self.addresses.admin
    }

    /// A client of the API.
    pub fn api(&self) -> &ApiClient {
        &self.api
    }

    /// Waits until `/readyz` says so.
    pub async fn wait_ready(&self) -> Result<()> {
        clock::wait_for("the aggregator's /readyz", READY_MAX, async || {
            let page = client::get(self.addresses.admin, "/readyz").await?;
            Ok((page.status == StatusCode::OK).then_some(()))
        })
        .await
    }

    /// Its state of each pod.
    pub async fn pods(&self) -> Result<Pods> {
        let page = client::get_ok(self.addresses.admin, "/debug/pods").await?;
        page.json().context("GET /debug/pods")
    }

    /// Its own metric `name`, summed over all label sets; `None` if there is no such line.
    pub async fn metric(&self, name: &str) -> Result<Option<f64>> {
        let page = client::get_ok(self.addresses.admin, "/metrics").await?;
        Ok(sum_of(&page.text(), name))
    }

    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The last lines of [`Self::log`], for messages.
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    /// Fails, with the end of the log, if it has ended by itself.
    pub fn check_running(&mut self) -> Result<()> {
        self.process.check_running()
    }

    /// Stops its process until [`Self::resume`].
    pub fn pause(&self) -> Result<()> {
        self.process.pause()
    }

    /// Lets its process go on.
    pub fn resume(&self) -> Result<()> {
        self.process.resume()
    }

    /// Ends it as Kubernetes does (SIGTERM) and waits.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        self.process.terminate(STOP_MAX).await
    }

    /// Kills it without warning (SIGKILL).
    pub async fn kill(&mut self) -> Result<()> {
        self.process.kill().await
    }
}

fn arguments(options: &Options, addresses: &Path) -> Vec<String> {
    let mut arguments: Vec<String> = [
        "serve",
        "--ingest-listen",
        &options.ingest.to_string(),
        "--api-listen",
        &options.api.to_string(),
        "--admin-listen",
        "127.0.0.1:0",
        "--addresses-file",
        &addresses.display().to_string(),
        "--log-level",
        options.log_level,
    ]
    .map(str::to_owned)
    .into();
    arguments.extend(options.flags.iter().cloned());
    if let Some(file) = &options.pods_file {
        arguments.extend(["--pods-file".to_owned(), file.display().to_string()]);
    }
    arguments
}

async fn wait_addresses(process: &mut Process, file: &Path) -> Result<Addresses> {
    let start = clock::now();
    loop {
        process.check_running()?;
        // The file appears by a rename, so it is complete when it is there.
        if let Ok(text) = fs::read(file) {
            return serde_json::from_slice(&text).context("read the addresses file");
        }
        if start.elapsed() > START_MAX {
            bail!(
                "the aggregator did not listen within {} s:\n{}",
                START_MAX.as_secs(),
                process.log_tail()
            );
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Sum of the lines of the text exposition whose metric name is `name`.
fn sum_of(page: &str, name: &str) -> Option<f64> {
    let value = |line: &str| {
        let rest = line.strip_prefix(name)?;
        if !rest.starts_with(['{', ' ']) {
            return None;
        }
        // Label values of ours hold no spaces.
        rest.split_whitespace()
            .nth(1 - usize::from(rest.starts_with(' ')))?
            .parse::<f64>()
            .ok()
    };
    page.lines()
        .filter_map(value)
        .reduce(|sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of other metrics whose name begins alike do not count; label sets add up; none is not
    /// 0.
    #[test]
    fn sums_metrics() {
        let page =
            "# HELP a_total x\na_total{b=\"c\"} 2\na_total{b=\"d\"} 3\na_total_more 9\ng 4\n";
        assert_eq!(sum_of(page, "a_total"), Some(5.0));
        assert_eq!(sum_of(page, "g"), Some(4.0));
        assert_eq!(sum_of(page, "a"), None);
    }
}
