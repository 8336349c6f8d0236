//! Age of a served value, and its parts.

use std::time::Duration;

use aggregator_core::query::Reading;
use common_time::Monotonic;

/// The age of a value, from the end of the sidecar's interval to the read, is `transport` plus
/// `store`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct SignalAge {
    /// Length of the sidecar's newest interval: the longest a request in it waited to be reported.
    pub(crate) flush: Duration,
    /// From the end of that interval to the arrival of its report, beyond the shortest latency
    /// lately: clocks are compared by frames, so that latency cannot be separated from their
    /// offset.
    pub(crate) transport: Duration,
    /// From the arrival to the read.
    pub(crate) store: Duration,
}

// === impl SignalAge ===

impl SignalAge {
    /// The age at `now` of the oldest of `readings`.
    pub(crate) fn of_oldest<'a>(
        now: Monotonic,
        readings: impl IntoIterator<Item = &'a Reading>,
    ) -> Self {
        let oldest = readings.into_iter().min_by_key(|reading| reading.timestamp);
        oldest.map_or_else(Self::default, |oldest| Self {
            flush: oldest.interval,
            transport: oldest.arrived.since(oldest.timestamp),
            store: now.since(oldest.arrived.max(oldest.timestamp)),
        })
    }

    /// From the end of the sidecar's interval to the read.
    pub(crate) fn total(&self) -> Duration {
        self.transport + self.store
    }
}
