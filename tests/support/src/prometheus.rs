//! A real Prometheus, asked in `PromQL`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::Process;
use crate::{artifacts, clock, http};

/// Longest time until it is ready.
const START_MAX: Duration = Duration::from_mins(1);

/// A running Prometheus. Killed when dropped.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    address: SocketAddr,
    arguments: Vec<String>,
    directory: TempDir,
}

/// A series of an answer: its labels and its samples, in seconds of Unix time.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Labels, the name among them.
    pub labels: BTreeMap<String, String>,
    pub samples: Vec<(f64, f64)>,
}

// === impl Prometheus ===

impl Prometheus {
    /// Starts it at `address` with the configuration `config` (YAML) and `flags`, and waits until
    /// it is ready.
    pub async fn start(address: SocketAddr, config: &str, flags: &[&str]) -> Result<Self> {
        let binary = artifacts::prometheus()?;
        let directory = tempfile::Builder::new()
            .prefix("meshmeter-prometheus-")
            .tempdir()?;
        let file = directory.path().join("prometheus.yml");
        fs::write(&file, config)?;
        let data = directory.path().join("data");
        let mut arguments = vec![
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", data.display()),
            format!("--web.listen-address={address}"),
        ];
        arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let process = Process::spawn(&binary, &arguments, &[], &directory.path().join("log"))?;
        let mut prometheus = Self {
            process,
            address,
            arguments,
            directory,
        };
        prometheus.wait_ready().await?;
        Ok(prometheus)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process; `None` if it ended.
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// Kills it; its data stay.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.kill().await
    }

    /// Starts it again with its data.
    pub async fn restart(&mut self) -> Result<()> {
        let log = self.directory.path().join("log");
        self.process = Process::spawn(&artifacts::prometheus()?, &self.arguments, &[], &log)?;
        self.wait_ready().await
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let Self {
            process, address, ..
        } = self;
        clock::wait_for("Prometheus to be ready", START_MAX, async || {
            process.check_running()?;
            let page = http::get(*address, "/-/ready").await;
            Ok(page.is_ok_and(|page| page.status == 200).then_some(()))
        })
        .await
    }

    /// The answer to the instant query `promql` now.
    pub async fn query(&self, promql: &str) -> Result<Vec<Series>> {
        let path = format!("/api/v1/query?query={}", escaped(promql));
        let page = http::get_ok(self.address, &path).await?;
        let answer: Value = page.json()?;
        let results = answer["data"]["result"].as_array();
        let results = results.with_context(|| format!("{promql}: {answer}"))?;
        Ok(results.iter().map(series).collect())
    }

    /// The one value of `promql` now; `None` if there is none.
    pub async fn value(&self, promql: &str) -> Result<Option<f64>> {
        let series = self.query(promql).await?;
        Ok(series
            .first()
            .and_then(|series| Some(series.samples.first()?.1)))
    }
}

fn series(result: &Value) -> Series {
    let labels = result["metric"].as_object().into_iter().flatten();
    let labels =
        labels.map(|(name, value)| (name.clone(), value.as_str().unwrap_or("").to_owned()));
    let sample = |pair: &Value| Some((pair[0].as_f64()?, pair[1].as_str()?.parse().ok()?));
    let many = result["values"].as_array().into_iter().flatten();
    Series {
        labels: labels.collect(),
        samples: many.chain(result.get("value")).filter_map(sample).collect(),
    }
}

fn escaped(promql: &str) -> String {
    promql.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() {
            text.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}
