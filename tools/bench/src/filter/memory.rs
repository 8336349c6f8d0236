//! Resident memory of Envoys with and without the module, by number of workers.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use tests_support::aggregator::Aggregator;

use super::case::Case;
use super::subject::Subject;
use crate::cpus::Cpus;
use crate::interval::middle;
use crate::load::Load;

/// Numbers of workers that are measured.
pub(super) const WORKERS: [u32; 3] = [1, 2, 4];
/// Envoys per number and case; the middle one counts.
const TIMES: usize = 3;
/// Connections per worker: Envoy shares them out evenly.
const CONNECTIONS_PER_WORKER: u32 = 2;
const REQUESTS: u64 = 2000;

/// Bytes that an Envoy keeps resident, by case and number of workers.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory(BTreeMap<(Case, u32), f64>);

pub(super) async fn run(cpus: Cpus, aggregator: &Aggregator) -> Result<Memory> {
    let mut memory = Memory::default();
    for workers in WORKERS {
        for case in [Case::None].into_iter().chain(Case::MEASURED) {
            let mut values = Vec::new();
            for _ in 0..TIMES {
                let measured = measure(case, workers, cpus, aggregator).await;
                values.push(
                    measured.with_context(|| format!("{}, {workers} workers", case.as_str()))?,
                );
            }
            values.sort_by(f64::total_cmp);
            memory.0.insert((case, workers), middle(&values));
        }
        eprintln!("memory with {workers} workers: done");
    }
    Ok(memory)
}

async fn measure(case: Case, workers: u32, cpus: Cpus, aggregator: &Aggregator) -> Result<f64> {
    let mut subject = Subject::start(case, workers, cpus, aggregator).await?;
    let mut connections = Vec::new();
    for _ in 0..workers * CONNECTIONS_PER_WORKER {
        connections.push(subject.connect()?);
    }
    for connection in &mut connections {
        subject.load(connection, Load::Good, REQUESTS).await?;
    }
    subject.check_counted(aggregator).await?;
    let resident = subject.resident_bytes()?;
    drop(connections);
    subject.stop().await?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    Ok(resident as f64)
}

// === impl Memory ===

impl Memory {
    /// Bytes resident; NaN if it was not measured.
    pub(super) fn resident(&self, case: Case, workers: u32) -> f64 {
        self.0.get(&(case, workers)).copied().unwrap_or(f64::NAN)
    }

    /// Bytes that the module of `case` adds to an Envoy with one worker.
    pub(super) fn first_worker(&self, case: Case) -> f64 {
        self.added(case, WORKERS[0])
    }

    /// Bytes that the module of `case` adds with each further worker.
    pub(super) fn further_worker(&self, case: Case) -> f64 {
        let [first, .., last] = WORKERS;
        (self.added(case, last) - self.added(case, first)) / f64::from(last - first)
    }

    fn added(&self, case: Case, workers: u32) -> f64 {
        self.resident(case, workers) - self.resident(Case::None, workers)
    }
}

#[cfg(test)]
mod tests {
    use super::{Case, Memory};

    /// What each further worker adds is the slope, without what Envoy itself needs for a worker.
    #[test]
    fn envoys_own_memory_falls_out() {
        let mut memory = Memory::default();
        for (workers, none, filter) in [(1, 40.0, 60.0), (2, 45.0, 66.0), (4, 55.0, 78.0)] {
            memory.0.insert((Case::None, workers), none);
            memory.0.insert((Case::Filter, workers), filter);
        }
        assert!((memory.first_worker(Case::Filter) - 20.0).abs() < 1e-9);
        assert!((memory.further_worker(Case::Filter) - 1.0).abs() < 1e-9);
    }
}
