//! What the filter costs inside Envoy.
//!
//! **CPU.** Each round starts a fresh Envoy per case, warms all of them up, and then sends the
//! cases blocks of requests in turn, in an order that rotates, until each has had its sample. The
//! CPU time of all threads of the process around each block, by the kernel's accounting, divided by
//! the number of requests, is the round's value of the case. Rounds are compared in pairs with the
//! Envoy without plugin of the same round: what the machine did in that minute falls out.
//!
//! **Memory.** Resident memory of fresh Envoys with 1, 2 and 4 workers after each worker has
//! served, with and without the module.
//!
//! The modules stream to a real aggregator all the while, and the aggregator must have counted
//! exactly what was sent.

use anyhow::{Context, Result};
use tests_support::aggregator::{self, Aggregator};

use crate::cpus::{self, Cpus};
use crate::interval::VALUES_MIN;
use report::Report;

mod case;
mod memory;
mod report;
mod round;
mod subject;

/// Requests in flight on the one connection.
const IN_FLIGHT: u64 = 50;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print one JSON document instead of a table.
    #[arg(long)]
    json: bool,
    /// Rounds, each with fresh Envoys; more make the intervals narrower.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(VALUES_MIN as i64..=1000))]
    rounds: u32,
    /// Requests per case and round.
    #[arg(long, default_value_t = 60_000, value_parser = clap::value_parser!(u64).range(1000..=10_000_000))]
    requests: u64,
    /// Requests before a case is measured; they also let V8 compile what runs often.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(0..=10_000_000))]
    warm_up: u64,
    /// Leave out the measurement of memory.
    #[arg(long)]
    no_memory: bool,
}

pub(crate) async fn run(args: &Args) -> Result<()> {
    let cpus = Cpus::choose()?;
    // The aggregator and the load inherit this; each Envoy is moved to its own processor.
    cpus::pin_self(cpus.load)?;
    let mut aggregator = Aggregator::start(&aggregator::Options::default()).await?;
    let mut rounds = Vec::new();
    for number in 0..args.rounds {
        let round = round::run(args, cpus, &aggregator, number).await;
        let round = round.with_context(|| format!("round {}", number + 1))?;
        eprintln!("round {} of {}: {round}", number + 1, args.rounds);
        rounds.push(round);
    }
    let memory = if args.no_memory {
        None
    } else {
        Some(memory::run(cpus, &aggregator).await.context("memory")?)
    };
    aggregator.terminate().await?;
    let report = Report::new(args, &rounds, memory)?;
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    Ok(())
}
