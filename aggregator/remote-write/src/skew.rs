//! Skew of our clock against the receiver's, from the `Date` of its responses.
//!
//! AWS refuses a signature whose time is more than five minutes off, so requests are signed with
//! the corrected time. Timestamps of samples are never corrected.

use std::time::{Duration, SystemTime};

/// Skew below this is not corrected: `Date` has whole seconds, and responses take time.
const CORRECTED_BEYOND: Duration = Duration::from_secs(30);
/// Weight of the newest observation.
const WEIGHT: f64 = 0.3;
/// An observation this far from the average replaces it: the clock was set.
const JUMP_SECONDS: f64 = 60.0;

/// The receiver's clock minus ours, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Skew {
    seconds: Option<f64>,
}

// === impl Skew ===

impl Skew {
    /// Takes in the `date` of a response to a request `sent` and `received` on our clock.
    pub fn observe(&mut self, sent: SystemTime, received: SystemTime, date: SystemTime) {
        let middle = sent + received.duration_since(sent).unwrap_or_default() / 2;
        let observed = signed(date, middle);
        self.seconds = Some(match self.seconds {
            Some(average) if (observed - average).abs() < JUMP_SECONDS => {
                average + WEIGHT * (observed - average)
            }
            _ => observed,
        });
    }

    /// The average, in seconds; positive if our clock is behind.
    pub fn seconds(&self) -> f64 {
        self.seconds.unwrap_or(0.0)
    }

    /// The time to sign with.
    pub fn corrected(&self, now: SystemTime) -> SystemTime {
        let seconds = self.seconds();
        let offset = Duration::try_from_secs_f64(seconds.abs()).unwrap_or_default();
        if offset <= CORRECTED_BEYOND {
            now
        } else if seconds > 0.0 {
            now + offset
        } else {
            now.checked_sub(offset).unwrap_or(now)
        }
    }
}

fn signed(a: SystemTime, b: SystemTime) -> f64 {
    match a.duration_since(b) {
        Ok(ahead) => ahead.as_secs_f64(),
        Err(behind) => -behind.duration().as_secs_f64(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::Skew;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_clock_that_is_right_enough_is_not_corrected() {
        let mut skew = Skew::default();
        assert_eq!(skew.corrected(at(100)), at(100));
        skew.observe(at(100), at(102), at(110));
        assert_eq!(skew.corrected(at(100)), at(100));
    }

    #[test]
    fn a_clock_that_is_off_is_corrected_either_way() {
        for (shown, expected) in [(1_600, 1_599), (400, 399)] {
            let mut skew = Skew::default();
            skew.observe(at(1_000), at(1_002), at(shown));
            assert_eq!(skew.corrected(at(1_000)), at(expected));
        }
    }

    #[test]
    fn a_clock_that_was_set_is_believed_at_once() {
        let mut skew = Skew::default();
        skew.observe(at(1_000), at(1_000), at(2_000));
        skew.observe(at(2_000), at(2_000), at(2_000));
        assert_eq!(skew.corrected(at(2_000)), at(2_000));
    }
}
