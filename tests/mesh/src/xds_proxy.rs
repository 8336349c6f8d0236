//! A running xDS proxy: the built program, its pages, its log.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::json;
use tempfile::TempDir;
use tests_support::artifacts;
use tests_support::http;
use tests_support::process::Process;

use super::{Modules, NAMESPACE, STOP_MAX, addresses_of};

#[derive(Debug)]
pub struct XdsProxy {
    process: Process,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    log: PathBuf,
    pub xds: SocketAddr,
    admin: SocketAddr,
    folder: TempDir,
}

// === impl XdsProxy ===

impl XdsProxy {
    /// Starts one for the pod `pod`.
    pub async fn start(
        pod: &str,
        control_plane: SocketAddr,
        aggregator: SocketAddr,
        modules: &Modules,
    ) -> Result<Self> {
        let (app, version) = pod.split_once('-').unwrap_or((pod, "v1"));
        let labels = json!({"identity": {"labels": {"app": app, "version": version}}});
        let mut arguments = vec![
            format!("--upstream=http://{control_plane}"),
            format!("--filter-wasm={}", modules.filter.display()),
            // By name, as in a cluster: each Envoy resolves it by the cluster type it knows.
            format!("--aggregator=localhost:{}", aggregator.port()),
            "--direction=both".to_owned(),
            format!("--plugin-config={labels}"),
            format!("--pod-namespace={NAMESPACE}"),
            format!("--pod-name={pod}"),
            format!("--pod-uid=uid-{pod}"),
            "--node-name=node-1".to_owned(),
        ];
        let log_wasm = modules.log.iter();
        arguments.extend(log_wasm.map(|log| format!("--log-wasm={}", log.display())));
        Self::spawn(arguments, &[]).await
    }

    /// Starts one with these flags, and those that make it found.
    pub async fn spawn(flags: Vec<String>, environment: &[(&str, &str)]) -> Result<Self> {
        let folder = TempDir::new()?;
        let mut arguments = vec![
            "xds-proxy".to_owned(),
            "--admin-listen=127.0.0.1:0".to_owned(),
            format!(
                "--addresses-file={}",
                folder.path().join("addresses.json").display()
            ),
        ];
        arguments.extend(flags);
        let environment = environment.iter();
        let environment: Vec<_> = environment
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let log = folder.path().join("log");
        let mut started = arguments.clone();
        started.push("--listen=127.0.0.1:0".to_owned());
        let mut process = Process::spawn(&artifacts::mesh()?, &started, &environment, &log)?;
        let file = folder.path().join("addresses.json");
        let listens = addresses_of(&mut process, &file).await?;
        let address = |key: &str| -> Result<SocketAddr> {
            Ok(listens[key].as_str().context("an address")?.parse()?)
        };
        Ok(Self {
            xds: address("xds")?,
            admin: address("admin")?,
            process,
            arguments,
            environment,
            log,
            folder,
        })
    }

    /// Kills it without warning.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.kill().await
    }

    /// Starts it again at the same address.
    pub async fn restart(&mut self) -> Result<()> {
        let file = self.folder.path().join("addresses.json");
        fs::remove_file(&file)?;
        let mut arguments = self.arguments.clone();
        arguments.push(format!("--listen={}", self.xds));
        self.process = Process::spawn(
            &artifacts::mesh()?,
            &arguments,
            &self.environment,
            &self.log,
        )?;
        let listens = addresses_of(&mut self.process, &file).await?;
        self.admin = listens["admin"].as_str().context("an address")?.parse()?;
        Ok(())
    }

    /// Ends it in order.
    pub async fn terminate(&mut self) -> Result<()> {
        self.process.terminate(STOP_MAX).await.map(drop)
    }

    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// Status and body of `/readyz`.
    pub async fn readiness(&self) -> Result<(u16, String)> {
        let page = http::get(self.admin, "/readyz").await?;
        Ok((page.status.as_u16(), page.text()))
    }

    /// What it counts under `name`, with labels if it has any; 0 if nothing.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let page = http::get_ok(self.admin, "/metrics").await?.text();
        let prefix = format!("meshmeter_mesh_xds_proxy_{name} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&prefix));
        Ok(line.and_then(|value| value.parse().ok()).unwrap_or(0.0))
    }
}
