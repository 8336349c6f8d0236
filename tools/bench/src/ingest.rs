//! What taking in reports costs: CPU per report and memory per sidecar of the real aggregator,
//! beside a bare tonic server that answers the same frames and does nothing else, in the same run.
//!
//! Three processes: the server (aggregator or echo) on a processor of its own, and the senders,
//! each sidecar a TCP connection of its own as Envoy's are, HTTP/2 by hand so that the senders do
//! not weigh more than what is measured. CPU time is the kernel's account of the server's threads.

use std::fmt::Display;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::Serialize;

use crate::cpus::{self, Cpus};
use crate::interval::VALUES_MIN;
use report::Report;

mod beside;
mod echo;
mod frames;
mod report;
mod run;
mod send;

pub(crate) use echo::Args as EchoArgs;
pub(crate) use echo::run as echo;
pub(crate) use send::Args as SendArgs;
pub(crate) use send::run as send;

const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
/// Open files: a connection is one at each end, and both ends inherit this.
const FILES: u64 = 40_000;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print one JSON document instead of a table.
    #[arg(long)]
    json: bool,
    /// Sidecars, one report a second each; may be given several times.
    #[arg(long, value_name = "NUMBER", default_values_t = [1_000, 5_000, 15_000], value_delimiter = ',',
          value_parser = clap::value_parser!(u32).range(1..=30_000))]
    sidecars: Vec<u32>,
    /// How long each size is measured, after a warm-up.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(2..=300))]
    seconds: u32,
    /// Instead of the bare server, measure this build of the aggregator beside the one for this
    /// machine: what `scripts/images` builds is
    /// `target/x86_64-unknown-linux-musl/release/meshmeter`.
    #[arg(long, value_name = "FILE")]
    beside: Option<PathBuf>,
    /// With --beside: rounds, in each of which both are measured.
    #[arg(long, default_value_t = 8, requires = "beside", value_parser = rounds)]
    rounds: usize,
}

fn rounds(text: &str) -> Result<usize> {
    let rounds = text.parse()?;
    ensure!(rounds >= VALUES_MIN, "at least {VALUES_MIN}");
    Ok(rounds)
}

/// Measures and prints; fails if a limit is exceeded. What is measured has to be optimised, so a
/// debug build makes an optimised one and runs that in its place.
pub(crate) async fn run(args: &Args) -> Result<()> {
    if cfg!(debug_assertions) {
        return run_optimised();
    }
    raise_files()?;
    let cpus = Cpus::choose()?;
    cpus::pin_self(cpus.load)?;
    let programs = Programs::beside_this()?;
    if let Some(other) = &args.beside {
        let report = beside::run(&programs, other, cpus, args).await?;
        return print(args, &report);
    }
    let mut sizes = Vec::new();
    for sidecars in &args.sidecars {
        let ours = run::steady(
            &programs,
            run::Subject::Aggregator,
            cpus,
            *sidecars,
            args.seconds,
        )
        .await?;
        let echo =
            run::steady(&programs, run::Subject::Echo, cpus, *sidecars, args.seconds).await?;
        eprintln!("{sidecars} sidecars: {ours:?}; echo {echo:?}");
        sizes.push((*sidecars, ours, echo));
    }
    let ours = run::saturated(&programs, run::Subject::Aggregator, cpus).await?;
    let echo = run::saturated(&programs, run::Subject::Echo, cpus).await?;
    let report = Report::new(&sizes, ours, echo);
    print(args, &report)?;
    ensure!(report.is_within_limits(), "a limit was exceeded");
    Ok(())
}

fn print(args: &Args, report: &(impl Display + Serialize)) -> Result<()> {
    if args.json {
        println!("{}", serde_json::to_string_pretty(report)?);
    } else {
        print!("{report}");
    }
    Ok(())
}

/// The executables of a run.
#[derive(Debug)]
struct Programs {
    meshmeter: PathBuf,
    bench: PathBuf,
}

// === impl Programs ===

impl Programs {
    fn beside_this() -> Result<Self> {
        let bench = std::env::current_exe().context("find this program")?;
        let meshmeter = bench.with_file_name("meshmeter");
        ensure!(
            meshmeter.exists(),
            "{} is missing: cargo build --release -p aggregator",
            meshmeter.display()
        );
        Ok(Self { meshmeter, bench })
    }
}

fn raise_files() -> Result<()> {
    let most = rustix::process::getrlimit(Resource::Nofile).maximum;
    let wanted = most.map_or(FILES, |most| most.min(FILES));
    let limit = Rlimit {
        current: Some(wanted),
        maximum: most,
    };
    setrlimit(Resource::Nofile, limit).context("raise the limit of open files")
}

/// Runs this program again with the same arguments, optimised, and the aggregator with it.
fn run_optimised() -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let build = [
        "build",
        "--quiet",
        "--release",
        "--package",
        "aggregator",
        "--bin",
        "meshmeter",
    ];
    for arguments in [
        &build[..],
        &["run", "--quiet", "--release", "--bin", "bench", "--"],
    ] {
        let mut command = Command::new(&cargo);
        // Where this program was started, its arguments name files.
        command
            .args([arguments[0], "--manifest-path", MANIFEST])
            .args(&arguments[1..]);
        if arguments[0] == "run" {
            command.args(std::env::args_os().skip(1));
        }
        let status = command.status().context("run cargo")?;
        if arguments[0] == "run" || !status.success() {
            // It has said why already.
            std::process::exit(status.code().unwrap_or(1))
        }
    }
    Ok(())
}
