//! One running total of one instance, with its history.

use crate::history::History;
use common_time::Monotonic;

/// A running total: the highest value reported, since frames may come twice or in any order.
#[derive(Clone, Debug, Default)]
pub(super) struct Counter {
    total: u64,
    pub(super) history: History,
}

/// The time in which totals changed, on the aggregator's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// Nothing changed between the previous report and this moment.
    pub(super) start: Monotonic,
    /// When the sidecar read its totals.
    pub(super) end: Monotonic,
}

/// How to count the first report of a total.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Origin {
    /// It rose from 0 in the span.
    Zero,
    /// It may have risen long ago: a baseline, never a burst.
    Unknown,
}

// === impl Counter ===

impl Counter {
    /// The sidecar's own running total.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Raises to `total`. A lower value comes from an old frame and changes nothing.
    pub(super) fn raise(&mut self, span: Span, total: u64) {
        if total > self.total {
            self.history.rise(span.start, span.end, self.total, total);
            self.total = total;
        }
    }

    /// Raises a counter, or begins it if it is `None`.
    pub(super) fn raise_or_begin(
        counter: &mut Option<Self>,
        span: Span,
        origin: Origin,
        total: u64,
    ) {
        match (counter, origin) {
            (Some(counter), _) => counter.raise(span, total),
            (counter, Origin::Zero) => counter.insert(Self::default()).raise(span, total),
            (counter, Origin::Unknown) => {
                *counter = Some(Self {
                    total,
                    history: History::default(),
                });
            }
        }
    }
}
