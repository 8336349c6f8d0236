//! A seeded simulation: the real filter core, the real wire bytes and the real store, under faults.
//!
//! ```text
//! seed -> plan -> world: sidecar (VMs of filter-core) -> network -> aggregator (parse, store)
//!                        oracle (plain lists of requests)     <- check ->
//! ```
//!
//! One clock, one source of chance, so a seed is a run. The oracle is the list of what each VM was
//! given to count.
//!
//! # The stated error of a rate
//!
//! A value `v` over `[a, b]` (`b` its timestamp, `a` a window earlier, both mapped to true time)
//! stands for `v * (b - a)` requests. With `N(x, y)` the oracle's requests after `x` and up to `y`:
//!
//! ```text
//! N(above(a) + E, below(b) - E)  <=  v * (b - a)  <=  N(below(a) - E, above(b) + E)
//! ```
//!
//! - `below(x)` and `above(x)` are the ends of the reports next to `x`, since a report tells how
//!   much a total rose in its interval and not when; they are at least a second apart, since the
//!   store joins shorter intervals. `b` itself is the end of a report, so it stands for both (where
//!   VMs stream for themselves it is the end of a report of one of them only).
//! - `E` is `TICKS` (a worker's last tick before a report, and pauses that the store closes) plus
//!   the shortest way of the frames by which the clocks were compared, plus twice all steps of the
//!   sidecar's clock (an interval that a step falls into is mapped by the old clock at one end and
//!   by the new one at the other).
//! - On the left, what a killed process, a dead VM or `/reset_counters` took along unreported is
//!   not counted.

mod aggregator;
mod check;
mod network;
mod oracle;
mod plan;
pub mod seeds;
mod sidecar;
pub mod storm;
pub mod tally;
mod world;

use thiserror::Error;

use crate::tally::Tally;
use crate::world::World;

/// A bug put between the wire and the store, to show that the simulation finds it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Plant {
    /// Running totals are added up instead of taken as they are.
    AddsTotals,
    /// One report in five is acknowledged and not stored.
    AcksWithoutStoring,
    /// Dead VMs are passed over.
    HidesDeadVms,
}

/// A run broke a promise.
#[derive(Clone, Debug, Error)]
#[error(
    "SIM_SEED={seed}: at {at_ms} ms: {broken}\n  repeat: cargo run -p tests-sim -- --seed {seed} --verbose\n  last events:\n{events}"
)]
pub struct Failure {
    pub seed: u64,
    /// When in the run, in milliseconds.
    pub at_ms: u64,
    pub broken: String,
    /// Log of earlier events.
    pub events: String,
}

/// Runs one seed to its end.
pub fn run(seed: u64, plant: Option<Plant>) -> Result<Tally, Box<Failure>> {
    World::new(seed, plant).run()
}
