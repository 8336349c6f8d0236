//! Series that the receiver refuses while it takes others: found by halving, set aside for some
//! minutes, tried again.
//!
//! One series must not hold up those it shares a batch with: one too many for the receiver's limit
//! of active series, or one that it fails on each time. Halving a batch of 2,000 finds one in some
//! 22 requests. What is found is left out of the batches to come, so that those cost one request
//! each; after `ASIDE_SECONDS` it is tried again, and a limit that was raised heals by itself.
//! Requests spent on finding are bounded by a bucket; once it is empty, the rest of the batch is
//! dropped and counted, and the next batch goes on where this one ended: running totals lose
//! resolution by that, not increments.
//!
//! Pure: time is an argument, in seconds since any origin.

use std::collections::{HashMap, HashSet};

#[cfg(test)]
mod tests;

/// How long a series is set aside, in seconds.
const ASIDE_SECONDS: f64 = 300.0;
/// Series set aside at once: 16 bytes each.
pub const ASIDE_MAX: usize = 100_000;
/// Requests that may be spent on halving at once.
const SPLITS_MAX: f64 = 64.0;
/// How many of them come back each second.
const SPLITS_PER_SECOND: f64 = 1.0;
/// Series that are known to be stored: 9 bytes each. Beyond it they are learned anew.
const STORED_MAX: usize = 1_000_000;
/// A batch is looked into so often, of each shard, to learn what is stored, in seconds.
const LEARN_SECONDS: f64 = 120.0;

/// Why a series is set aside.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Refusal {
    /// The receiver takes no further series.
    Limit,
    /// The receiver fails on it, and not on others.
    Failing,
}

/// What is set aside, and what is known to be stored.
#[derive(Debug)]
pub struct Isolation {
    /// By a hash of the series' labels: why, and until when.
    aside: HashMap<u64, (Refusal, f64)>,
    stored: HashSet<u64>,
    learned_at: HashMap<u16, f64>,
    splits: f64,
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
            splits: SPLITS_MAX,
            at: now,
            overflowed: 0,
        }
    }

    /// Series that are set aside.
    pub fn aside(&self) -> usize {
        self.aside.len()
    }

    /// Series that were refused and not remembered, for want of room.
    pub fn overflowed(&self) -> u64 {
        self.overflowed
    }

    /// Lets those go that were set aside long enough.
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

    /// True if another request may be spent on finding out who is refused; counts it.
    pub fn may_split(&mut self, now: f64) -> bool {
        let back = (now - self.at).max(0.0) * SPLITS_PER_SECOND;
        self.splits = (self.splits + back).min(SPLITS_MAX);
        self.at = self.at.max(now);
        let may = self.splits >= 1.0;
        if may {
            self.splits -= 1.0;
        }
        may
    }

    /// True if the receiver is known to have stored the series.
    pub fn is_stored(&self, series: u64) -> bool {
        self.stored.contains(&series)
    }

    /// True if it is time to look into a stored batch of the shard: while series are refused, into
    /// each.
    pub fn is_curious(&self, shard: u16, now: f64) -> bool {
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
