//! The path that meshmeter replaces: Envoy's own counter, scraped every 15 s by a real Prometheus, read as `rate[1m]`.
//!
//! When a scrape falls after the step is chance. So each Envoy is scraped under twenty labels, and with that at twenty
//! phases of the interval: one step gives twenty times.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tests_support::process::Process;
use tests_support::{artifacts, clock, http};

use crate::group::{Group, PODS, Step};

/// Scrape phases.
const PHASES: usize = 20;
/// Pause between two queries.
const READ_EVERY: Duration = Duration::from_millis(250);
/// Longest time until it is ready.
const START_MAX: Duration = Duration::from_mins(1);
/// As `kube-prometheus` and the walkthrough's rule have it.
const SCRAPE_INTERVAL: &str = "15s";
const RATE_WINDOW: &str = "1m";

/// A running Prometheus.
pub(crate) struct Prometheus {
    _process: Process,
    address: SocketAddr,
    _directory: TempDir,
}

// === impl Prometheus ===

impl Prometheus {
    /// Starts it, scraping `envoys`.
    pub(crate) async fn start(envoys: &[SocketAddr]) -> Result<Self> {
        let binary = binary()?;
        let directory = tempfile::Builder::new()
            .prefix("meshmeter-prometheus-")
            .tempdir()?;
        let file = directory.path().join("prometheus.yml");
        fs::write(&file, configuration(envoys))?;
        let address = tests_envoy::free_address()?;
        let arguments = [
            format!("--config.file={}", file.display()),
            format!(
                "--storage.tsdb.path={}",
                directory.path().join("data").display()
            ),
            format!("--web.listen-address={address}"),
        ];
        let mut process = Process::spawn(&binary, &arguments, &[], &directory.path().join("log"))?;
        clock::wait_for("Prometheus to be ready", START_MAX, async || {
            process.check_running()?;
            let page = http::get(address, "/-/ready").await;
            Ok(page.is_ok_and(|page| page.status == 200).then_some(()))
        })
        .await?;
        Ok(Self {
            _process: process,
            address,
            _directory: directory,
        })
    }

    /// Brings one step about and returns, per scrape phase, after what time it was visible.
    pub(crate) async fn step(&self, group: &Group, step: Step) -> Result<Vec<Option<Duration>>> {
        let (at, mut running) = group.load(step)?;
        tokio::time::sleep_until(at.into()).await;
        let mut visible: BTreeMap<String, Duration> = BTreeMap::new();
        while visible.len() < PHASES && at.elapsed() < step.after {
            for (phase, rate) in self.rates().await? {
                if rate >= step.threshold() {
                    visible.entry(phase).or_insert_with(|| at.elapsed());
                }
            }
            tokio::time::sleep(READ_EVERY).await;
        }
        while let Some(ended) = running.join_next().await {
            ended.context("a load died")??;
        }
        Ok((0..PHASES)
            .map(|phase| visible.get(&phase.to_string()).copied())
            .collect())
    }

    /// Requests per second per pod, by scrape phase.
    async fn rates(&self) -> Result<Vec<(String, f64)>> {
        let query = format!(
            "sum%20by%20(phase)(rate(envoy_cluster_upstream_rq_total%7Benvoy_cluster_name%3D%22good%22%7D%5B{RATE_WINDOW}%5D))"
        );
        let page = http::get_ok(self.address, &format!("/api/v1/query?query={query}")).await?;
        let answer: Value = page.json()?;
        let results = answer["data"]["result"]
            .as_array()
            .context("the answer has no result")?;
        let one = |result: &Value| {
            let rate: f64 = result["value"][1].as_str()?.parse().ok()?;
            #[expect(clippy::cast_precision_loss, reason = "three pods")]
            let pods = PODS as f64;
            Some((result["metric"]["phase"].as_str()?.to_owned(), rate / pods))
        };
        Ok(results.iter().filter_map(one).collect())
    }
}

fn configuration(envoys: &[SocketAddr]) -> String {
    let mut text = format!(
        "global: {{scrape_interval: {SCRAPE_INTERVAL}, scrape_timeout: 10s}}\nscrape_configs:\n- job_name: envoy\n  metrics_path: /stats/prometheus\n  static_configs:\n"
    );
    for phase in 0..PHASES {
        let targets: Vec<String> = envoys.iter().map(|envoy| format!("'{envoy}'")).collect();
        let _ = writeln!(
            text,
            "  - {{targets: [{}], labels: {{phase: '{phase}'}}}}",
            targets.join(", ")
        );
    }
    // Only what is asked for is kept: this is about time, not about storage.
    text + "  metric_relabel_configs: [{source_labels: [__name__], regex: envoy_cluster_upstream_rq_total, action: keep}]\n"
}

fn binary() -> Result<PathBuf> {
    if let Some(found) = artifacts::on_path("prometheus") {
        return Ok(found);
    }
    let here =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/prometheus/usr/bin/prometheus");
    if !here.exists() {
        bail!("there is no Prometheus: `cargo xtask prometheus` fetches Debian's");
    }
    here.canonicalize().context("find Prometheus")
}

/// Fails early where the port of an Envoy cannot be scraped.
pub(crate) async fn check_scrape(envoys: &[SocketAddr]) -> Result<()> {
    for envoy in envoys {
        ensure!(
            envoy.ip() == Ipv4Addr::LOCALHOST,
            "{envoy} is not on loopback"
        );
        http::get_ok(*envoy, "/stats/prometheus").await?;
    }
    Ok(())
}
