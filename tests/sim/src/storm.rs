//! Storms: thousands of sidecars that begin at once, and replicas with little CPU.
//!
//! ```text
//! seed -> fleet: sidecar (stream of filter-core) -> queue of work -> replica (line, parse, store)
//!                                                    late pulse   -> lag, stretch
//! ```
//!
//! Each replica has one processor that does its work in order: a handshake, a stream that is
//! refused and a report each take so long. What waits there is what a frame waits in the buffers of
//! a socket. The rest is the real thing: backoff and jitter of the filter, the line of streams, the
//! measured lag, the asked interval, the store.
//!
//! Every pod counts at a steady rate from its start to its end, so that the truth of every interval
//! is known without a list.

mod check;
mod event;
mod fleet;
mod replica;
mod world;

use std::fmt;

/// What happens at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A replica ends and begins again with an empty store.
    Restart,
    /// Every pod is replaced by another one within 20 s, as a roll-out does.
    RollOut,
    /// A third of the pods is gone without a word, and others begin elsewhere within two seconds.
    NodesLost,
}

#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub sidecars: usize,
    pub kind: Kind,
    /// Time that a replica's processor takes for a handshake, in microseconds: TLS with a token
    /// that is verified locally.
    pub handshake_us: u64,
    /// The same for a report.
    pub report_us: u64,
}

/// What came of a storm.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// From the moment at which all could begin to that at which every pod is live at every
    /// replica, in milliseconds.
    pub live_after_ms: u64,
    /// Highest age that an answer told, in milliseconds.
    pub oldest_ms: u64,
    /// Longest wait of a frame for the processor, in milliseconds.
    pub waited_ms: u64,
    /// Streams that were told to come back later.
    pub sent_away: u64,
    /// Streams that waited in the line at once, at most.
    pub line_max: usize,
    /// Longest interval that sidecars were asked for, in milliseconds.
    pub asked_ms: u64,
    pub reports: u64,
    /// Values compared with the truth.
    pub values: u64,
}

/// Runs one storm. The error says which promise was broken, and when.
pub fn run(seed: u64, plan: Plan) -> Result<Outcome, String> {
    world::World::new(seed, plan)
        .run()
        .map_err(|broken| format!("storm, seed {seed}, {plan:?}: {broken}"))
}

// === impl Kind ===

impl Kind {
    pub const ALL: [Self; 3] = [Self::Restart, Self::RollOut, Self::NodesLost];
}

// === impl Plan ===

impl Plan {
    /// As measured: a report 20 µs, a handshake with TLS 1 ms.
    pub fn new(sidecars: usize, kind: Kind) -> Self {
        Self {
            sidecars,
            kind,
            handshake_us: 1000,
            report_us: 20,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "all live after {} ms; oldest value {} ms; a frame waited {} ms at most; {} sent away, {} in line; asked \
             for {} ms; {} reports, {} values compared",
            self.live_after_ms,
            self.oldest_ms,
            self.waited_ms,
            self.sent_away,
            self.line_max,
            self.asked_ms,
            self.reports,
            self.values
        )
    }
}
