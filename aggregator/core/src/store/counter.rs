//! One running total of one instance, with its recent past.

use crate::history::History;
use common_time::Monotonic;

/// A running total: the highest value any frame told, since frames may come twice or in any order.
#[derive(Clone, Debug, Default)]
pub(super) struct Counter {
    total: u64,
    /// How the total came to be what it is, as far as it is known.
    pub(super) history: History,
}

/// When a change happened, on the aggregator's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// Nothing changed since the last report and before this.
    pub(super) start: Monotonic,
    /// When the total was read.
    pub(super) end: Monotonic,
}

/// What is known of a total that is told for the first time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Origin {
    /// It was 0 at the start of the span.
    Zero,
    /// It is older than our knowledge: a baseline, never a burst.
    Unknown,
}

// === impl Counter ===

impl Counter {
    /// The total, which is the sidecar's own.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Takes in `told`. A lower value than one known is an old frame and changes nothing.
    pub(super) fn raise(&mut self, span: Span, told: u64) {
        if told > self.total {
            self.history.rise(span.start, span.end, self.total, told);
            self.total = told;
        }
    }

    /// Takes in `told` into a counter that may be new.
    pub(super) fn raise_or_begin(
        counter: &mut Option<Self>,
        span: Span,
        origin: Origin,
        told: u64,
    ) {
        match (counter, origin) {
            (Some(counter), _) => counter.raise(span, told),
            (counter, Origin::Zero) => counter.insert(Self::default()).raise(span, told),
            (counter, Origin::Unknown) => {
                *counter = Some(Self {
                    total: told,
                    history: History::default(),
                });
            }
        }
    }
}
