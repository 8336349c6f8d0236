//! The path that meshmeter replaces: Envoy's own counter, scraped every 15 s by a real Prometheus,
//! read as `rate[1m]`.
//!
//! When a scrape falls after the step is chance. So each Envoy is scraped under twenty labels, and
//! with that at twenty phases of the interval: one step gives twenty times.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests_support::http;
use tests_support::prometheus::{Prometheus as Server, Series};

use crate::group::{Group, PODS, Step};

const PHASES: usize = 20;
const READ_EVERY: Duration = Duration::from_millis(250);
/// The window of `kube-prometheus` and of the walkthrough's rule.
const SCRAPE_INTERVAL: &str = "15s";
const RATE_WINDOW: &str = "1m";

pub(crate) struct Prometheus(Server);

// === impl Prometheus ===

impl Prometheus {
    /// Starts it, scraping `envoys`.
    pub(crate) async fn start(envoys: &[SocketAddr]) -> Result<Self> {
        let address = tests_envoy::free_address()?;
        Ok(Self(
            Server::start(address, &configuration(envoys), &[]).await?,
        ))
    }

    /// Runs one step and returns, per scrape phase, the time until it was visible.
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
            "sum by (phase)(rate(envoy_cluster_upstream_rq_total{{envoy_cluster_name=\"good\"}}[{RATE_WINDOW}]))"
        );
        let results = self.0.query(&query).await?;
        let one = |mut series: Series| {
            let rate = series.samples.first()?.1;
            #[expect(clippy::cast_precision_loss, reason = "three pods")]
            let pods = PODS as f64;
            Some((series.labels.remove("phase")?, rate / pods))
        };
        Ok(results.into_iter().filter_map(one).collect())
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
