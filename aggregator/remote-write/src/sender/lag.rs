//! Lag of the receiver behind the flushes, by monotonic time.

use std::collections::VecDeque;

/// Flushes whose time is kept: over 55 minutes of one per second.
const FLUSHES_MAX: usize = 4096;

/// Times of flushes. Times are seconds since any origin; timestamps are Unix milliseconds.
#[derive(Debug)]
pub(super) struct Lag {
    /// Timestamps and times, in the order of flushing.
    flushes: VecDeque<(i64, f64)>,
    /// When the receiver last stored a sample.
    stored_at: f64,
    /// True while it refuses samples for their timestamps.
    refusing: bool,
    /// The newest timestamp of all flushes.
    highest: i64,
    /// Highest timestamp before the clock was set back; `None` once flushes have passed it.
    stepped_from: Option<i64>,
}

// === impl Lag ===

impl Lag {
    /// `last` is the newest timestamp of earlier processes.
    pub(super) fn new(now: f64, last: Option<i64>) -> Self {
        Self {
            flushes: VecDeque::new(),
            stored_at: now,
            refusing: false,
            highest: last.unwrap_or(i64::MIN),
            stepped_from: None,
        }
    }

    pub(super) fn flushed(&mut self, timestamp: i64, now: f64) {
        if timestamp <= self.highest {
            if self.stepped_from.is_none() {
                tracing::warn!(
                    timestamp,
                    newest = self.highest,
                    "remote write: the clock was set back; the receiver may refuse samples until it has passed the newest timestamp written"
                );
            }
            self.stepped_from = Some(self.highest);
        } else {
            self.stepped_from = None;
            self.highest = timestamp;
        }
        if self.flushes.len() == FLUSHES_MAX {
            self.flushes.pop_front();
        }
        self.flushes.push_back((timestamp, now));
    }

    /// True if a flush with this timestamp may follow one with the same or a later one.
    pub(super) fn is_set_back(&self, timestamp: i64) -> bool {
        self.stepped_from.is_some_and(|from| timestamp <= from)
    }

    pub(super) fn stored(&mut self, now: f64) {
        self.stored_at = now;
        self.refusing = false;
    }

    /// The receiver refused all samples of a request for their timestamps.
    pub(super) fn refused(&mut self) {
        self.refusing = true;
    }

    /// The lag in seconds. `waiting` is the timestamp of the batch pushed first, `wall` the wall
    /// clock in seconds.
    pub(super) fn seconds(&mut self, waiting: Option<i64>, now: f64, wall: f64) -> f64 {
        let refusing = if self.refusing {
            now - self.stored_at
        } else {
            0.0
        };
        let Some(waiting) = waiting else {
            return refusing;
        };
        let since = self.flushes.iter().rposition(|(at, _)| *at == waiting);
        let age = match since {
            Some(index) => {
                self.flushes.drain(..index);
                self.flushes.front().map_or(0.0, |(_, since)| now - since)
            }
            // Flushed by an earlier process, whose monotonic time is unknown.
            None => wall - super::real_seconds(waiting),
        };
        age.max(refusing).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Lag;

    #[track_caller]
    fn assert_lag(lag: &mut Lag, waiting: Option<i64>, now: f64, wall: f64, expected: f64) {
        let seconds = lag.seconds(waiting, now, wall);
        assert!((seconds - expected).abs() < f64::EPSILON, "{seconds}");
    }

    #[test]
    fn what_waits_ages_whatever_the_clock_says() {
        let mut lag = Lag::new(0.0, None);
        lag.flushed(10_000, 10.0);
        assert_lag(&mut lag, None, 11.0, 11.0, 0.0);
        assert_lag(&mut lag, Some(10_000), 12.0, 12.0, 2.0);
        // Set back, and set forward.
        assert_lag(&mut lag, Some(10_000), 13.0, 3.0, 3.0);
        assert_lag(&mut lag, Some(10_000), 14.0, 9_999.0, 4.0);
        // Of a process before this one only the clock tells.
        assert_lag(&mut lag, Some(5_000), 14.0, 65.0, 60.0);
    }

    /// After a step back nothing waits, everything is refused, and the lag grows from the last
    /// sample that was stored.
    #[test]
    fn what_is_refused_for_its_time_is_not_on_time() {
        let mut lag = Lag::new(0.0, None);
        lag.flushed(3_600_000, 10.0);
        lag.stored(10.0);
        lag.flushed(15_000, 25.0);
        assert!(lag.is_set_back(15_000));
        lag.refused();
        assert_lag(&mut lag, None, 40.0, 30.0, 30.0);
        lag.flushed(30_000, 40.0);
        assert_lag(&mut lag, None, 70.0, 60.0, 60.0);
        // The clock passes what was written before.
        lag.flushed(3_615_000, 3_640.0);
        assert!(!lag.is_set_back(3_615_000));
        lag.stored(3_640.0);
        assert_lag(&mut lag, None, 3_641.0, 3_616.0, 0.0);
    }

    /// A process that begins while the clock is set back knows what the one before it wrote.
    #[test]
    fn a_step_back_outlives_a_restart() {
        let mut lag = Lag::new(0.0, Some(3_600_000));
        lag.flushed(15_000, 1.0);
        assert!(lag.is_set_back(15_000));
    }
}
