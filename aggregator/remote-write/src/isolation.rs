//! Finds series that the receiver refuses while it stores others, by halving batches, and sets them
//! aside for some minutes.
//!
//! One series must not block the others in its batch: one beyond the receiver's limit of active
//! series, or one that it fails on each time. Halving a batch of 2,000 finds one in some 22
//! requests. It is left out of later batches, so that those cost one request each; after
//! `ASIDE_SECONDS` it is sent again, so a raised limit takes effect by itself. A token bucket
//! bounds the requests spent on halving; once it is empty, the rest of the batch is dropped and
//! counted, and the next batch continues: running totals lose resolution by that, not increments.
//!
//! Pure: time is an argument, in seconds since any origin.

use std::collections::{HashMap, HashSet};

#[cfg(test)]
mod tests;

/// How long a series is set aside, in seconds.
const ASIDE_SECONDS: f64 = 300.0;
/// Series set aside at once: 16 bytes each.
pub const ASIDE_MAX: usize = 100_000;
/// Capacity of the token bucket of halving, in requests.
const SPLITS_MAX: f64 = 64.0;
/// Tokens refilled per second.
const SPLITS_PER_SECOND: f64 = 1.0;
/// Series known to be stored: 9 bytes each. Beyond this they are learnt anew.
const STORED_MAX: usize = 1_000_000;
/// How often the series of a stored batch are learnt, per shard, in seconds.
const LEARN_SECONDS: f64 = 120.0;

/// Why a series is set aside.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Refusal {
    /// The receiver's limit of series is reached.
    Limit,
    /// The receiver fails on it, but not on others.
    Failing,
}

/// Series set aside, and series known to be stored.
#[derive(Debug)]
pub struct Isolation {
    /// By a hash of the series' labels: the reason and the end.
    aside: HashMap<u64, (Refusal, f64)>,
    stored: HashSet<u64>,
    learned_at: HashMap<u16, f64>,
    split_tokens: f64,
    at: f64,
    overflowed: u64,
}

// === impl Isolation ===

impl Isolation {
    pub fn new(now: f64) -> Self {
        Self {
            aside: HashMap::new(),
            stored: HashSet::new(),
            learned_at: HashMap::new(),
            split_tokens: SPLITS_MAX,
            at: now,
            overflowed: 0,
        }
    }

    /// Number of series set aside.
    pub fn aside(&self) -> usize {
        self.aside.len()
    }

    /// Refused series that exceeded [`ASIDE_MAX`].
    pub fn overflowed(&self) -> u64 {
        self.overflowed
    }

    /// Ends the isolation of series set aside for `ASIDE_SECONDS`.
    pub fn expire(&mut self, now: f64) {
        self.aside.retain(|_, (_, until)| *until > now);
    }

    /// Why the series is set aside, if it is.
    pub fn refusal(&self, series: u64) -> Option<Refusal> {
        self.aside.get(&series).map(|(refusal, _)| *refusal)
    }

    pub fn set_aside(&mut self, series: u64, refusal: Refusal, now: f64) {
        self.stored.remove(&series);
        if self.aside.len() >= ASIDE_MAX && !self.aside.contains_key(&series) {
            self.overflowed += 1;
            return;
        }
        self.aside.insert(series, (refusal, now + ASIDE_SECONDS));
    }

    /// Takes a token for one more request of halving; false if there is none.
    pub fn may_split(&mut self, now: f64) -> bool {
        let back = (now - self.at).max(0.0) * SPLITS_PER_SECOND;
        self.split_tokens = (self.split_tokens + back).min(SPLITS_MAX);
        self.at = self.at.max(now);
        let may = self.split_tokens >= 1.0;
        if may {
            self.split_tokens -= 1.0;
        }
        may
    }

    /// True if the receiver is known to have stored the series.
    pub fn is_stored(&self, series: u64) -> bool {
        self.stored.contains(&series)
    }

    /// True if the series of a stored batch of the shard are to be learnt.
    pub fn should_learn(&self, shard: u16, now: f64) -> bool {
        // Decoding every batch would cost CPU for nothing while none is refused.
        let last = self.learned_at.get(&shard);
        !self.aside.is_empty() || last.is_none_or(|at| now - at >= LEARN_SECONDS)
    }

    pub fn learn(&mut self, shard: u16, series: impl Iterator<Item = u64>, now: f64) {
        self.learned_at.insert(shard, now);
        for series in series {
            if self.stored.len() >= STORED_MAX {
                self.stored.clear();
            }
            self.stored.insert(series);
        }
    }
}

// === impl Refusal ===

impl Refusal {
    pub const ALL: [Self; 2] = [Self::Limit, Self::Failing];
}
