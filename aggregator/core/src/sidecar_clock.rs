//! From a sidecar's clock to the aggregator's.
//!
//! A frame arrives after the moment it speaks of, never before. So the least difference between the time of
//! arrival and the time in the frame, over many frames, is the difference of the clocks plus the shortest way;
//! a frame that was delayed does not shift time. Only recent frames count, so that drift and steps heal; recent
//! means the last to be heard of, so that a frame that closes a long silence, and may be late, does not decide.

use std::time::Duration;

use crate::time::{Monotonic, UnixMillis};

#[cfg(test)]
mod tests;

/// The least difference is taken over the current and the previous span, each at least this long.
const SPAN: Duration = Duration::from_secs(30);

/// How far one sidecar's clock is from the aggregator's.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SidecarClock {
    /// Least offset of the span that began at `since`: our time minus theirs, in milliseconds.
    current: Option<i64>,
    /// Least offset of the span before.
    previous: Option<i64>,
    since: Monotonic,
}

// === impl SidecarClock ===

impl SidecarClock {
    /// A frame that arrived at `now` for the first time spoke of `theirs`.
    pub(crate) fn observe(&mut self, now: Monotonic, theirs: UnixMillis) {
        let offset = signed(now.0) - signed(theirs.0);
        if now.since(self.since) >= SPAN {
            self.previous = self.current.take();
            self.since = now;
        }
        self.current = Some(self.current.map_or(offset, |least| least.min(offset)));
    }

    /// Forgets what was observed: the sidecar's clock was set back.
    pub(crate) fn restart(&mut self) {
        *self = Self::default();
    }

    /// `theirs` on our clock; `None` before anything was observed.
    pub(crate) fn map(&self, theirs: UnixMillis) -> Option<Monotonic> {
        let least = match (self.current, self.previous) {
            (Some(a), Some(b)) => a.min(b),
            (a, b) => a.or(b)?,
        };
        let ours = signed(theirs.0).saturating_add(least);
        Some(Monotonic(u64::try_from(ours).unwrap_or(0)))
    }
}

/// Times beyond the year 9999 are refused at the edge, so none is out of range.
fn signed(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX / 2)
}
