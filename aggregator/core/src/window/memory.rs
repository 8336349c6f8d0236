//! Where the windows of queried sets may begin: not before one that showed a step.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::query::WINDOWS;
use crate::time::Monotonic;
use crate::window::Choice;

/// Queried sets that are remembered at once; each autoscaler's metric is one. Beyond it new ones are not remembered.
pub const SETS_MAX: usize = 10_000;

/// What windows may begin before the remembered moment: ends of intervals come up to a flush interval apart.
const SLACK: Duration = Duration::from_secs(1);

/// By queried set, when the window began that showed its newest step. One entry for a minute at most.
#[derive(Debug, Default)]
pub struct Memory {
    /// Held for one lookup, or to drop what is over when it is full.
    starts: Mutex<HashMap<u64, Monotonic>>,
    forgotten: AtomicU64,
}

// === impl Memory ===

impl Memory {
    /// The index of the longest of [`WINDOWS`] that may be served of `set` at `until`; `None` for any.
    pub fn longest(&self, set: u64, until: Monotonic) -> Option<usize> {
        let start = *self.lock().get(&set)?;
        let room = until.since(start) + SLACK;
        let fits = WINDOWS.iter().filter(|length| **length <= room).count();
        (fits < WINDOWS.len()).then(|| fits.saturating_sub(1))
    }

    /// Notes the window that was served of `set`, which ends at `until`.
    pub fn note(&self, set: u64, until: Monotonic, choice: Choice) {
        let mut starts = self.lock();
        if !choice.is_short {
            starts.remove(&set);
            return;
        }
        let length = WINDOWS.get(choice.index).copied().unwrap_or_default();
        let start = until.before(length);
        if let Some(known) = starts.get_mut(&set) {
            *known = start.max(*known);
            return;
        }
        if starts.len() >= SETS_MAX {
            let oldest = until.before(WINDOWS[WINDOWS.len() - 1]);
            starts.retain(|_, start| *start > oldest);
        }
        if starts.len() >= SETS_MAX {
            self.forgotten.fetch_add(1, Ordering::Relaxed);
        } else {
            starts.insert(set, start);
        }
    }

    /// How often a step was not remembered since [`SETS_MAX`] were.
    pub fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Monotonic>> {
        self.starts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Memory, SETS_MAX};
    use crate::time::Monotonic;
    use crate::window::Choice;

    const SHORT: Choice = Choice {
        index: 0,
        is_short: true,
    };

    #[test]
    fn a_window_grows_back_one_size_at_a_time() {
        let memory = Memory::default();
        let step = Monotonic(1_000_000);
        memory.note(7, step + Duration::from_secs(2), SHORT);
        let at = |seconds| memory.longest(7, step + Duration::from_secs(seconds));
        let sizes: Vec<_> = [2, 4, 9, 14, 29, 59].map(at).to_vec();
        assert_eq!(sizes, [Some(0), Some(1), Some(2), Some(3), Some(4), None]);
        assert_eq!(memory.longest(8, step), None, "another set");
    }

    #[test]
    fn a_window_that_fits_the_traffic_ends_it() {
        let memory = Memory::default();
        memory.note(7, Monotonic(1_000_000), SHORT);
        let fits = Choice {
            index: 3,
            is_short: false,
        };
        memory.note(7, Monotonic(1_001_000), fits);
        assert_eq!(memory.longest(7, Monotonic(1_001_000)), None);
    }

    #[test]
    fn it_is_bounded_and_says_what_it_did_not_keep() {
        let memory = Memory::default();
        let now = Monotonic(1_000_000);
        for set in 0..SETS_MAX as u64 + 5 {
            memory.note(set, now, SHORT);
        }
        assert_eq!(memory.forgotten(), 5);
        assert_eq!(memory.longest(SETS_MAX as u64, now), None);
        // A minute later there is room again.
        let later = now + Duration::from_secs(61);
        memory.note(SETS_MAX as u64, later, SHORT);
        assert_eq!(memory.longest(SETS_MAX as u64, later), Some(0));
    }
}
