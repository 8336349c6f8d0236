//! Negotiates the version of the protocol: 2.0 if configured, as long as the receiver supports it.
//!
//! By the specification two responses mean that it does not: 415, and a 2xx without the headers
//! that
//! 2.0 requires (`X-Prometheus-Remote-Write-*-Written`; a receiver of 1.0 may take a request of 2.0
//! for an empty one). Then 1.0 is used, and 2.0 tried again after `RETRY_V2_SECONDS`, since
//! receivers are upgraded. A 400 rejects samples for good; but old receivers also send it for a
//! body they cannot parse. After some in a row, from a receiver that never proved support of 2.0,
//! the next request is one of 1.0: if that is stored, the receiver does not support 2.0.

use parking_lot::Mutex;

use crate::write_response::{Class, WriteResponse};

#[cfg(test)]
mod tests;

/// Time after which 2.0 is tried again, in seconds.
const RETRY_V2_SECONDS: f64 = 600.0;
/// Rejections in a row, from a receiver that never proved support of 2.0, after which 1.0 is tried.
const REFUSALS_MAX: u32 = 3;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    V1,
    V2,
}

/// The version in use, shared by all shards. Time is an argument, in seconds since any origin.
#[derive(Debug)]
pub struct Protocol(Mutex<State>);

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// 1.0, as configured.
    Fixed,
    /// 2.0, with the number of rejections in a row; the receiver may not support it.
    Unproven(u32),
    /// 2.0, which the receiver supports.
    Proven,
    /// 1.0, to find out whether that is stored.
    ProbingV1,
    /// 1.0 since this time: the receiver does not support 2.0.
    Downgraded(f64),
}

// === impl Protocol ===

impl Protocol {
    pub fn new(version: Version) -> Self {
        Self(Mutex::new(match version {
            Version::V1 => State::Fixed,
            Version::V2 => State::Unproven(0),
        }))
    }

    pub fn version(&self, now: f64) -> Version {
        match *self.0.lock() {
            State::Fixed | State::ProbingV1 => Version::V1,
            State::Downgraded(since) if now - since < RETRY_V2_SECONDS => Version::V1,
            State::Unproven(_) | State::Proven | State::Downgraded(_) => Version::V2,
        }
    }

    /// Takes in the response to a request of version `sent`; true if it is to be resent in 1.0.
    pub fn observe(&self, sent: Version, response: &WriteResponse, now: f64) -> bool {
        let mut state = self.0.lock();
        let class = response.class();
        if matches!(*state, State::Fixed) {
            return false;
        }
        match (sent, *state) {
            (Version::V1, State::ProbingV1) => {
                match class {
                    Class::Stored => *state = downgraded(now),
                    Class::Rejected => *state = State::Unproven(0),
                    _ => {}
                }
                false
            }
            // The receiver supports neither version: back to the configured one.
            (Version::V1, State::Downgraded(_)) if class == Class::Unsupported => {
                *state = State::Unproven(0);
                false
            }
            (Version::V2, _) if class == Class::Unsupported => {
                // Another shard's request may have been under way in 2.0: the time stays.
                if !matches!(*state, State::Downgraded(since) if now - since < RETRY_V2_SECONDS) {
                    *state = downgraded(now);
                }
                true
            }
            (Version::V2, _) if class == Class::Stored || response.written().is_some() => {
                *state = State::Proven;
                false
            }
            (Version::V2, State::Unproven(refusals)) if class == Class::Rejected => {
                *state = match refusals + 1 {
                    REFUSALS_MAX => State::ProbingV1,
                    more => State::Unproven(more),
                };
                false
            }
            (Version::V1 | Version::V2, _) => false,
        }
    }
}

fn downgraded(now: f64) -> State {
    tracing::warn!("remote write: the receiver does not support version 2.0; falling back to 1.0");
    State::Downgraded(now)
}
