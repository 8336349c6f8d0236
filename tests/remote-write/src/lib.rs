//! An Envoy, an aggregator that writes each second, and the Prometheus it writes to.

pub mod agent;
pub mod amp;
pub mod pair;
pub mod receiver;
pub mod scraper;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tests_envoy::{Backends, FRONT, plugin, start_envoy};
use tests_support::aggregator::{Aggregator, Options};
use tests_support::envoy::Envoy;
use tests_support::plugin::Role;
use tests_support::prometheus::Prometheus;
use tests_support::{clock, http};

use crate::amp::{Amp, KEY};

/// Longest wait for a value.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// The total of all requests of the one pod.
pub const TOTAL: &str = "sum(envoy_cluster_upstream_rq_total{kubernetes_pod_name=\"app-1\"})";

#[derive(Debug)]
pub struct Rig {
    pub prometheus: Prometheus,
    pub aggregator: Aggregator,
    pub envoy: Envoy,
    /// What stands between them, if anything does.
    pub amp: Option<Amp>,
    options: Options,
    sent: u64,
    _backends: Backends,
    _queue: TempDir,
}

// === impl Rig ===

impl Rig {
    /// Starts all of it, the aggregator writing to Prometheus itself, which takes no sample out of
    /// order.
    pub async fn direct() -> Result<Self> {
        Self::direct_with(&[]).await
    }

    /// The same with further flags of the aggregator.
    pub async fn direct_with(flags: &[&str]) -> Result<Self> {
        Self::start(None, flags, Vec::new()).await
    }

    /// The same for an aggregator with these environment variables.
    pub async fn direct_in(environment: Vec<(String, String)>) -> Result<Self> {
        Self::start(None, &[], environment).await
    }

    /// The same with a fake AMP between them, which has these flags.
    pub async fn amp(flags: &[&str]) -> Result<Self> {
        let key = KEY.map(|(key, value)| (key.to_owned(), value.to_owned()));
        Self::amp_with(flags, key.into()).await
    }

    /// The same for an aggregator that has its credentials by these environment variables.
    pub async fn amp_with(flags: &[&str], environment: Vec<(String, String)>) -> Result<Self> {
        Self::start(Some(flags), &[], environment).await
    }

    async fn start(
        amp: Option<&[&str]>,
        flags: &[&str],
        environment: Vec<(String, String)>,
    ) -> Result<Self> {
        let address = tests_envoy::free_address()?;
        let config = "global: {scrape_interval: 1h}\n";
        let receiver = ["--web.enable-remote-write-receiver"];
        let prometheus = Prometheus::start(address, config, &receiver).await?;
        let queue = TempDir::new()?;
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let amp = match amp {
            None => None,
            Some(flags) => Some(Amp::start(any, address, flags).await?),
        };
        let mut options = Options {
            environment,
            ..Options::default()
        };
        if let Some(amp) = &amp {
            options.flags = flags_of(amp.url(), queue.path());
            let signed = [
                "--remote-write-auth",
                "sigv4",
                "--remote-write-region",
                "us-east-1",
            ];
            options.flags.extend(signed.map(str::to_owned));
        } else {
            let url = format!("http://{address}/api/v1/write");
            options.flags = flags_of(&url, queue.path());
        }
        let further = flags.iter().map(|flag| (*flag).to_owned());
        options.flags.extend(further);
        let aggregator = Aggregator::start(&options).await?;
        options.ingest = aggregator.ingest();
        let backends = Backends::start().await?;
        let plugins = [plugin(Role::Filter)?, plugin(Role::UpstreamLog)?];
        let bootstrap = backends.bootstrap_with(aggregator.ingest(), &plugins)?;
        Ok(Self {
            prometheus,
            aggregator,
            envoy: start_envoy(&bootstrap).await?,
            amp,
            options,
            sent: 0,
            _backends: backends,
            _queue: queue,
        })
    }

    /// Sends `count` requests, one attempt each.
    pub async fn send(&mut self, count: u64) -> Result<()> {
        let front = self.envoy.listener(FRONT)?;
        for _ in 0..count {
            http::get_ok(front, "/").await?;
        }
        self.sent += count;
        Ok(())
    }

    /// Waits until Prometheus has exactly what was sent.
    pub async fn arrives(&self) -> Result<()> {
        let sent = f64::from(u32::try_from(self.sent)?);
        let what = format!("{sent} requests in Prometheus");
        let arrived = clock::wait_for(&what, PATIENCE, async || {
            // It may be down at the moment.
            let value = self.prometheus.value(TOTAL).await.unwrap_or_default();
            if let Some(value) = value {
                ensure!(value <= sent, "{value} in Prometheus, {sent} sent");
            }
            Ok((value == Some(sent)).then_some(()))
        });
        arrived.await.with_context(|| self.aggregator.log_tail())
    }

    /// Kills the aggregator without warning and starts it again, with its queue.
    pub async fn restart_aggregator(&mut self) -> Result<()> {
        self.aggregator.kill().await?;
        self.aggregator = Aggregator::start(&self.options).await?;
        Ok(())
    }

    /// What the aggregator counts under `name`, all labels together; 0 if nothing.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let name = format!("meshmeter_remote_write_{name}");
        Ok(self.aggregator.metric(&name).await?.unwrap_or(0.0))
    }
}

fn flags_of(url: &str, queue: &Path) -> Vec<String> {
    let queue = queue.display().to_string();
    let flags = [
        "--standalone",
        "--remote-write-url",
        url,
        "--remote-write-interval-seconds",
        "1",
        "--remote-write-queue-dir",
        &queue,
        "--remote-write-external-label",
        "cluster=test",
    ];
    flags.map(str::to_owned).into()
}
