//! The next step after each response, without clock or network: one [`Retry`] per shard.
//!
//! Waits double and vary by a tenth only: the compliance suite requires each wait to be at least
//! 0.8 of the previous one, which full jitter breaks.

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
/// First wait for wrong credentials or addresses, which are not fixed within seconds.
const HELD_FIRST: Duration = Duration::from_secs(10);
const HELD_MAX: Duration = Duration::from_mins(1);
/// Share by which a wait varies to either side.
const JITTER: f64 = 0.1;
/// Most doublings of a wait; more would exceed every maximum.
const DOUBLINGS_MAX: u32 = 16;
/// Responses of 429 after which a batch is split.
const TOO_MANY_BEFORE_SPLIT: u32 = 3;
/// Failures in a row after which a probe finds out whether the receiver fails on this batch alone;
/// fewer once it did.
const FAILED_BEFORE_PROBE: u32 = 4;
/// See [`FAILED_BEFORE_PROBE`].
const SUSPECT_BEFORE_PROBE: u32 = 2;

/// The next step for a batch or sub-batch after its response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Next {
    /// Finished: count its samples under this class.
    Done(Class),
    /// Send it again after this time, with a new signature.
    Resend {
        after: Duration,
        /// Fetch new credentials before that.
        refresh: bool,
    },
    /// Send it in two halves, after this time.
    Split(Duration),
    /// Send it in the older version of the protocol.
    Downgrade,
    /// Find out which of its series is refused.
    Isolate,
    /// After this time send a sample that was stored before. If the receiver stores it again, it
    /// fails on this batch alone; otherwise send the batch again.
    Probe(Duration),
}

/// Consecutive failures of one shard's batch.
#[derive(Clone, Debug, Default)]
pub struct Retry {
    failed: u32,
    too_many: u32,
    held: u32,
    /// The receiver fails on a part of this batch alone.
    suspect: bool,
}

// === impl Retry ===

impl Retry {
    pub fn begin(&mut self) {
        self.suspect = false;
    }

    /// The receiver stores other samples, but fails on these.
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

    /// The next step after `response` to a request with `samples` samples. `jitter` is in 0..1,
    /// drawn by the caller; `downgrade` is true if the receiver supports only an older version.
    pub fn next(
        &mut self,
        response: &WriteResponse,
        samples: u32,
        downgrade: bool,
        jitter: f64,
    ) -> Next {
        let class = response.class();
        if downgrade {
            return Next::Downgrade;
        }
        let retry_after = response.retry_after().unwrap_or_default();
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
                let wait = wait(TOO_MANY_FIRST, self.too_many, FAILED_MAX, jitter).max(retry_after);
                if self.too_many.is_multiple_of(TOO_MANY_BEFORE_SPLIT) && samples > 1 {
                    return Next::Split(wait);
                }
                Next::Resend {
                    after: wait,
                    refresh: false,
                }
            }
            Class::Failed => {
                self.failed += 1;
                let after = wait(FAILED_FIRST, self.failed, FAILED_MAX, jitter).max(retry_after);
                let failures = if self.suspect {
                    SUSPECT_BEFORE_PROBE
                } else {
                    FAILED_BEFORE_PROBE
                };
                // Without a status the network failed, which says nothing about the batch.
                if response.code().is_some() && self.failed.is_multiple_of(failures) {
                    return Next::Probe(after);
                }
                Next::Resend {
                    after,
                    refresh: false,
                }
            }
            Class::Unauthorised | Class::Misdirected | Class::Unsupported => {
                self.held += 1;
                Next::Resend {
                    after: wait(HELD_FIRST, self.held, HELD_MAX, jitter).max(retry_after),
                    refresh: class == Class::Unauthorised,
                }
            }
        }
    }
}

/// The `nth` wait, counted from 1, never below `first`: the documented minimum.
fn wait(first: Duration, nth: u32, max: Duration, jitter: f64) -> Duration {
    let doublings = nth.saturating_sub(1).min(DOUBLINGS_MAX);
    let plain = first.saturating_mul(1 << doublings).min(max);
    let factor = 1.0 + JITTER * (2.0 * jitter.clamp(0.0, 1.0) - 1.0);
    plain.mul_f64(factor).max(first)
}
