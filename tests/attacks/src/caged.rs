//! A program of the mesh in its cage.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tempfile::TempDir;
use tests_support::process::Process;
use tests_support::{artifacts, clock, http};

use crate::cage::Cage;

const START_WITHIN: Duration = Duration::from_secs(30);

/// A running `meshmeter-mesh`; ends when dropped.
#[derive(Debug)]
pub struct Caged {
    process: Process,
    /// Where it serves.
    pub port: SocketAddr,
    pub admin: SocketAddr,
    cage: Cage,
    _folder: TempDir,
}

// === impl Caged ===

impl Caged {
    /// Starts it with `arguments`; `port` is how the addresses file calls what it serves.
    pub async fn start(
        limit: u64,
        folder: TempDir,
        port: &str,
        arguments: &[String],
    ) -> Result<Self> {
        let cage = Cage::new(limit);
        let file = folder.path().join("addresses.json");
        let mut all = arguments.to_vec();
        all.extend(["listen", "admin-listen"].map(|flag| format!("--{flag}=127.0.0.1:0")));
        all.push(format!("--addresses-file={}", file.display()));
        let log = folder.path().join("log");
        let procs = cage.procs();
        let binary = artifacts::mesh()?;
        let mut process = Process::spawn_in(procs.as_deref(), &binary, &all, &[], &log)?;
        let listens: Value = clock::wait_for("addresses", START_WITHIN, async || {
            process.check_running()?;
            let text = fs::read(&file).ok();
            Ok(text.map(|text| serde_json::from_slice(&text)).transpose()?)
        })
        .await?;
        let address = |key: &str| -> Result<SocketAddr> {
            Ok(listens[key].as_str().context("an address")?.parse()?)
        };
        Ok(Self {
            port: address(port)?,
            admin: address("admin")?,
            process,
            cage,
            _folder: folder,
        })
    }

    pub fn pid(&self) -> Result<u32> {
        self.process.pid().context("it has ended")
    }

    /// Waits until `/readyz` says so.
    pub async fn wait_ready(&self) -> Result<()> {
        clock::wait_for("/readyz", START_WITHIN, async || {
            let page = http::get(self.admin, "/readyz").await?;
            Ok(page.status.is_success().then_some(()))
        })
        .await
    }

    /// Fails if it has ended or was too large; else its peak, in bytes.
    pub fn check(&mut self, what: &str) -> Result<u64> {
        self.process
            .check_running()
            .with_context(|| what.to_owned())?;
        self.cage
            .check_peak(self.pid()?)
            .with_context(|| what.to_owned())
    }

    /// Lines that it has logged.
    pub fn log_lines(&self) -> usize {
        self.process.log().lines().count()
    }

    pub async fn metric(&self, name: &str) -> Result<f64> {
        let page = http::get_ok(self.admin, "/metrics").await?.text();
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name} ")));
        Ok(line.context("no such metric")?.parse()?)
    }
}
