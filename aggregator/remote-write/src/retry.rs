//! What to do after each answer, without clock or network: one [`Retry`] per shard.
//!
//! Waits grow by doubling and vary by a tenth only: the compliance suite wants each wait at least
//! 0.8 of the one before, which full jitter breaks.

use std::time::Duration;

use crate::write_response::{Class, WriteResponse};

#[cfg(test)]
mod tests;

/// First wait after a failure of the receiver or the network.
const FAILED_FIRST: Duration = Duration::from_millis(250);
/// Longest wait after such failures.
const FAILED_MAX: Duration = Duration::from_secs(30);
/// First wait after 429.
const TOO_MANY_FIRST: Duration = Duration::from_secs(1);
/// First wait after what is held. Nothing mends that within seconds.
const HELD_FIRST: Duration = Duration::from_secs(10);
const HELD_MAX: Duration = Duration::from_mins(1);
/// How much a wait varies, of itself, to either side.
const JITTER: f64 = 0.1;
/// A wait doubles this often at most; more would pass every maximum.
const DOUBLINGS_MAX: u32 = 16;
/// Refusals with 429 after which a batch is sent in halves.
const TOO_MANY_BEFORE_SPLIT: u32 = 3;
/// Failures of the receiver in a row after which it is asked whether it fails on this batch alone;
/// fewer once it did.
const FAILED_BEFORE_PROBE: u32 = 4;
/// See [`FAILED_BEFORE_PROBE`].
const SUSPECT_BEFORE_PROBE: u32 = 2;

/// What to do with the batch, or the sub-batch of it, that was answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Next {
    /// Done with it: count its samples under this class.
    Done(Class),
    /// Send it again after this time, signed anew.
    Again {
        after: Duration,
        /// Credentials are to be asked for anew before that.
        refresh: bool,
    },
    /// Send it in two halves, after this time.
    Split(Duration),
    /// Encode it in the older version of the protocol and send that.
    Downgrade,
    /// Find out which of its series is refused.
    Isolate,
    /// After this time send something that was stored before. If that is stored again, the receiver
    /// fails on this alone; otherwise send this again.
    Probe(Duration),
}

/// Consecutive refusals of one shard's batch.
#[derive(Clone, Debug, Default)]
pub struct Retry {
    failed: u32,
    too_many: u32,
    held: u32,
    /// The receiver fails on a part of this batch, and on nothing else.
    suspect: bool,
}

// === impl Retry ===

impl Retry {
    pub fn begin(&mut self) {
        self.suspect = false;
    }

    /// The receiver takes other samples, and not these.
    pub fn suspect(&mut self) {
        self.progress();
        self.suspect = true;
    }

    fn progress(&mut self) {
        *self = Self {
            suspect: self.suspect,
            ..Self::default()
        };
    }

    /// What follows from `answer` to a request with `samples` samples. `jitter` is in 0..1, drawn
    /// by the caller; `downgrade` says that the receiver does not know the version of the protocol,
    /// and that an older one remains.
    pub fn next(
        &mut self,
        answer: &WriteResponse,
        samples: u32,
        downgrade: bool,
        jitter: f64,
    ) -> Next {
        let class = answer.class();
        if downgrade {
            return Next::Downgrade;
        }
        let asked = answer.retry_after().unwrap_or_default();
        match class {
            Class::Stored | Class::Deduplicated | Class::Rejected => {
                self.progress();
                Next::Done(class)
            }
            Class::SeriesLimit => Next::Isolate,
            Class::TooLarge if samples > 1 => Next::Split(Duration::ZERO),
            Class::TooLarge => Next::Done(class),
            Class::TooMany => {
                self.too_many += 1;
                let wait = wait(TOO_MANY_FIRST, self.too_many, FAILED_MAX, jitter).max(asked);
                if self.too_many.is_multiple_of(TOO_MANY_BEFORE_SPLIT) && samples > 1 {
                    return Next::Split(wait);
                }
                Next::Again {
                    after: wait,
                    refresh: false,
                }
            }
            Class::Failed => {
                self.failed += 1;
                let after = wait(FAILED_FIRST, self.failed, FAILED_MAX, jitter).max(asked);
                let patience = if self.suspect {
                    SUSPECT_BEFORE_PROBE
                } else {
                    FAILED_BEFORE_PROBE
                };
                if answer.code().is_some() && self.failed.is_multiple_of(patience) {
                    return Next::Probe(after);
                }
                Next::Again {
                    after,
                    refresh: false,
                }
            }
            Class::Unauthorised | Class::Misdirected | Class::Unsupported => {
                self.held += 1;
                Next::Again {
                    after: wait(HELD_FIRST, self.held, HELD_MAX, jitter).max(asked),
                    refresh: class == Class::Unauthorised,
                }
            }
        }
    }
}

/// The `nth` wait, counted from 1. Without jitter below the first one, so that a stated minimum
/// holds.
fn wait(first: Duration, nth: u32, max: Duration, jitter: f64) -> Duration {
    let doublings = nth.saturating_sub(1).min(DOUBLINGS_MAX);
    let plain = first.saturating_mul(1 << doublings).min(max);
    let factor = 1.0 + JITTER * (2.0 * jitter.clamp(0.0, 1.0) - 1.0);
    plain.mul_f64(factor).max(first)
}
