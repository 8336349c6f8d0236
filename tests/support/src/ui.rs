//! `meshmeter ui` in front of a standalone aggregator.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::process::Process;
use crate::{artifacts, clock};

const START_MAX: Duration = Duration::from_secs(20);

/// A running proxy; killed when dropped.
#[derive(Debug)]
pub struct Ui {
    /// The link that it printed, up to and with the version of the API group.
    base: String,
    _process: Process,
    _folder: TempDir,
}

// === impl Ui ===

impl Ui {
    /// Starts it for the aggregator whose API is at `api`.
    pub async fn start(api: SocketAddr) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("meshmeter-ui-").tempdir()?;
        let log = folder.path().join("ui.log");
        let args = [
            "ui",
            "--no-open",
            "--insecure-skip-tls-verify",
            "--server",
            &format!("https://{api}"),
        ];
        let args = args.map(str::to_owned);
        let mut process = Process::spawn(&artifacts::meshmeter()?, &args, &[], &log)?;
        let link = clock::wait_for("the link of `meshmeter ui`", START_MAX, async || {
            process.check_running()?;
            let log = process.log();
            let mut lines = log.lines();
            Ok(lines
                .find(|line| line.starts_with("http://"))
                .map(str::to_owned))
        });
        let link = link.await?;
        let base = link
            .strip_suffix("/page")
            .context("the link is one of a page")?;
        Ok(Self {
            base: base.to_owned(),
            _process: process,
            _folder: folder,
        })
    }

    /// The address of `path` below the version of the API group, such as `page/system`.
    pub fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }

    /// What every address of it begins with.
    pub fn base(&self) -> &str {
        &self.base
    }
}
