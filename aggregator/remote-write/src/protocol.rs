//! Which version of the protocol requests are made in: 2.0 if asked for, as long as the receiver
//! knows it.
//!
//! By the specification two answers say that it does not: 415, and a 2xx without the headers that
//! 2.0 wants (`X-Prometheus-Remote-Write-*-Written`; a receiver of 1.0 may take a request of 2.0
//! for an empty one). Then 1.0 is sent, and 2.0 tried again after `TRIED_AGAIN_SECONDS`: receivers
//! are upgraded. A 400 refuses samples, and is never sent again; but old receivers also answer it
//! to what they cannot read. After some in a row, from a receiver that never showed that it knows
//! 2.0, the next request is one of 1.0: if it is stored, that was it.

use parking_lot::Mutex;

use crate::write_response::{Class, WriteResponse};

#[cfg(test)]
mod tests;

/// After this time 2.0 is tried again, in seconds.
const TRIED_AGAIN_SECONDS: f64 = 600.0;
/// Refusals in a row, from a receiver that never showed that it knows 2.0, after which 1.0 is
/// tried.
const REFUSALS_MAX: u32 = 3;

/// A version of the protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    /// 1.0.
    V1,
    /// 2.0.
    V2,
}

/// The version in use, shared by all shards. Time is an argument, in seconds since any origin.
#[derive(Debug)]
pub struct Protocol(Mutex<State>);

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// 1.0 was asked for.
    Plain,
    /// 2.0, and so many refusals in a row without a sign that the receiver knows it.
    Unproven(u32),
    /// 2.0, which the receiver knows.
    Proven,
    /// 1.0, to see whether that is stored.
    Trying,
    /// 1.0 since then: the receiver does not know 2.0.
    Older(f64),
}

// === impl Protocol ===

impl Protocol {
    /// Begins with `version`.
    pub fn new(version: Version) -> Self {
        Self(Mutex::new(match version {
            Version::V1 => State::Plain,
            Version::V2 => State::Unproven(0),
        }))
    }

    pub fn version(&self, now: f64) -> Version {
        match *self.0.lock() {
            State::Plain | State::Trying => Version::V1,
            State::Older(since) if now - since < TRIED_AGAIN_SECONDS => Version::V1,
            State::Unproven(_) | State::Proven | State::Older(_) => Version::V2,
        }
    }

    /// A request in `sent` was answered so; true if it is to be sent again in 1.0.
    pub fn observe(&self, sent: Version, answer: &WriteResponse, now: f64) -> bool {
        let mut state = self.0.lock();
        let class = answer.class();
        if matches!(*state, State::Plain) {
            return false;
        }
        match (sent, *state) {
            (Version::V1, State::Trying) => {
                match class {
                    Class::Stored => *state = older(now),
                    Class::Rejected => *state = State::Unproven(0),
                    _ => {}
                }
                false
            }
            // It takes neither: 2.0 is what was asked for.
            (Version::V1, State::Older(_)) if class == Class::Unsupported => {
                *state = State::Unproven(0);
                false
            }
            (Version::V2, _) if class == Class::Unsupported => {
                if !matches!(*state, State::Older(since) if now - since < TRIED_AGAIN_SECONDS) {
                    *state = older(now);
                }
                true
            }
            (Version::V2, _) if class == Class::Stored || answer.written().is_some() => {
                *state = State::Proven;
                false
            }
            (Version::V2, State::Unproven(refusals)) if class == Class::Rejected => {
                *state = match refusals + 1 {
                    REFUSALS_MAX => State::Trying,
                    more => State::Unproven(more),
                };
                false
            }
            (Version::V1 | Version::V2, _) => false,
        }
    }
}

fn older(now: f64) -> State {
    tracing::warn!(
        "remote write: the receiver does not know version 2.0; going on with 1.0 for now"
    );
    State::Older(now)
}
