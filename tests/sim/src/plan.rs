//! The plan of a seed: sizes, duration and faults.

use rand::Rng as _;
use rand::rngs::SmallRng;

/// Aggregators of a run at most.
pub(crate) const AGGREGATORS_MAX: usize = 3;
/// Every so many seeds one runs hundreds of sidecars.
const CROWD_EVERY: u64 = 100;
/// Time without faults at the end of a run, in milliseconds: longer than a heartbeat, an
/// acknowledgement that stays out and the longest backoff together.
pub(crate) const HEALING_MS: u64 = 30_000;
/// Traffic goes on for so long after the last fault, in milliseconds.
pub(crate) const TRAFFIC_AFTER_MS: u64 = 5_000;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) pods: usize,
    pub(crate) aggregators: usize,
    /// Length of the part with faults, in milliseconds.
    pub(crate) trouble_ms: u64,
    /// Mean time between faults, in milliseconds.
    pub(crate) fault_every_ms: u64,
    /// Pods a store may hold, if that is limited.
    pub(crate) pods_max: Option<usize>,
    pub(crate) clocks_step: bool,
}

impl Plan {
    pub(crate) fn of(seed: u64, rng: &mut SmallRng) -> Self {
        let crowd = seed % CROWD_EVERY == CROWD_EVERY - 1;
        let pods = if crowd {
            rng.random_range(150..=300)
        } else {
            rng.random_range(6..=20)
        };
        let trouble_ms = if crowd {
            10_000
        } else {
            rng.random_range(20_000..=70_000)
        };
        let calm = rng.random_range(100..=1500);
        Self {
            pods,
            aggregators: rng.random_range(2..=AGGREGATORS_MAX),
            trouble_ms,
            fault_every_ms: if crowd { 50 } else { calm },
            pods_max: rng.random_bool(0.05).then_some(pods / 2),
            clocks_step: rng.random_bool(0.25),
        }
    }
}
