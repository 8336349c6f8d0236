//! Runs seeds of the simulation on all cores and prints what came of them.
#![expect(clippy::print_stdout, reason = "a command whose output is its purpose")]

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use clap::Parser;
use parking_lot::Mutex;
use tests_sim::tally::Tally;
use tests_sim::{Failure, run, storm};

/// Seeds between two lines of progress.
const PROGRESS_EVERY: u64 = 200;

/// Simulate many sidecars and several aggregators under faults, and hold every promise against an
/// oracle.
#[derive(Debug, Parser)]
struct Args {
    /// Seeds to run.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// First seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Run only this seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Print the sums of the seed, faults by kind, also where it succeeds.
    #[arg(long)]
    verbose: bool,
    /// Run storms of each kind with so many sidecars instead.
    #[arg(long)]
    storm: Option<usize>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let (from, count) = args.seed.map_or((args.from, args.seeds), |seed| (seed, 1));
    if let Some(sidecars) = args.storm {
        return storms(sidecars, from, count);
    }
    let (tally, failures) = run_all(from, count);
    for failure in &failures {
        println!("{failure}");
    }
    if args.seed.is_none() || args.verbose {
        println!("{tally}");
    }
    println!("{} seeds passed, {} failed", tally.seeds, failures.len());
    if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn storms(sidecars: usize, from: u64, count: u64) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for seed in from..from + count {
        for kind in storm::Kind::ALL {
            match storm::run(seed, storm::Plan::new(sidecars, kind)) {
                Ok(outcome) => println!("seed {seed}, {kind:?}: {outcome}"),
                Err(broken) => {
                    println!("{broken}");
                    code = ExitCode::FAILURE;
                }
            }
        }
    }
    code
}

fn run_all(from: u64, count: u64) -> (Tally, Vec<Failure>) {
    let next = AtomicU64::new(0);
    let sums = Mutex::new((Tally::default(), Vec::new()));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return;
                    }
                    let done = run(from + index, None);
                    let mut sums = sums.lock();
                    match done {
                        Ok(tally) => sums.0.add(&tally),
                        Err(failure) => sums.1.push(*failure),
                    }
                    if (index + 1).is_multiple_of(PROGRESS_EVERY) {
                        println!("{} of {count} seeds", index + 1);
                    }
                }
            });
        }
    });
    sums.into_inner()
}
