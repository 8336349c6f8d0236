//! How often sidecars are asked to report, by how late the replica runs. Has no clock.
//!
//! It is told once a second how late the replica was at most in that second. Several late seconds
//! in a row stretch the interval by one of [`INTERVALS`], many calm ones take it back; between
//! [`CALM`] and [`LATE`] nothing changes. Where it was late again soon after, the load needs the
//! longer interval: the next attempt to go back waits twice as long.

use std::time::Duration;

/// What sidecars are asked for, one after another; 0: each keeps its own. The promise of a report
/// grows with it, so that no value is held because of it.
pub const INTERVALS: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// A second in which the replica was at least so late is a late one.
pub const LATE: Duration = Duration::from_millis(500);

/// A second in which it was at most so late is a calm one.
pub const CALM: Duration = Duration::from_millis(100);

/// Late seconds in a row before the interval is stretched.
pub const LATE_SECONDS: u32 = 3;

/// Calm seconds in a row before it is taken back by one step.
pub const CALM_SECONDS: u32 = 30;

/// The same where it was late again soon after the last time.
pub const CALM_SECONDS_MAX: u32 = 480;

/// Late again so many seconds after it was taken back is soon.
const SOON: u32 = 60;

#[derive(Debug)]
pub struct Stretch {
    step: usize,
    late: u32,
    calm: u32,
    /// Calm seconds that it takes to go back.
    patience: u32,
    /// Seconds since it was last taken back.
    back_for: u32,
}

// === impl Stretch ===

impl Default for Stretch {
    fn default() -> Self {
        Self {
            step: 0,
            late: 0,
            calm: 0,
            patience: CALM_SECONDS,
            back_for: u32::MAX,
        }
    }
}

impl Stretch {
    /// A second has passed in which the replica was at most so late. Returns the interval to ask
    /// for, one of [`INTERVALS`].
    pub fn second(&mut self, late: Duration) -> Duration {
        self.back_for = self.back_for.saturating_add(1);
        self.late = if late >= LATE { self.late + 1 } else { 0 };
        self.calm = if late <= CALM {
            self.calm.saturating_add(1)
        } else {
            0
        };
        if self.late >= LATE_SECONDS {
            self.late = 0;
            self.stretch();
        } else if self.calm >= self.patience && self.step > 0 {
            self.step -= 1;
            self.calm = 0;
            self.back_for = 0;
        } else if self.step == 0 && self.calm >= CALM_SECONDS_MAX {
            self.patience = CALM_SECONDS;
        }
        self.interval()
    }

    pub fn interval(&self) -> Duration {
        INTERVALS.get(self.step).copied().unwrap_or_default()
    }

    fn stretch(&mut self) {
        if self.step + 1 == INTERVALS.len() {
            return;
        }
        self.step += 1;
        if self.back_for <= SOON {
            self.patience = (self.patience * 2).min(CALM_SECONDS_MAX);
            self.back_for = u32::MAX;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn run(stretch: &mut Stretch, late: Duration, seconds: u32) -> Vec<Duration> {
        (0..seconds).map(|_| stretch.second(late)).collect()
    }

    /// Late for three seconds stretches it, and again; a calm half a minute takes each step back.
    #[test]
    fn stretches_and_goes_back() {
        let mut stretch = Stretch::default();
        assert_eq!(run(&mut stretch, ms(2000), 2), [INTERVALS[0]; 2]);
        assert_eq!(stretch.second(ms(0)), INTERVALS[0], "a hiccup");
        assert_eq!(run(&mut stretch, ms(500), 3)[2], INTERVALS[1]);
        assert_eq!(run(&mut stretch, ms(500), 3)[2], INTERVALS[2]);
        assert_eq!(run(&mut stretch, ms(60_000), 100)[99], INTERVALS[2]);
        // Neither late nor calm changes nothing.
        assert_eq!(run(&mut stretch, ms(300), 1000)[999], INTERVALS[2]);
        let back = run(&mut stretch, ms(100), 60);
        assert_eq!((back[28], back[29]), (INTERVALS[2], INTERVALS[1]));
        assert_eq!((back[58], back[59]), (INTERVALS[1], INTERVALS[0]));
    }

    /// A replica that is late without stretching and calm with it goes back ever less often, and
    /// never stays stretched for good.
    #[test]
    fn a_load_that_needs_it_does_not_swing() {
        for needed in INTERVALS.into_iter().skip(1) {
            let mut stretch = Stretch::default();
            let mut changes = 0;
            for _ in 0..3600 {
                let before = stretch.interval();
                let late = if before >= needed { ms(20) } else { ms(1500) };
                stretch.second(late);
                changes += u32::from(stretch.interval() != before);
            }
            assert!(changes <= 40, "{needed:?}: {changes} changes in an hour");
            let calm = 2 * CALM_SECONDS_MAX;
            assert_eq!(run(&mut stretch, ms(0), calm).last(), Some(&INTERVALS[0]));
        }
    }

    proptest! {
        /// However late it is: one step at a time, not within three seconds of the one before, and
        /// back at 0 after a calm time that is known.
        #[test]
        fn bounded(lates in prop::collection::vec((0_u64..1500, 1_u32..200), 0..60)) {
            let mut stretch = Stretch::default();
            let (mut since, mut before) = (u32::MAX, 0);
            for (late, seconds) in lates {
                for _ in 0..seconds {
                    let interval = stretch.second(ms(late));
                    let step = INTERVALS.iter().position(|known| *known == interval);
                    prop_assert!(step.is_some(), "{:?}", interval);
                    let step = step.unwrap();
                    since = since.saturating_add(1);
                    if step != before {
                        prop_assert!(step.abs_diff(before) == 1 && since >= LATE_SECONDS);
                        (since, before) = (0, step);
                    }
                }
            }
            let steps = u32::try_from(INTERVALS.len() - 1).unwrap();
            let calm = run(&mut stretch, ms(0), steps * CALM_SECONDS_MAX);
            prop_assert_eq!(calm.last(), Some(&Duration::ZERO));
        }
    }
}
