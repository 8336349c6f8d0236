//! From a sidecar's clock to ours, which never steps.
//!
//! A frame arrives after the moment it speaks of, never before: each bounds the difference of the
//! clocks from above, and the least of them is that difference plus the shortest way. A frame that
//! was made after another had arrived bounds it from below. Only recent frames count, so that drift
//! heals; recent means the last to be heard of, so that a frame that closes a long silence, and may
//! be late, does not decide. Where the bounds contradict each other, the sidecar's clock was set:
//! all that was known of it is forgotten.

use std::time::Duration;

use common_time::{Monotonic, UnixMillis};

#[cfg(test)]
mod tests;

/// Bounds are taken over the current and the previous span, each at least this long.
const SPAN: Duration = Duration::from_secs(30);

/// Bounds that contradict each other by less are those of a clock that is slewed, in milliseconds.
const SLEW_MAX: i64 = 50;

/// No frame is later than another by more than this, unless the aggregator stood still for as long:
/// by then no value is left that a wrong difference of the clocks could spoil.
pub(crate) const LATE_MAX: Duration = Duration::from_mins(1);

/// How far one sidecar's clock is from ours.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SidecarClock {
    current: Bounds,
    previous: Bounds,
    /// When the current span began.
    since: Monotonic,
}

/// Of the difference: our time minus theirs, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Bounds {
    most: Option<i64>,
    least: Option<i64>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Change {
    /// Times are mapped so much later than before, in milliseconds; what was mapped before should
    /// follow.
    Moved(i64),
    /// The sidecar's clock was set. What was mapped before stays where it is.
    Set,
}

// === impl Bounds ===

impl Bounds {
    fn and(self, other: Self) -> Self {
        let both = |a: Option<i64>, b: Option<i64>, choose: fn(i64, i64) -> i64| match (a, b) {
            (Some(a), Some(b)) => Some(choose(a, b)),
            (a, b) => a.or(b),
        };
        Self {
            most: both(self.most, other.most, i64::min),
            least: both(self.least, other.least, i64::max),
        }
    }

    fn contradict(self) -> bool {
        matches!((self.most, self.least), (Some(most), Some(least)) if most + SLEW_MAX < least)
    }
}

// === impl SidecarClock ===

impl SidecarClock {
    /// A frame that arrived at `now` for the first time spoke of `theirs`, and was made `after`
    /// that moment of ours.
    pub(crate) fn observe(
        &mut self,
        now: Monotonic,
        theirs: UnixMillis,
        after: Option<Monotonic>,
    ) -> Change {
        let before = self.bounds();
        let told = Bounds {
            most: Some(signed(now.0) - signed(theirs.0)),
            least: after.map(|after| signed(after.0) - signed(theirs.0)),
        };
        let fell = before.most.zip(told.most).map_or(0, |(was, is)| was - is);
        if before.and(told).contradict() || fell > millis(LATE_MAX) {
            *self = Self {
                current: told,
                previous: Bounds::default(),
                since: now,
            };
            return Change::Set;
        }
        if now.since(self.since) >= SPAN {
            self.previous = std::mem::take(&mut self.current);
            self.since = now;
        }
        self.current = self.current.and(told);
        let (was, is) = (before.most, self.bounds().most);
        Change::Moved(was.zip(is).map_or(0, |(was, is)| is - was))
    }

    /// `theirs` on our clock; `None` before anything was observed.
    pub(crate) fn map(&self, theirs: UnixMillis) -> Option<Monotonic> {
        let ours = signed(theirs.0).saturating_add(self.bounds().most?);
        Some(Monotonic(u64::try_from(ours).unwrap_or(0)))
    }

    fn bounds(&self) -> Bounds {
        self.current.and(self.previous)
    }
}

/// Times beyond the year 9999 are refused at the edge, so none is out of range.
fn signed(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX / 2)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
