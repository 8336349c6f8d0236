//! `fake_amp.py`: a receiver with the rules of Amazon Managed Prometheus in front of a real
//! Prometheus. botocore recomputes the signature of every request there.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tests_support::process::Process;
use tests_support::{artifacts, clock};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const START_MAX: Duration = Duration::from_secs(30);

/// The accepted key, as environment variables for the signing program.
pub const KEY: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", "test-key"),
    ("AWS_SECRET_ACCESS_KEY", "test-secret"),
    ("AWS_SESSION_TOKEN", "test-token"),
];

/// A running one. Killed when dropped.
#[derive(Debug)]
pub struct Amp {
    _process: Process,
    address: SocketAddr,
    url: String,
    _directory: TempDir,
}

// === impl Amp ===

impl Amp {
    /// In front of the Prometheus at `prometheus`, at `listen`, with further flags.
    pub async fn start(listen: SocketAddr, prometheus: SocketAddr, flags: &[&str]) -> Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fake_amp.py");
        let mut arguments = vec![
            "-u".to_owned(),
            script.display().to_string(),
            format!("--listen={listen}"),
            format!("--prometheus=http://{prometheus}"),
        ];
        arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let directory = TempDir::new()?;
        let log = directory.path().join("log");
        let mut process = Process::spawn(&artifacts::python()?, &arguments, &[], &log)?;
        let url = clock::wait_for("the fake AMP", START_MAX, async || {
            process.check_running()?;
            let log = process.log();
            let url = log.lines().find(|line| line.starts_with("http://"));
            Ok(url.map(str::to_owned))
        })
        .await?;
        let host = url
            .strip_prefix("http://")
            .and_then(|rest| rest.split('/').next());
        Ok(Self {
            _process: process,
            address: host.context("a host")?.parse()?,
            url,
            _directory: directory,
        })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Each of `faults` is the answer to one request to come.
    pub async fn fail(&self, faults: &Value) -> Result<()> {
        let body = faults.to_string();
        let head = format!(
            "POST /_faults HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.address,
            body.len()
        );
        let mut stream = TcpStream::connect(self.address).await?;
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let first = answer.lines().next().unwrap_or_default();
        ensure!(first.contains(" 20"), "faults: {first}");
        Ok(())
    }
}
