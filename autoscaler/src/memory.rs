//! What the controller remembers of an HPA from sync to sync.

use std::time::Duration;

/// Earlier recommendations and scalings. Empty, as after a start of the controller, by default.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Memory {
    recommendations: Vec<Entry>,
    ups: Vec<Entry>,
    downs: Vec<Entry>,
    /// Whether the autoscaler itself scaled to zero; `None` before the first scaling.
    scaled_to_zero: Option<bool>,
}

/// A number of replicas at a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Entry {
    pub(crate) at: Duration,
    pub(crate) replicas: i64,
}

/// Entries kept of each kind: the longest window, an hour, at a sync each second, and some.
const ENTRIES_MAX: usize = 4096;

// === impl Memory ===

impl Memory {
    /// The first sync counts the replicas that there are as a recommendation.
    pub(crate) fn begin(&mut self, now: Duration, replicas: u32) {
        if self.recommendations.is_empty() {
            self.recommendations.push(Entry {
                at: now,
                replicas: i64::from(replicas),
            });
        }
    }

    pub(crate) fn recommendations(&self) -> &[Entry] {
        &self.recommendations
    }

    /// Adds a recommendation, in the place of one older than `reach` if there is one.
    pub(crate) fn recommend(&mut self, now: Duration, reach: Duration, replicas: i64) {
        let entry = Entry { at: now, replicas };
        put(&mut self.recommendations, reach, entry);
    }

    /// Adds a scaling, in the place of one in the same direction older than `reach` if there is
    /// one.
    pub(crate) fn scaled(&mut self, now: Duration, reach: Duration, from: u32, to: u32) {
        let entry = Entry {
            at: now,
            replicas: i64::from(from.abs_diff(to)),
        };
        let of = if to > from {
            &mut self.ups
        } else {
            &mut self.downs
        };
        put(of, reach, entry);
    }

    /// Replicas at the start of a `period` that ends `now`, if there are `replicas` now.
    pub(crate) fn start_of(&self, period: Duration, now: Duration, replicas: u32) -> i64 {
        let changed = |entries: &[Entry]| -> i64 {
            let within = entries.iter().filter(|entry| entry.at + period > now);
            within.map(|entry| entry.replicas).sum()
        };
        i64::from(replicas) - changed(&self.ups) + changed(&self.downs)
    }

    pub(crate) fn scaled_to_zero(&self) -> Option<bool> {
        self.scaled_to_zero
    }

    pub(crate) fn set_scaled_to_zero(&mut self, scaled_to_zero: bool) {
        self.scaled_to_zero = Some(scaled_to_zero);
    }
}

/// As the controller keeps them: the last entry that is too old makes room.
fn put(entries: &mut Vec<Entry>, reach: Duration, entry: Entry) {
    let old = entries.iter().rposition(|old| old.at + reach < entry.at);
    match old {
        Some(index) => entries[index] = entry,
        None if entries.len() < ENTRIES_MAX => entries.push(entry),
        None => entries[0] = entry,
    }
}
