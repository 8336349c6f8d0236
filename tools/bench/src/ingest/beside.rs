//! Another build of the aggregator, measured in turns with the one that cargo made for this
//! machine.

use std::fmt;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use super::run::{self, Accounts, Subject, real};
use super::{Args, Programs};
use crate::cpus::Cpus;
use crate::interval::Interval;

/// How often the other build was dearer, and by how much.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    sizes: Vec<Size>,
}

#[derive(Debug, Serialize)]
struct Size {
    sidecars: u32,
    cpu_ratio: Option<Interval>,
    memory_ratio: Option<Interval>,
    rounds: Vec<Round>,
}

#[derive(Debug, Serialize)]
struct Round {
    ours: Accounts,
    other: Accounts,
}

/// Measures both at each size, in as many rounds as were asked for; who goes first takes turns.
pub(super) async fn run(
    programs: &Programs,
    other: &Path,
    cpus: Cpus,
    args: &Args,
) -> Result<Report> {
    let other = Programs {
        meshmeter: other.to_owned(),
        bench: programs.bench.clone(),
    };
    let mut sizes = Vec::new();
    for sidecars in &args.sidecars {
        let measure = async |programs| {
            run::steady(programs, Subject::Aggregator, cpus, *sidecars, args.seconds).await
        };
        let mut rounds = Vec::new();
        for number in 0..args.rounds {
            let round = if number % 2 == 0 {
                let ours = measure(programs).await?;
                Round {
                    ours,
                    other: measure(&other).await?,
                }
            } else {
                let other = measure(&other).await?;
                Round {
                    other,
                    ours: measure(programs).await?,
                }
            };
            eprintln!("{sidecars} sidecars: {round:?}");
            rounds.push(round);
        }
        sizes.push(Size::new(*sidecars, rounds));
    }
    Ok(Report { sizes })
}

// === impl Size ===

impl Size {
    fn new(sidecars: u32, rounds: Vec<Round>) -> Self {
        let ratio = |of: fn(&Accounts) -> f64| {
            let ratios = rounds
                .iter()
                .map(|round| of(&round.other) / of(&round.ours));
            Interval::of(&ratios.collect::<Vec<_>>())
        };
        let cpu_ratio = ratio(|accounts| accounts.cpu_us_per_report);
        let memory_ratio = ratio(|accounts| real(accounts.resident_bytes));
        Self {
            sidecars,
            cpu_ratio,
            memory_ratio,
            rounds,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "the other build by this machine's own, medians of rounds with 95 % intervals"
        )?;
        let shown = |ratio: Option<Interval>| {
            ratio.map_or("too few rounds".to_owned(), |ratio| ratio.shown(3, "times"))
        };
        for size in &self.sizes {
            let (cpu, memory) = (shown(size.cpu_ratio), shown(size.memory_ratio));
            writeln!(
                f,
                "{:>9} sidecars: CPU {cpu}, memory {memory}",
                size.sidecars
            )?;
        }
        Ok(())
    }
}
