//! Log lines at a bounded rate: what a peer can make us say a thousand times a second is said now
//! and then, with how often it was so. Holds no clock.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// At most one line of a kind in this time.
pub(crate) const SAID_EVERY: Duration = Duration::from_secs(10);

/// What happens again and again.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Guards when it was last said, and how often it has happened since.
    state: Mutex<(Option<Instant>, u64)>,
}

// === impl Tally ===

impl Tally {
    /// It happened. How often since the last line, if there is to be one.
    pub(crate) fn add(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock();
        let (said, count) = &mut *state;
        *count += 1;
        if said.is_some_and(|said| now.saturating_duration_since(said) < SAID_EVERY) {
            return None;
        }
        *said = Some(now);
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
            assert_eq!(tally.add(begin + SAID_EVERY / 2), None);
        }
        assert_eq!(tally.add(begin + SAID_EVERY), Some(1001));
    }
}
