//! How old a served value is, and where the time went.

use std::time::Duration;

use aggregator_core::query::Reading;
use common_time::Monotonic;

/// The age of a value: the time from the end of the sidecar's interval to the read, which is
/// `transport` plus `store`; and how long what is in it may have waited before that.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct SignalAge {
    /// Length of the sidecar's newest interval: a request in it waited at most so long to be told.
    pub(crate) flush: Duration,
    /// From the end of that interval to the arrival of its report, beyond the shortest way ever
    /// seen: clocks are compared by frames, so the shortest way itself cannot be told from their
    /// difference.
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
