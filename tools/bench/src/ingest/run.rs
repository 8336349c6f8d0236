//! One measurement: start a server, connect the sidecars, read the accounts.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tests_support::clock;
use tests_support::process::Process;

use super::Programs;
use crate::cpus::{self, Cpus};
use crate::usage;

/// Longest wait for a server to listen or for senders to connect.
const PATIENCE: Duration = Duration::from_mins(1);
/// From all connected to the first reading.
const WARM_UP: Duration = Duration::from_secs(4);
/// Sidecars that saturate a server together.
const SATURATING: u32 = 500;
/// How long saturation is measured: the window of a connection ends it.
const SATURATED: Duration = Duration::from_secs(3);

/// The server that receives the reports.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Subject {
    Aggregator,
    Echo,
}

/// The accounts of a server.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Accounts {
    pub(super) reports_per_s: f64,
    /// Share of one processor that the server used.
    pub(super) cores: f64,
    /// CPU time of a report.
    pub(super) cpu_us_per_report: f64,
    /// Resident memory with all connected.
    pub(super) resident_bytes: u64,
    /// Resident memory before the first connection.
    pub(super) resident_before: u64,
}

struct Running {
    process: Process,
    pid: u32,
    ingest: SocketAddr,
    directory: TempDir,
}

#[derive(Deserialize)]
struct Addresses {
    ingest: SocketAddr,
}

/// So many sidecars, one report a second each.
pub(super) async fn steady(
    programs: &Programs,
    subject: Subject,
    cpus: Cpus,
    sidecars: u32,
    seconds: u32,
) -> Result<Accounts> {
    let time = Duration::from_secs(seconds.into());
    measure(programs, subject, cpus, sidecars, false, WARM_UP, time).await
}

/// As many reports as possible.
pub(super) async fn saturated(
    programs: &Programs,
    subject: Subject,
    cpus: Cpus,
) -> Result<Accounts> {
    measure(
        programs,
        subject,
        cpus,
        SATURATING,
        true,
        Duration::from_millis(500),
        SATURATED,
    )
    .await
}

async fn measure(
    programs: &Programs,
    subject: Subject,
    cpus: Cpus,
    sidecars: u32,
    saturate: bool,
    warm_up: Duration,
    time: Duration,
) -> Result<Accounts> {
    let server = start(programs, subject, cpus).await?;
    let resident_before = usage::resident_bytes(server.pid)?;
    let mut arguments = vec![
        "send".to_owned(),
        format!("--target={}", server.ingest),
        format!("--sidecars={sidecars}"),
        format!("--seconds={}", (warm_up + time).as_secs() + 4),
    ];
    arguments.extend(saturate.then(|| "--saturate".to_owned()));
    let mut senders = Process::spawn(
        &programs.bench,
        &arguments,
        &[],
        &server.directory.path().join("send.log"),
    )?;
    clock::wait_for("the sidecars to connect", PATIENCE, async || {
        senders.check_running()?;
        Ok(last_line(&senders).filter(|line| line[0] + line[2] >= u64::from(sidecars)))
    })
    .await?;
    tokio::time::sleep(warm_up).await;
    let (cpu, begun, acknowledged) = (
        usage::cpu_ns(server.pid)?,
        clock::now(),
        acknowledged(&senders)?,
    );
    tokio::time::sleep(time).await;
    let (cpu, elapsed) = (
        usage::cpu_ns(server.pid)?.saturating_sub(cpu),
        begun.elapsed().as_secs_f64(),
    );
    // The senders' line is up to a second old at both ends.
    let reports = real(acknowledged_after(&senders, acknowledged)?);
    let resident_bytes = usage::resident_bytes(server.pid)?;
    let failed = last_line(&senders).map_or(0, |line| line[2]);
    ensure!(
        failed == 0,
        "{failed} sidecars failed:\n{}",
        senders.log_tail()
    );
    drop(senders);
    drop(server.process);
    let reports = if saturate {
        reports
    } else {
        f64::from(sidecars) * elapsed
    };
    Ok(Accounts {
        reports_per_s: reports / elapsed,
        cores: real(cpu) / 1e9 / elapsed,
        cpu_us_per_report: real(cpu) / 1e3 / reports,
        resident_bytes,
        resident_before,
    })
}

async fn start(programs: &Programs, subject: Subject, cpus: Cpus) -> Result<Running> {
    let directory = tempfile::Builder::new()
        .prefix("meshmeter-bench-")
        .tempdir()?;
    let file = directory.path().join("addresses.json");
    let addresses = format!("--addresses-file={}", file.display());
    let (program, arguments) = match subject {
        Subject::Aggregator => {
            let listen = ["--ingest-listen", "--api-listen", "--admin-listen"]
                .map(|flag| format!("{flag}=127.0.0.1:0"));
            let mut arguments = vec![
                "serve".to_owned(),
                "--standalone".to_owned(),
                "--log-level=warn".to_owned(),
            ];
            arguments.extend(listen);
            (&programs.meshmeter, arguments)
        }
        Subject::Echo => (&programs.bench, vec!["echo".to_owned()]),
    };
    let arguments = [arguments, vec![addresses]].concat();
    let mut process = Process::spawn(
        program,
        &arguments,
        &[],
        &directory.path().join("server.log"),
    )?;
    let ingest = clock::wait_for("the server to listen", PATIENCE, async || {
        process.check_running()?;
        let text = std::fs::read(&file).ok();
        Ok(text
            .and_then(|text| serde_json::from_slice::<Addresses>(&text).ok())
            .map(|found| found.ingest))
    })
    .await?;
    let pid = process.pid().context("the server has ended")?;
    cpus::pin_process(pid, cpus.envoy)?;
    Ok(Running {
        process,
        pid,
        ingest,
        directory,
    })
}

/// The newest whole line of the senders: connected, acknowledged, failed.
fn last_line(senders: &Process) -> Option<[u64; 3]> {
    let log = senders.log();
    let whole = log.rsplit_once('\n')?.0;
    let mut lines = whole.lines().rev();
    lines.find_map(|line| {
        let numbers: Vec<u64> = line
            .split(' ')
            .map_while(|word| word.parse().ok())
            .collect();
        numbers.try_into().ok()
    })
}

fn acknowledged(senders: &Process) -> Result<u64> {
    last_line(senders)
        .map(|line| line[1])
        .context("the senders say nothing")
}

fn acknowledged_after(senders: &Process, before: u64) -> Result<u64> {
    Ok(acknowledged(senders)?.saturating_sub(before))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "accounts of a minute are far below 2^53"
)]
pub(super) fn real(count: u64) -> f64 {
    count as f64
}
