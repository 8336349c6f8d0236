//! The built programs: their help, and their own metrics while they run.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tempfile::TempDir;
use tests_support::kubernetes::ApiServer;
use tests_support::kubernetes::ca::CertificateAuthority;
use tests_support::process::Process;
use tests_support::{artifacts, clock, http};

use crate::exposition::{self, Metric};
use crate::flags::Help;

/// Longest time until a program listens.
const START_MAX: Duration = Duration::from_mins(1);
const NOWHERE: &str = "http://127.0.0.1:1";

common_names::named! {
    pub enum Program {
        /// `meshmeter`.
        Aggregator = "meshmeter",
        /// `meshmeter-mesh`.
        Mesh = "meshmeter-mesh",
    }
}

common_names::named! {
    /// What runs and has metrics of its own.
    pub enum Part {
        /// `meshmeter serve` in a cluster, with remote write.
        Aggregator = "aggregator",
        /// `meshmeter-mesh xds-proxy`.
        XdsProxy = "xds-proxy",
        /// `meshmeter-mesh control-plane`.
        ControlPlane = "control-plane",
        /// `meshmeter-mesh injector`.
        Injector = "injector",
    }
}

// === impl Program ===

impl Program {
    fn file(self) -> Result<PathBuf> {
        match self {
            Self::Aggregator => artifacts::meshmeter(),
            Self::Mesh => artifacts::mesh(),
        }
    }

    /// The help of every command, by its whole name.
    pub fn commands(self) -> Result<Vec<(String, Help)>> {
        let mut commands = Vec::new();
        let mut ahead = vec![Vec::new()];
        while let Some(words) = ahead.pop() {
            let help = self.help(&words)?;
            // In their own order, what is below a command before what is beside it.
            for command in help.commands.iter().rev() {
                let mut below = words.clone();
                below.push(command.clone());
                ahead.push(below);
            }
            let name = [self.as_str()]
                .into_iter()
                .chain(words.iter().map(String::as_str));
            commands.push((name.collect::<Vec<_>>().join(" "), help));
        }
        Ok(commands)
    }

    fn help(self, words: &[String]) -> Result<Help> {
        let mut command = std::process::Command::new(self.file()?);
        // Without an environment: clap shows what variables hold.
        let output = command.args(words).arg("--help").env_clear().output();
        let output = output.with_context(|| format!("start {}", self.as_str()))?;
        if !output.status.success() {
            bail!("{} {words:?} --help: {}", self.as_str(), output.status);
        }
        Ok(Help::parse(&String::from_utf8_lossy(&output.stdout)))
    }
}

// === impl Part ===

impl Part {
    fn program(self) -> Program {
        match self {
            Self::Aggregator => Program::Aggregator,
            Self::XdsProxy | Self::ControlPlane | Self::Injector => Program::Mesh,
        }
    }

    fn command(self) -> &'static str {
        match self {
            Self::Aggregator => "serve",
            other => other.as_str(),
        }
    }

    /// Its metrics as it starts; none if it has no `--admin-listen`.
    pub async fn metrics(self) -> Result<Vec<Metric>> {
        let folder = TempDir::new()?;
        let cluster = match self {
            Self::XdsProxy => None,
            _ => Some(cluster(folder.path()).await?),
        };
        let mut arguments = self.arguments(folder.path())?;
        let help = self.program().help(&[self.command().to_owned()])?;
        if !help.flags.iter().any(|flag| flag.name == "--admin-listen") {
            return Ok(Vec::new());
        }
        let addresses = folder.path().join("addresses.json");
        arguments.insert(0, self.command().to_owned());
        arguments.extend(listening(&help));
        arguments.push(format!("--addresses-file={}", addresses.display()));
        let log = folder.path().join("log");
        let mut process = Process::spawn(&self.program().file()?, &arguments, &[], &log)?;
        let admin: SocketAddr = clock::wait_for("the addresses", START_MAX, async || {
            process.check_running()?;
            let Ok(text) = fs::read(&addresses) else {
                return Ok(None);
            };
            let addresses: Value = serde_json::from_slice(&text)?;
            // The control plane writes its admin address before it has read the cluster, and has
            // all its metrics only when it listens.
            if matches!(self, Self::ControlPlane) && addresses["xds"].is_null() {
                return Ok(None);
            }
            let admin = addresses["admin"].as_str().context("an address `admin`")?;
            Ok(Some(admin.parse()?))
        })
        .await
        .with_context(|| format!("{} {arguments:?}", self.program().as_str()))?;
        let page = http::get_open_metrics(admin).await?;
        drop(cluster);
        Ok(exposition::parse(&page.text()))
    }

    /// What it cannot do without, and what brings further metrics.
    fn arguments(self, folder: &Path) -> Result<Vec<String>> {
        let pair = |prefix: &str| -> Result<[String; 2]> {
            let ca = CertificateAuthority::new("docs")?;
            let identity = ca.server(&["localhost"])?;
            let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
            fs::write(&certificate, &identity.certificate)?;
            fs::write(&key, &identity.key)?;
            Ok([
                format!("--{prefix}cert-file={}", certificate.display()),
                format!("--{prefix}key-file={}", key.display()),
            ])
        };
        let kubeconfig = format!("--kubeconfig={}", folder.join("kubeconfig").display());
        let mut arguments = match self {
            Self::Aggregator => vec![kubeconfig, format!("--remote-write-url={NOWHERE}/")],
            Self::XdsProxy => vec![
                format!("--upstream={NOWHERE}"),
                "--aggregator=127.0.0.1:1".to_owned(),
                format!("--filter-wasm={}", folder.join("filter.wasm").display()),
            ],
            Self::ControlPlane => vec!["--cluster".to_owned(), kubeconfig],
            Self::Injector => vec![
                kubeconfig,
                "--inject-envoy".to_owned(),
                "--envoy-image=image".to_owned(),
                "--redirect-image=image".to_owned(),
                "--image=image".to_owned(),
                format!("--upstream={NOWHERE}"),
                "--aggregator=127.0.0.1:1".to_owned(),
            ],
        };
        match self {
            Self::Aggregator => {
                arguments.extend(pair("ingest-")?);
                arguments.push("--ingest-identity=token".to_owned());
            }
            Self::Injector => arguments.extend(pair("")?),
            Self::XdsProxy | Self::ControlPlane => {}
        }
        Ok(arguments)
    }
}

/// Every listener on a free port of loopback.
fn listening(help: &Help) -> Vec<String> {
    let names = help.flags.iter().map(|flag| flag.name.as_str());
    let listeners = names.filter(|name| *name == "--listen" || name.ends_with("-listen"));
    listeners
        .map(|name| format!("{name}=127.0.0.1:0"))
        .collect()
}

/// A stand-in for a cluster.
async fn cluster(folder: &Path) -> Result<ApiServer> {
    let server = ApiServer::start().await?;
    server.write_kubeconfig(&folder.join("kubeconfig"))?;
    Ok(server)
}
