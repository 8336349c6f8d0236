//! A real Envoy: started from a configuration, its ports read back, its statistics read, ended by
//! SIGTERM.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use common_time::UnixMillis;
use http::StatusCode;
use http::header::DATE;
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::process::Process;
use crate::{artifacts, clock, http as client};

/// Longest time until Envoy is ready: compiling the Wasm modules takes seconds on a busy machine.
const START_MAX: Duration = Duration::from_mins(1);
/// Longest time from SIGTERM to the end.
const STOP_MAX: Duration = Duration::from_secs(20);

/// Options of Envoy, besides its configuration.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program; `None`: the one that [`artifacts::envoy`] finds.
    pub binary: Option<PathBuf>,
    pub concurrency: u32,
    /// Environment variables of the process, beside the inherited ones.
    pub env: Vec<(String, String)>,
    /// Level of Envoy's own log; the Wasm modules always log from `info`.
    pub log_level: &'static str,
    /// Drain time of a removed listener.
    pub drain_time: Duration,
    /// Whether it may take over from another Envoy, or another from it: `args` then have to name
    /// base id and epoch.
    pub hot_restart: bool,
    pub args: Vec<String>,
}

/// A running Envoy. Killed when dropped.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    directory: TempDir,
    admin: SocketAddr,
    listeners: BTreeMap<String, SocketAddr>,
}

/// Envoy's counters and gauges at one moment, by full name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Stats(BTreeMap<String, u64>);

#[derive(Deserialize)]
struct Listeners {
    #[serde(default)]
    listener_statuses: Vec<ListenerStatus>,
}

#[derive(Deserialize)]
struct ListenerStatus {
    name: String,
    local_address: LocalAddress,
}

#[derive(Deserialize)]
struct LocalAddress {
    socket_address: Option<SocketAddress>,
}

#[derive(Deserialize)]
struct SocketAddress {
    address: String,
    port_value: u16,
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self {
            binary: None,
            concurrency: 2,
            env: Vec::new(),
            log_level: "warning",
            drain_time: Duration::from_secs(1),
            hot_restart: false,
            args: Vec::new(),
        }
    }
}

// === impl Envoy ===

impl Envoy {
    /// Starts Envoy with `config` (a bootstrap as JSON; see [`crate::bootstrap`]) and waits until
    /// it serves.
    pub async fn start(config: &Value, options: &Options) -> Result<Self> {
        let binary = match &options.binary {
            Some(binary) => binary.clone(),
            None => artifacts::envoy()?,
        };
        let directory = tempfile::Builder::new()
            .prefix("meshmeter-envoy-")
            .tempdir()
            .context("make a directory for Envoy")?;
        let file = directory.path().join("envoy.json");
        fs::write(&file, serde_json::to_vec_pretty(config)?).context("write Envoy's bootstrap")?;
        let admin_file = directory.path().join("admin.address");
        let mut process = Process::spawn(
            &binary,
            &arguments(&file, &admin_file, options),
            &options.env,
            &directory.path().join("envoy.log"),
        )?;
        let admin = wait_ready(&mut process, &admin_file).await?;
        let listeners = read_listeners(admin).await?;
        Ok(Self {
            process,
            directory,
            admin,
            listeners,
        })
    }

    /// Where the listener `name` of the configuration really listens.
    pub fn listener(&self, name: &str) -> Result<SocketAddr> {
        self.listeners
            .get(name)
            .copied()
            .with_context(|| format!("no listener `{name}` among {:?}", self.listeners.keys()))
    }

    /// Waits until there is a listener `name`: one of a control plane may come after Envoy is
    /// ready.
    pub async fn wait_listener(&mut self, name: &str) -> Result<SocketAddr> {
        let admin = self.admin;
        self.listeners = clock::wait_for(name, START_MAX, async || {
            let listeners = read_listeners(admin).await?;
            Ok(listeners.contains_key(name).then_some(listeners))
        })
        .await?;
        self.listener(name)
    }

    /// Address of the admin pages.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Process id; `None` after the end.
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// The directory of this Envoy's files. It goes when the value is dropped.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub async fn stats(&self) -> Result<Stats> {
        let page = client::get_ok(self.admin, "/stats?format=text&usedonly").await?;
        Ok(Stats::parse(&page.text()))
    }

    /// All that Envoy and its Wasm modules have logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The last lines of [`Self::log`], for messages.
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    /// Fails, with the end of the log, if Envoy has ended by itself.
    pub fn check_running(&mut self) -> Result<()> {
        self.process.check_running()
    }

    /// Stops its process until [`Self::resume`]; returns when all of it stands still.
    pub async fn pause(&self) -> Result<()> {
        self.process.pause()?;
        self.process.wait_stopped().await
    }

    /// Lets its process go on.
    pub fn resume(&self) -> Result<()> {
        self.process.resume()
    }

    /// Its wall clock, by its responses to clients.
    pub async fn wall(&self) -> Result<UnixMillis> {
        let page = client::get_ok(self.admin, "/ready").await?;
        let date = page.headers.get(DATE).and_then(|date| date.to_str().ok());
        let date = date.context("Envoy's answer has no date")?;
        let date = OffsetDateTime::parse(date, &Rfc2822).context(date.to_owned())?;
        let seconds = u64::try_from(date.unix_timestamp()).context("a date before 1970")?;
        Ok(UnixMillis(seconds * 1000))
    }

    /// Ends Envoy as Kubernetes does (SIGTERM) and waits. Its files stay until the value is
    /// dropped.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        self.process.terminate(STOP_MAX).await
    }

    /// Kills Envoy without warning (SIGKILL).
    pub async fn kill(&mut self) -> Result<()> {
        self.process.kill().await
    }
}

fn arguments(config: &Path, admin_file: &Path, options: &Options) -> Vec<String> {
    let text = |path: &Path| path.display().to_string();
    let mut arguments: Vec<String> = [
        "--config-path",
        &text(config),
        "--admin-address-path",
        &text(admin_file),
        "--concurrency",
        &options.concurrency.to_string(),
        "--drain-time-s",
        &options.drain_time.as_secs().to_string(),
        "--log-level",
        options.log_level,
        "--component-log-level",
        "wasm:info",
        // Access logs are an oracle of the tests: they are to be complete soon.
        "--file-flush-interval-msec",
        "100",
    ]
    .map(str::to_owned)
    .into();
    if !options.hot_restart {
        // No shared memory, so any number of Envoys run side by side and leave nothing behind.
        arguments.push("--disable-hot-restart".to_owned());
    }
    arguments.extend(options.args.iter().cloned());
    arguments
}

async fn wait_ready(process: &mut Process, admin_file: &Path) -> Result<SocketAddr> {
    let start = clock::now();
    loop {
        process.check_running()?;
        if let Some(admin) = read_address(admin_file)
            && let Ok(page) = client::get(admin, "/ready").await
            && page.status == StatusCode::OK
        {
            return Ok(admin);
        }
        if start.elapsed() > START_MAX {
            bail!(
                "Envoy was not ready within {} s:\n{}",
                START_MAX.as_secs(),
                process.log_tail()
            );
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// `None` while the file is not there or not complete.
fn read_address(file: &Path) -> Option<SocketAddr> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

async fn read_listeners(admin: SocketAddr) -> Result<BTreeMap<String, SocketAddr>> {
    let page = client::get_ok(admin, "/listeners?format=json").await?;
    let listeners: Listeners = page.json()?;
    let mut found = BTreeMap::new();
    for status in listeners.listener_statuses {
        if let Some(SocketAddress {
            address,
            port_value,
        }) = status.local_address.socket_address
        {
            let ip = address
                .parse()
                .with_context(|| format!("address of listener `{}`", status.name))?;
            found.insert(status.name, SocketAddr::new(ip, port_value));
        }
    }
    Ok(found)
}

// === impl Stats ===

impl Stats {
    /// Reads the text form of `/stats`. Lines that hold no whole number (histograms) are left out.
    pub fn parse(page: &str) -> Self {
        let line = |line: &str| {
            let (name, value) = line.rsplit_once(": ")?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        };
        Self(page.lines().filter_map(line).collect())
    }

    /// The value of `name`; 0 if Envoy never touched it.
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Names and values in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// `upstream_rq_total` of all clusters but those named, summed: attempts that reached a
    /// connection.
    pub fn upstream_rq_total(&self, but: &[&str]) -> u64 {
        self.iter()
            .filter_map(|(name, value)| {
                let cluster = name
                    .strip_prefix("cluster.")?
                    .strip_suffix(".upstream_rq_total")?;
                (!but.contains(&cluster)).then_some(value)
            })
            .sum()
    }

    /// `downstream_rq_total` of the HTTP connection manager with this stat prefix: requests that
    /// arrived there.
    pub fn downstream_rq_total(&self, stat_prefix: &str) -> u64 {
        self.get(&format!("http.{stat_prefix}.downstream_rq_total"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names with dots and colons, gauges and histograms: only whole numbers are taken, under their
    /// full names.
    #[test]
    fn reads_stats() {
        let stats = Stats::parse(
            "cluster.app.upstream_rq_total: 4\ncluster.agg.upstream_rq_total: 3\n\
             http.in.downstream_rq_total: 7\nlistener.[::1]:80.cx: 2\nhist: P0(nan,1) P100(nan,2)\n",
        );
        assert_eq!(stats.upstream_rq_total(&["agg"]), 4);
        assert_eq!(stats.upstream_rq_total(&[]), 7);
        assert_eq!(stats.downstream_rq_total("in"), 7);
        assert_eq!(stats.get("listener.[::1]:80.cx"), 2);
        assert_eq!(stats.get("hist"), 0);
        assert_eq!(stats.get("absent"), 0);
    }
}
