//! Ratios of values to their targets, in the controller's floats.

use crate::fault::{Fault, planted};

/// Relative differences from the target that are none: 0.1 is a tenth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tolerances {
    pub(crate) up: f64,
    pub(crate) down: f64,
}

impl Tolerances {
    pub(crate) fn hold(self, ratio: f64) -> bool {
        if planted(Fault::IgnoresTolerance) {
            return false;
        }
        (1.0 - self.down..=1.0 + self.up).contains(&ratio)
    }

    /// The one of the side that `ratio` lies on.
    pub(crate) fn of(self, ratio: f64) -> f64 {
        if ratio < 1.0 { self.down } else { self.up }
    }
}

/// `value` by `target`; infinite or not a number for a target of 0.
#[expect(
    clippy::cast_precision_loss,
    reason = "the controller divides in the same floats"
)]
pub(crate) fn ratio(value: i128, target: i128) -> f64 {
    value as f64 / target as f64
}

/// `ratio` times `count`, rounded up to replicas.
#[expect(clippy::cast_precision_loss, reason = "a count of pods")]
pub(crate) fn times(ratio: f64, count: i64) -> i64 {
    round_up(ratio * count as f64)
}

/// A number of replicas, rounded up. The controller's count has 32 bits; beyond them it is
/// undefined there, and the highest one here.
#[expect(
    clippy::cast_possible_truncation,
    reason = "whole, and bounded right after; a cast saturates, and makes 0 of what is no number"
)]
pub(crate) fn round_up(replicas: f64) -> i64 {
    let rounded = if planted(Fault::RoundsDown) {
        replicas.floor()
    } else {
        replicas.ceil()
    };
    (rounded as i64).clamp(i64::from(i32::MIN), i64::from(i32::MAX))
}
