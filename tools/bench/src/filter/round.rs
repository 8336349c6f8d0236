//! One round: a fresh Envoy per case, loaded in turns.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result};
use tests_support::aggregator::Aggregator;

use super::Args;
use super::case::Case;
use super::subject::Subject;
use crate::cpus::Cpus;
use crate::load::{Connection, Load};

/// Blocks that a sample is made of: the finer the turns, the less a disturbance of the machine
/// meets one case alone.
const BLOCKS: u64 = 10;

/// CPU time per request of each load and case, in nanoseconds.
#[derive(Debug, Clone)]
pub(super) struct Round(BTreeMap<(Load, Case), f64>);

/// An Envoy in a round, its connection, and the CPU time that it took for each load.
struct Running {
    subject: Subject,
    connection: Connection,
    spent: BTreeMap<Load, u64>,
}

/// Runs round `number`.
pub(super) async fn run(
    args: &Args,
    cpus: Cpus,
    aggregator: &Aggregator,
    number: u32,
) -> Result<Round> {
    let mut running = Vec::new();
    for case in turn(number) {
        let started = Subject::start(case, 1, cpus, aggregator).await;
        let mut subject = started.with_context(|| case.as_str())?;
        let mut connection = subject.connect()?;
        subject
            .load(&mut connection, Load::Mixed, args.warm_up)
            .await?;
        running.push(Running {
            subject,
            connection,
            spent: BTreeMap::new(),
        });
    }
    let block = args.requests.div_ceil(BLOCKS);
    for turn in 0..BLOCKS {
        for load in Load::ALL {
            // Forth and back, so that no case always follows the same one.
            let mut order: Vec<&mut Running> = running.iter_mut().collect();
            if turn % 2 == 1 {
                order.reverse();
            }
            for running in order {
                running.take_turn(load, block).await?;
            }
        }
    }
    let mut values = BTreeMap::new();
    for ended in running {
        let case = ended.subject.case();
        for (load, spent) in ended.spent {
            values.insert((load, case), per_request(spent, block * BLOCKS));
        }
        ended.subject.check_counted(aggregator).await?;
        drop(ended.connection);
        ended.subject.stop().await?;
    }
    Ok(Round(values))
}

/// All cases, beginning with another one in each round.
fn turn(number: u32) -> [Case; Case::ALL.len()] {
    let mut cases = Case::ALL;
    let first = number as usize % cases.len();
    cases.rotate_left(first);
    cases
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn per_request(spent_ns: u64, requests: u64) -> f64 {
    spent_ns as f64 / requests as f64
}

// === impl Running ===

impl Running {
    async fn take_turn(&mut self, load: Load, requests: u64) -> Result<()> {
        let Self {
            subject,
            connection,
            spent,
        } = self;
        *spent.entry(load).or_default() += subject.load(connection, load, requests).await?;
        Ok(())
    }
}

// === impl Round ===

impl Round {
    /// CPU time per request, in nanoseconds.
    pub(super) fn cpu_ns(&self, load: Load, case: Case) -> f64 {
        self.0.get(&(load, case)).copied().unwrap_or(f64::NAN)
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((load, case), ns) in &self.0 {
            if *load == Load::Good {
                write!(f, "{} {ns:.0} ns  ", case.as_str())?;
            }
        }
        Ok(())
    }
}
