//! Maps times on a sidecar's clock to ours, which never steps.
//!
//! A frame arrives after its timestamp, never before, so each frame bounds the offset of the clocks
//! from above; the lowest bound is the offset plus the shortest latency. A frame that was made
//! after another had arrived bounds it from below. Only the current and the previous span of frames
//! count, so that drift heals and a late frame after a long silence does not decide alone. Where
//! the bounds contradict each other, the sidecar's clock was set, and the estimate begins anew.
//!
//! A frame that may have waited for us, because this replica is behind ([`crate::lag`]), was made
//! that much earlier at the earliest. Where every frame of the spans waited, the least wait that
//! they prove is taken off, so that no value passes for younger than it is; the first that did not
//! wait puts it right.

use std::time::Duration;

use common_time::{Monotonic, UnixMillis};

#[cfg(test)]
mod tests;

/// Bounds are taken over the current and the previous span, each at least this long.
const SPAN: Duration = Duration::from_secs(30);

/// Bounds that contradict each other by less, in milliseconds, come from slewing, not from a step.
const SLEW_MAX: i64 = 50;

/// Highest latency of a frame beyond that of another, unless the aggregator stood still for longer:
/// then every value has expired, and a wrong offset spoils none.
pub(crate) const LATE_MAX: Duration = Duration::from_mins(1);

/// Estimated offset of one sidecar's clock from ours.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SidecarClock {
    current: Bounds,
    previous: Bounds,
    /// When the current span began.
    since: Monotonic,
}

/// Bounds of the offset: our time minus the sidecar's, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Bounds {
    upper: Option<i64>,
    lower: Option<i64>,
    /// The highest offset for which a frame waited as long as it may have. Not below `upper` once a
    /// frame did not wait.
    waited: Option<i64>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Change {
    /// By how many milliseconds times mapped before should move, since they were mapped too late
    /// (negative) or, by frames that had waited less than they might have, too early.
    Adjusted(i64),
    /// The sidecar's clock was set. Times mapped before stay where they are.
    Stepped,
}

// === impl Bounds ===

impl Bounds {
    fn and(self, other: Self) -> Self {
        let both = |a: Option<i64>, b: Option<i64>, choose: fn(i64, i64) -> i64| match (a, b) {
            (Some(a), Some(b)) => Some(choose(a, b)),
            (a, b) => a.or(b),
        };
        Self {
            upper: both(self.upper, other.upper, i64::min),
            lower: both(self.lower, other.lower, i64::max),
            waited: both(self.waited, other.waited, i64::max),
        }
    }

    /// The offset that times are mapped by.
    fn offset(self) -> Option<i64> {
        let upper = self.upper?;
        Some(self.waited.map_or(upper, |waited| waited.min(upper)))
    }

    /// By how much times that were mapped by these bounds should move, now that the offset `is`.
    fn adjusted(self, is: i64) -> i64 {
        let (Some(was), Some(upper)) = (self.offset(), self.upper) else {
            return 0;
        };
        // Beyond `upper` a quick frame left the span, and it had mapped them well.
        if is < was {
            is - was
        } else {
            is.min(upper) - was
        }
    }

    fn contradict(self) -> bool {
        matches!((self.upper, self.lower), (Some(upper), Some(lower)) if upper + SLEW_MAX < lower)
    }
}

// === impl SidecarClock ===

impl SidecarClock {
    /// Takes in a frame with timestamp `sidecar_time` that was read at `now`, not a replay, and may
    /// have waited here for `waited`. It was made after `made_after` on our clock, if that is
    /// known.
    pub(crate) fn observe(
        &mut self,
        now: Monotonic,
        sidecar_time: UnixMillis,
        made_after: Option<Monotonic>,
        waited: Duration,
    ) -> Change {
        let before = self.bounds();
        let upper = signed(now.0) - signed(sidecar_time.0);
        let observed = Bounds {
            upper: Some(upper),
            waited: Some(upper - millis(waited)),
            lower: made_after.map(|made_after| signed(made_after.0) - signed(sidecar_time.0)),
        };
        let decrease = before
            .upper
            .zip(observed.upper)
            .map_or(0, |(was, is)| was - is);
        if before.and(observed).contradict() || decrease > millis(LATE_MAX) {
            *self = Self {
                current: observed,
                previous: Bounds::default(),
                since: now,
            };
            return Change::Stepped;
        }
        // The span ends at the first frame after it, so a silent sidecar keeps its last two spans.
        if now.since(self.since) >= SPAN {
            self.previous = std::mem::take(&mut self.current);
            self.since = now;
        }
        self.current = self.current.and(observed);
        let is = self.bounds().offset();
        Change::Adjusted(is.map_or(0, |is| before.adjusted(is)))
    }

    /// `sidecar_time` on our clock; `None` before the first frame.
    pub(crate) fn map(&self, sidecar_time: UnixMillis) -> Option<Monotonic> {
        let ours = signed(sidecar_time.0).saturating_add(self.bounds().offset()?);
        Some(Monotonic(u64::try_from(ours).unwrap_or(0)))
    }

    fn bounds(&self) -> Bounds {
        self.current.and(self.previous)
    }
}

/// Never saturates: `aggregator-ingest` refuses times beyond the year 9999.
fn signed(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX / 2)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
