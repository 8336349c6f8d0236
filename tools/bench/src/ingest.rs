//! What taking in reports costs: CPU per report and memory per sidecar of the real aggregator,
//! beside a bare tonic server with the same HTTP/2 that answers the same frames and does nothing
//! else, in the same rounds.
//!
//! Three processes: the server (aggregator or echo) on a processor of its own, and the senders,
//! each sidecar a TCP connection of its own as Envoy's are, HTTP/2 by hand so that the senders do
//! not weigh more than what is measured. CPU time is the kernel's account of the server's threads.

use std::fmt::Display;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::cpus::{self, Cpus};
use crate::interval::VALUES_MIN;
use pairs::Pair;
use report::Report;
use server::Subject;

mod echo;
mod frames;
mod names;
mod pairs;
mod report;
mod run;
mod send;
mod senders;
mod server;
mod size;
mod storm;

pub(crate) use echo::Args as EchoArgs;
pub(crate) use echo::run as echo;
pub(crate) use send::Args as SendArgs;
pub(crate) use send::run as send;

const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(crate) struct Args {
    /// Print one JSON document instead of a table.
    #[arg(long)]
    json: bool,
    /// Sidecars, one report a second each; may be given several times. Three sizes or more give
    /// the law by which memory grows.
    #[arg(long, value_name = "NUMBER", default_values_t = [1_000, 5_000, 15_000], value_delimiter = ',',
          value_parser = clap::value_parser!(u32).range(1..=150_000))]
    sidecars: Vec<u32>,
    /// How long each size is measured, after a warm-up.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=300))]
    seconds: u32,
    /// Rounds, in each of which both servers are measured.
    #[arg(long, default_value_t = VALUES_MIN, value_parser = rounds)]
    rounds: usize,
    /// Both servers with TLS: the aggregator in a cluster that is played.
    #[arg(long)]
    tls: bool,
    /// No saturation.
    #[arg(long)]
    steady_only: bool,
    /// Instead of all that: restart the aggregator with all sidecars connected, and say how long
    /// it takes until all values are live, what it takes, and how old values get meanwhile.
    #[arg(long, conflicts_with_all = ["rounds", "seconds", "beside", "steady_only"])]
    storm: bool,
    /// Instead of the bare server, measure this build of the aggregator beside the one for this
    /// machine: what `scripts/images` builds is
    /// `target/x86_64-unknown-linux-musl/release/meshmeter`.
    #[arg(long, value_name = "FILE")]
    beside: Option<PathBuf>,
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
    let most = size::raise_files()?;
    let sizes: Vec<u32> = args
        .sidecars
        .iter()
        .map(|asked| fits(*asked, most))
        .collect();
    let cpus = Cpus::choose()?;
    cpus::pin_self(cpus.load)?;
    let programs = Programs::beside_this()?;
    if args.storm {
        return storms(args, &programs, cpus, &sizes).await;
    }
    let other = match &args.beside {
        Some(program) => Subject::Aggregator(program),
        None => Subject::Echo(&programs.bench),
    };
    let pair = Pair {
        bench: &programs.bench,
        ours: Subject::Aggregator(&programs.meshmeter),
        other,
        cpus,
        tls: args.tls,
        rounds: args.rounds,
    };
    let mut measured = Vec::new();
    for sidecars in sizes {
        let time = Duration::from_secs(args.seconds.into());
        measured.push(pair.steady(sidecars, time).await?);
    }
    let saturated = if args.steady_only {
        None
    } else {
        Some(pair.saturated().await?)
    };
    let other = args.beside.as_ref().map_or_else(
        || "a bare tonic server".to_owned(),
        |program| program.display().to_string(),
    );
    let report = Report::new(other, args.tls, measured, saturated).context("too few rounds")?;
    print(args, &report)?;
    ensure!(
        args.beside.is_some() || report.is_within_limits(),
        "a limit was exceeded"
    );
    Ok(())
}

/// As many of `asked` sidecars as open files allow.
fn fits(asked: u32, most: u32) -> u32 {
    if asked > most {
        eprintln!(
            "{asked} sidecars need as many open files in the server, and this machine allows {most} (ulimit -Hn): \
             {most} are measured"
        );
    }
    asked.min(most)
}

async fn storms(args: &Args, programs: &Programs, cpus: Cpus, sizes: &[u32]) -> Result<()> {
    let mut storms = Vec::new();
    for sidecars in sizes {
        let program = &programs.meshmeter;
        let storm = storm::run(&programs.bench, program, cpus, *sidecars, args.tls).await?;
        eprint!("{storm}");
        storms.push(storm);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&storms)?);
    } else {
        for storm in &storms {
            print!("{storm}");
        }
    }
    ensure!(
        storms.iter().all(storm::Storm::is_within_limits),
        "a limit was exceeded"
    );
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
