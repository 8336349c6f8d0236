//! Times of Envoy's snapshots, on a clock that does not step.
//!
//! Envoy dates its statistics by its wall clock, which may be set, and messages may arrive late.
//! But Envoy flushes by a timer: of the interval between two dates and the interval between two
//! arrivals, the one closer to the previous interval is right.

use std::time::Duration;

use common_time::{Monotonic, UnixMillis};

use super::FLUSH_DEFAULT;

/// Dates are right if both are this close: arrivals always vary a little.
const NEAR: Duration = Duration::from_millis(100);

/// The snapshots of one stream.
#[derive(Debug, Default)]
pub(super) struct Timeline(Option<Last>);

#[derive(Clone, Copy, Debug)]
struct Last {
    date: Option<UnixMillis>,
    arrived: Monotonic,
    /// Time on the timeline.
    at: UnixMillis,
    /// Time since the previous snapshot.
    interval: Duration,
}

// === impl Timeline ===

impl Timeline {
    /// The time of the snapshot that arrived at `now` with Envoy's `date`: our own time for the
    /// first one, the previous time plus an interval for all others.
    pub(super) fn next(&mut self, now: Monotonic, date: Option<UnixMillis>) -> UnixMillis {
        let (at, interval) = match self.0 {
            None => (UnixMillis(now.0), FLUSH_DEFAULT),
            Some(last) => {
                let dated = date.zip(last.date).filter(|(date, last)| date >= last);
                let dated = dated.map(|(date, last)| date.since(last));
                let arrived = now.since(last.arrived);
                let off = |interval: Duration| interval.abs_diff(last.interval);
                let interval = dated.filter(|dated| off(*dated) <= off(arrived) + NEAR);
                let interval = interval.unwrap_or(arrived);
                (last.at + interval, interval)
            }
        };
        self.0 = Some(Last {
            date,
            arrived: now,
            at,
            interval,
        });
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Intervals as they come out, of messages that are dated and arrive so many milliseconds after
    /// the one before.
    fn intervals(messages: &[(i64, u64)]) -> Vec<u128> {
        let mut timeline = Timeline::default();
        let (mut date, mut now) = (UnixMillis(1_800_000_000_000), Monotonic::BEGIN);
        let mut last = timeline.next(now, Some(date));
        let next = |(dated, arrived): &(i64, u64)| {
            date = UnixMillis(date.0.checked_add_signed(*dated).unwrap());
            now = now + Duration::from_millis(*arrived);
            let at = timeline.next(now, Some(date));
            let interval = at.since(last).as_millis();
            last = at;
            interval
        };
        messages.iter().map(next).collect()
    }

    /// A clock that is set, by much or little, changes no interval; nor does a message that is
    /// late.
    #[test]
    fn neither_steps_nor_delays_count() {
        let usual = (5000, 5001);
        for step in [-1_800_000, -3000, 3000, 1_800_000] {
            let stepped = (5000 + step, 5002);
            assert_eq!(
                intervals(&[usual, stepped, usual]),
                [5000, 5002, 5000],
                "{step}"
            );
        }
        let late = intervals(&[usual, (5000, 9000), (5000, 1000), usual]);
        assert_eq!(late, [5000; 4]);
        assert_eq!(
            intervals(&[(60_000, 60_001), (60_000, 60_009)]),
            [60_000; 2]
        );
    }
}
