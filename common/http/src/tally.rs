//! Log lines at a bounded rate: an event that a peer can cause a thousand times a second is logged
//! now and then, with its count. Has no clock.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// At most one line of a kind in this time.
pub(crate) const LOG_EVERY: Duration = Duration::from_secs(10);

/// Counts one kind of event.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// When it was last logged, and its count since.
    state: Mutex<(Option<Instant>, u64)>,
}

// === impl Tally ===

impl Tally {
    /// Counts an event. Returns the count since the last line if one is due.
    pub(crate) fn add(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock();
        let (last_logged, count) = &mut *state;
        *count += 1;
        if last_logged.is_some_and(|logged| now.saturating_duration_since(logged) < LOG_EVERY) {
            return None;
        }
        *last_logged = Some(now);
        Some(std::mem::take(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first is said at once, those after it later and together.
    #[test]
    fn says_how_often() {
        let tally = Tally::default();
        let begin = crate::clock::now();
        assert_eq!(tally.add(begin), Some(1));
        for _ in 0..1000 {
            assert_eq!(tally.add(begin + LOG_EVERY / 2), None);
        }
        assert_eq!(tally.add(begin + LOG_EVERY), Some(1001));
    }
}
