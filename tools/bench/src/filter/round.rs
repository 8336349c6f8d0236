//! One round: a fresh Envoy per case, loaded in turns.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result};
use tests_support::aggregator::Aggregator;

use super::Args;
use super::case::Case;
use super::subject::Subject;
use crate::cpus::Cpus;

/// Blocks that a sample is made of: the finer the turns, the less a disturbance of the machine
/// meets one case alone.
const BLOCKS: u64 = 10;

/// CPU time per request of each case, in nanoseconds.
#[derive(Debug, Clone)]
pub(super) struct Round(BTreeMap<Case, f64>);

/// Runs round `number`.
pub(super) async fn run(
    args: &Args,
    cpus: Cpus,
    aggregator: &Aggregator,
    number: u32,
) -> Result<Round> {
    let mut subjects = Vec::new();
    for case in turn(number) {
        let started = Subject::start(case, 1, cpus, aggregator).await;
        let mut subject = started.with_context(|| case.as_str())?;
        let mut connection = subject.connect()?;
        subject.load(&mut connection, args.warm_up).await?;
        subjects.push((subject, connection, 0));
    }
    let block = args.requests.div_ceil(BLOCKS);
    for turn in 0..BLOCKS {
        // Forth and back, so that no case always follows the same one.
        let order: Vec<usize> = if turn % 2 == 0 {
            (0..subjects.len()).collect()
        } else {
            (0..subjects.len()).rev().collect()
        };
        for index in order {
            let (subject, connection, spent) = &mut subjects[index];
            *spent += subject.load(connection, block).await?;
        }
    }
    let mut values = BTreeMap::new();
    for (subject, connection, spent) in subjects {
        values.insert(subject.case(), per_request(spent, block * BLOCKS));
        subject.check_counted(aggregator).await?;
        drop(connection);
        subject.stop().await?;
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

// === impl Round ===

impl Round {
    /// CPU time per request, in nanoseconds.
    pub(super) fn cpu_ns(&self, case: Case) -> f64 {
        self.0.get(&case).copied().unwrap_or(f64::NAN)
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (case, ns) in &self.0 {
            write!(f, "{} {ns:.0} ns  ", case.as_str())?;
        }
        Ok(())
    }
}
