//! The servers that are measured: starting one, and starting it again on its port.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use common_budget::Size;
use common_tls::CertificateAuthority;
use serde::Deserialize;
use serde_json::json;
use tempfile::TempDir;
use tests_support::clock;
use tests_support::kubernetes::{ApiServer, POD};
use tests_support::process::Process;

use super::names::{SERVER_NAME, pod_name, pod_uid};
use crate::cpus::{self, Cpus};

/// Longest wait for a server to listen: with TLS the aggregator lists the pods first.
const LISTENS_WITHIN: Duration = Duration::from_mins(1);
/// Longest wait for a server to end that was told to.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// What receives the reports.
#[derive(Clone, Copy, Debug)]
pub(super) enum Subject<'a> {
    /// This build of the aggregator.
    Aggregator(&'a Path),
    /// The bare server: this program.
    Echo(&'a Path),
}

/// How servers are started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) cpus: Cpus,
    pub(super) tls: bool,
    pub(super) sidecars: u32,
    /// Memory limit of the aggregator, in bytes.
    pub(super) memory_limit: u64,
}

/// A running server; ends when dropped.
pub(super) struct Server {
    program: PathBuf,
    arguments: Vec<String>,
    cpus: Cpus,
    process: Process,
    pub(super) pid: u32,
    pub(super) addresses: Addresses,
    pub(super) directory: TempDir,
    _cluster: Option<ApiServer>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Addresses {
    pub(super) ingest: SocketAddr,
    /// Of the aggregator alone.
    pub(super) admin: Option<SocketAddr>,
}

// === impl Setting ===

impl Setting {
    /// Starts `subject` and waits until it listens.
    pub(super) async fn start(self, subject: Subject<'_>) -> Result<Server> {
        let directory = tempfile::Builder::new()
            .prefix("meshmeter-bench-")
            .tempdir()?;
        if self.tls {
            issue(directory.path())?;
        }
        let mut cluster = None;
        let (program, mut arguments) = match subject {
            Subject::Echo(program) => (program, vec!["echo".to_owned()]),
            Subject::Aggregator(program) => {
                if self.tls {
                    cluster = Some(self.cluster(directory.path()).await?);
                }
                (program, self.flags())
            }
        };
        arguments.push(format!(
            "--addresses-file={}",
            directory.path().join("addresses.json").display()
        ));
        if self.tls {
            arguments.extend(files(subject, directory.path()));
        }
        let (process, addresses) = launch(program, &arguments, directory.path()).await?;
        let pid = process.pid().context("the server has ended")?;
        cpus::pin_process(pid, self.cpus.envoy)?;
        Ok(Server {
            program: program.to_owned(),
            arguments,
            cpus: self.cpus,
            process,
            pid,
            addresses,
            directory,
            _cluster: cluster,
        })
    }

    fn flags(self) -> Vec<String> {
        let limit = Size::bytes(self.memory_limit);
        let mut flags = vec![
            "serve".to_owned(),
            "--log-level=warn".to_owned(),
            format!("--memory-limit={}", limit.get()),
        ];
        let listen = ["--ingest-listen", "--api-listen", "--admin-listen"];
        flags.extend(listen.map(|flag| format!("{flag}=127.0.0.1:0")));
        flags.push(if self.tls {
            "--ingest-identity=none".to_owned()
        } else {
            "--standalone".to_owned()
        });
        flags
    }

    /// A cluster with all the sidecars' pods.
    async fn cluster(self, directory: &Path) -> Result<ApiServer> {
        let cluster = ApiServer::start().await?;
        for number in 0..self.sidecars {
            let name = pod_name(number);
            let [_, _, b, c] = number.to_be_bytes();
            cluster.objects().apply(
                POD,
                json!({
                    "metadata": {
                        "namespace": "prod",
                        "name": name,
                        "uid": pod_uid(number),
                        "labels": {"app": "jazz", "version": "v1"},
                    },
                    "status": {
                        "phase": "Running",
                        "podIP": Ipv4Addr::new(10, u8::try_from(number >> 16).unwrap_or(0), b, c),
                        "conditions": [{"type": "Ready", "status": "True"}],
                    },
                }),
            );
        }
        cluster.write_kubeconfig(&directory.join("kubeconfig"))?;
        Ok(cluster)
    }
}

// === impl Server ===

impl Server {
    /// Ends it in order and starts it on the port that it had; returns once it listens.
    pub(super) async fn restart(&mut self) -> Result<()> {
        self.process.terminate(ENDS_WITHIN).await?;
        std::fs::remove_file(self.directory.path().join("addresses.json"))?;
        let same = format!("--ingest-listen={}", self.addresses.ingest);
        for argument in &mut self.arguments {
            if argument.starts_with("--ingest-listen=") {
                argument.clone_from(&same);
            }
        }
        let (process, addresses) =
            launch(&self.program, &self.arguments, self.directory.path()).await?;
        self.pid = process.pid().context("the server has ended")?;
        self.process = process;
        self.addresses = addresses;
        cpus::pin_process(self.pid, self.cpus.envoy)
    }

    pub(super) fn log_tail(&self) -> String {
        self.process.log_tail()
    }
}

async fn launch(
    program: &Path,
    arguments: &[String],
    directory: &Path,
) -> Result<(Process, Addresses)> {
    let log = directory.join("server.log");
    let mut process = Process::spawn(program, arguments, &[], &log)?;
    let file = directory.join("addresses.json");
    let addresses = clock::wait_for("the server to listen", LISTENS_WITHIN, async || {
        process.check_running()?;
        let text = std::fs::read(&file).ok();
        Ok(text.and_then(|text| serde_json::from_slice(&text).ok()))
    })
    .await?;
    Ok((process, addresses))
}

/// A certificate of a new CA, as files: `ca.pem`, `tls.crt`, `tls.key`.
fn issue(directory: &Path) -> Result<()> {
    let ca = CertificateAuthority::new("meshmeter-ingest")?;
    let issued = ca.issue(&[SERVER_NAME.to_owned()])?;
    for (name, text) in [
        ("ca.pem", ca.certificate()),
        ("tls.crt", &issued.certificate),
        ("tls.key", &issued.key),
    ] {
        std::fs::write(directory.join(name), text)?;
    }
    Ok(())
}

fn files(subject: Subject<'_>, directory: &Path) -> Vec<String> {
    let flags = match subject {
        Subject::Echo(_) => vec![("--certificate", "tls.crt"), ("--key", "tls.key")],
        Subject::Aggregator(_) => vec![
            ("--kubeconfig", "kubeconfig"),
            ("--ingest-cert-file", "tls.crt"),
            ("--ingest-key-file", "tls.key"),
        ],
    };
    let flags = flags.into_iter();
    let flags = flags.map(|(flag, name)| format!("{flag}={}", directory.join(name).display()));
    flags.collect()
}
