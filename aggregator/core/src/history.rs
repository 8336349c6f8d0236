//! The recent past of one running total, as points in time that straight lines join.
//!
//! A report says how much a total rose in an interval, not when within it, so the rise is spread
//! evenly over exactly that interval. Points (end of an interval, total) hold this without rounding
//! to buckets: the increase between any two moments is the difference of two totals, and increases
//! of adjoining windows add up exactly. A total that does not move costs nothing.
//!
//! Invariant: points ascend in time and in total, and any three in a row span at least [`MERGE`].

use std::collections::VecDeque;
use std::time::Duration;

use common_time::Monotonic;

#[cfg(test)]
mod tests;

/// How far back increases can be asked for: twice the longest window, for comparison with the
/// window before.
pub(crate) const DEPTH: Duration = Duration::from_mins(2);

/// Of three points closer together than this the middle one is dropped: rises within it are spread
/// over it.
const MERGE: Duration = Duration::from_secs(1);

/// A pause shorter than this between two intervals is not kept: intervals that adjoin at the
/// sidecar can come apart by some milliseconds when they are mapped to the aggregator's clock.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Most points held: two in each `MERGE` of `DEPTH`, one before it, and two just added.
const POINTS_MAX: usize = 2 * 120 + 3;

/// How one running total rose in the last [`DEPTH`].
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    points: VecDeque<Point>,
}

/// A running total at one moment, on the aggregator's clock.
#[derive(Clone, Copy, Debug)]
struct Point {
    at: Monotonic,
    total: u64,
}

// === impl History ===

impl History {
    /// Adds an even rise from `from` to `to` between `start` and `end`. Where points already cover
    /// part of that time, the rise is spread over the rest of it.
    pub(crate) fn rise(&mut self, start: Monotonic, end: Monotonic, from: u64, to: u64) {
        // Even an empty span needs two points, the second one at `end`.
        let start = start.min(end.before(Duration::from_millis(1)));
        match self.points.back() {
            None => self.points.push_back(Point {
                at: start,
                total: from,
            }),
            Some(last) if start.since(last.at) >= PAUSE_MIN => self.points.push_back(Point {
                at: start,
                total: last.total,
            }),
            Some(_) => {}
        }
        self.end_at(end, to);
        self.merge();
        // The last point before the horizon stays: the line to the next one starts there.
        while self.points.len() > POINTS_MAX
            || self
                .points
                .get(1)
                .is_some_and(|p| p.at <= end.before(DEPTH))
        {
            self.points.pop_front();
        }
    }

    /// How much the total rose after `from` and up to `to`.
    pub(crate) fn increase(&self, from: Monotonic, to: Monotonic) -> f64 {
        (self.risen(to) - self.risen(from)).max(0.0)
    }

    /// Adds to each of `counts` the increase between the age beside it and `until`. `ages` are in
    /// seconds before `until`, ascending.
    pub(crate) fn add_since(&self, until: Monotonic, ages: &[u32], counts: &mut [f64]) {
        if self.points.is_empty() {
            return;
        }
        let risen = self.risen(until);
        // Ages ascend, so one pass backwards over the points serves all of them.
        let mut after = self.points.len();
        for (age, count) in ages.iter().zip(counts) {
            let at = until.before(Duration::from_secs((*age).into()));
            while after > 0 && self.points[after - 1].at > at {
                after -= 1;
            }
            *count += (risen - self.risen_between(after, at)).max(0.0);
        }
    }

    /// Adds to each of `rises` the increase between the bound at its place and the next one.
    /// `bounds` ascend, and are one more.
    pub(crate) fn add_rises(&self, bounds: &[Monotonic], rises: &mut [f64]) {
        // Bounds ascend, so one pass over the points serves all of them.
        let mut after = 0;
        let mut totals = bounds.iter().map(|at| {
            while self.points.get(after).is_some_and(|point| point.at <= *at) {
                after += 1;
            }
            self.risen_between(after, *at)
        });
        let mut before = totals.next().unwrap_or_default();
        for (rise, now) in rises.iter_mut().zip(totals) {
            *rise += (now - before).max(0.0);
            before = now;
        }
    }

    /// Moves all points by `millis`.
    pub(crate) fn shift(&mut self, millis: i64) {
        for point in &mut self.points {
            point.at = point.at.moved(millis);
        }
    }

    /// Drops all points if the newest is at `horizon` or before.
    pub(crate) fn forget(&mut self, horizon: Monotonic) {
        if self.points.back().is_some_and(|last| last.at <= horizon) {
            self.points = VecDeque::new();
        }
    }

    /// Adds the point (`end`, `total`), or raises the last point if `end` is not after it.
    fn end_at(&mut self, end: Monotonic, total: u64) {
        let count = self.points.len();
        match self.points.back_mut() {
            Some(last) if end <= last.at && count > 1 => last.total = last.total.max(total),
            // Raising the only point would lose the rise: increases are relative to the first one.
            Some(last) => {
                let at = end.max(last.at + Duration::from_millis(1));
                let total = last.total.max(total);
                self.points.push_back(Point { at, total });
            }
            None => {}
        }
    }

    fn merge(&mut self) {
        while let Some(before) = self.points.len().checked_sub(3)
            && self.points[before + 2].at.since(self.points[before].at) < MERGE
        {
            self.points.remove(before + 1);
        }
    }

    /// The total at `at` less that of the oldest point.
    fn risen(&self, at: Monotonic) -> f64 {
        let after = self.points.partition_point(|point| point.at <= at);
        self.risen_between(after, at)
    }

    /// [`History::risen`] with `after`, the index of the first point after `at`.
    fn risen_between(&self, after: usize, at: Monotonic) -> f64 {
        let Some(oldest) = self.points.front() else {
            return 0.0;
        };
        let Some(before) = after.checked_sub(1).map(|index| self.points[index]) else {
            return 0.0;
        };
        let base = float(before.total - oldest.total);
        match self.points.get(after) {
            None => base,
            Some(next) => {
                let part =
                    at.since(before.at).as_secs_f64() / next.at.since(before.at).as_secs_f64();
                base + float(next.total - before.total) * part
            }
        }
    }
}

/// A count as a floating-point number.
#[expect(
    clippy::cast_precision_loss,
    reason = "increases within two minutes are far below 2^53, or nanoseconds of which the last bits do not matter"
)]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}
