//! What a run came to.

use std::time::Duration;

use serde::Serialize;

/// A change of the replicas.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Scaling {
    /// Since the start, in milliseconds.
    pub at_ms: u64,
    pub from: u32,
    pub to: u32,
}

/// What an autoscaler made of a series.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// All requests.
    pub requests: f64,
    /// Requests beyond what the ready pods could serve at that moment.
    pub over_capacity_requests: f64,
    /// Seconds in which there were any.
    pub over_capacity_seconds: f64,
    /// Pods and seconds, from creation to deletion: what is paid for.
    pub replica_seconds: f64,
    /// Most replicas at once.
    pub most_replicas: u32,
    /// Scalings in the other direction than the one before.
    pub reversals: u32,
    pub scalings: Vec<Scaling>,
}

// === impl Outcome ===

impl Outcome {
    pub(crate) fn scaled(&mut self, at: Duration, from: u32, to: u32) {
        let up = to > from;
        if self
            .scalings
            .last()
            .is_some_and(|last| (last.to > last.from) != up)
        {
            self.reversals += 1;
        }
        let at_ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        self.scalings.push(Scaling { at_ms, from, to });
        self.most_replicas = self.most_replicas.max(to);
    }
}
