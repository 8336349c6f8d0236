//! Counts of injected faults and of simulated events.

use std::collections::BTreeMap;
use std::fmt;

/// Faults of a run.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Fault {
    /// A connection breaks; what is under way may be lost, and either side hears of it late.
    Cut,
    /// Nothing passes between a sidecar and an aggregator for a while; then it comes late, or the
    /// connection breaks.
    Partition,
    /// The way between a sidecar and an aggregator is slow for a while.
    Slow,
    Duplicate,
    /// Frames of an earlier stream arrive again on a new one.
    Replay,
    /// An aggregator accepts and does not read for a while.
    Stall,
    /// An aggregator ends and comes back with an empty store.
    AggregatorRestart,
    /// A sidecar ends in order.
    Terminate,
    Kill,
    /// The plugin gets a new configuration.
    Reconfigure,
    Trap,
    /// Someone calls `/reset_counters`.
    ResetCounters,
    ClockStep,
    /// A sidecar whose metrics a `stats_matcher` hides.
    HiddenMetrics,
}

impl Fault {
    /// Those that strike in the middle of a run.
    pub(crate) const SUDDEN: [Self; 12] = [
        Self::Cut,
        Self::Partition,
        Self::Slow,
        Self::Duplicate,
        Self::Replay,
        Self::Stall,
        Self::AggregatorRestart,
        Self::Terminate,
        Self::Kill,
        Self::Reconfigure,
        Self::Trap,
        Self::ResetCounters,
    ];
}

#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub seeds: u64,
    /// Simulated time, in milliseconds.
    pub simulated_ms: u64,
    /// Requests and attempts that sidecars counted.
    pub requests: u64,
    /// Values compared with the oracle.
    pub values: u64,
    /// Totals compared with the oracle.
    pub totals: u64,
    /// Frames that aggregators took in or refused.
    pub frames: u64,
    pub refused: u64,
    /// Faults that came about, by kind.
    pub faults: BTreeMap<Fault, u64>,
    /// Largest difference between a served value and the oracle over its own interval, as the time
    /// by which the ends of the interval would have to move to explain it, in milliseconds;
    /// sidecars whose clock never stepped.
    pub worst_shift_ms: u64,
    /// Largest share of what the stated error allows that a value used up, 0 to 1.
    pub worst_use: f64,
}

impl Tally {
    /// Adds the sums of `other`.
    pub fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.simulated_ms += other.simulated_ms;
        self.requests += other.requests;
        self.values += other.values;
        self.totals += other.totals;
        self.frames += other.frames;
        self.refused += other.refused;
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
        self.worst_shift_ms = self.worst_shift_ms.max(other.worst_shift_ms);
        self.worst_use = self.worst_use.max(other.worst_use);
    }

    pub(crate) fn note(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = self.simulated_ms / 3_600_000;
        let minutes = self.simulated_ms / 60_000 % 60;
        writeln!(f, "seeds            {}", self.seeds)?;
        writeln!(f, "simulated time   {hours} h {minutes} min")?;
        writeln!(f, "requests         {}", self.requests)?;
        writeln!(f, "frames           {}", self.frames)?;
        writeln!(f, "refused          {}", self.refused)?;
        writeln!(f, "totals compared  {}", self.totals)?;
        writeln!(f, "values compared  {}", self.values)?;
        writeln!(f, "worst value      {} ms off", self.worst_shift_ms)?;
        for (fault, count) in &self.faults {
            writeln!(f, "  {:<20} {count}", format!("{fault:?}"))?;
        }
        Ok(())
    }
}
