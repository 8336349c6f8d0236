//! Virtual time and seeded randomness: a run depends on its seed alone.

use std::time::Duration;

/// 2026-01-01T00:00:00Z, where the virtual system clock begins: 20 454 days.
const EPOCH: Duration = Duration::from_hours(20_454 * 24);

/// The system and the monotonic clock of the emulated machine. Both stand still while a callback
/// runs.
#[derive(Clone, Debug)]
pub struct Clock {
    system: Duration,
    monotonic: Duration,
}

/// A small generator (`SplitMix64`), the same on every machine.
#[derive(Clone, Debug)]
pub struct Random(u64);

// === impl Clock ===

impl Default for Clock {
    fn default() -> Self {
        Self {
            system: EPOCH,
            // A machine that has been up for a day.
            monotonic: Duration::from_hours(24),
        }
    }
}

impl Clock {
    /// Time since the Unix epoch.
    pub fn system(&self) -> Duration {
        self.system
    }

    /// Time since the machine started.
    pub fn monotonic(&self) -> Duration {
        self.monotonic
    }

    /// Lets time pass until the monotonic clock shows `monotonic`; never goes back.
    pub(crate) fn advance_to(&mut self, monotonic: Duration) {
        let passed = monotonic.saturating_sub(self.monotonic);
        self.system += passed;
        self.monotonic += passed;
    }
}

// === impl Random ===

impl Random {
    /// A generator that depends on `seed` alone.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, or 0 when `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next_u64().checked_rem(end).unwrap_or(0)
    }

    /// Fills `out` with random bytes.
    pub fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let bytes = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}
