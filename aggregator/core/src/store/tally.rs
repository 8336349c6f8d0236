//! Totals of one instance in one series.

use crate::history::History;
use crate::report::{ResponseCode, SeriesTotals};
use crate::series::CodeClass;
use crate::store::counter::{Counter, Origin, Span};
use common_time::Monotonic;

/// The running totals of one series. `None` means that the sidecar never reported such a total.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) requests: Option<Counter>,
    pub(super) requests_at_completion: bool,
    pub(super) upstream_attempts: Option<Counter>,
    pub(super) inflight_ns: Option<Counter>,
    /// Requests in flight, with their time.
    pub(super) inflight: Option<(Monotonic, u64)>,
    /// Highest total of each reported code, in ascending order.
    codes: Vec<(ResponseCode, u64)>,
    /// Sums of `codes` by class, in ascending order, with their history.
    classes: Vec<(CodeClass, Counter)>,
}

// === impl Tally ===

impl Tally {
    /// Takes in the totals of a report.
    pub(super) fn apply(&mut self, span: Span, origin: Origin, totals: &SeriesTotals) {
        self.requests_at_completion = totals.requests_at_completion;
        for (counter, total) in [
            (&mut self.requests, totals.requests),
            (&mut self.upstream_attempts, totals.upstream_attempts),
            (&mut self.inflight_ns, totals.inflight_ns),
        ] {
            if let Some(total) = total {
                Counter::raise_or_begin(counter, span, origin, total);
            }
        }
        // A gauge, unlike the totals: its newest value counts, not its highest.
        if let Some(inflight) = totals.inflight
            && self.inflight.is_none_or(|(at, _)| at <= span.end)
        {
            self.inflight = Some((span.end, inflight));
        }
        self.apply_responses(span, origin, totals);
    }

    /// The highest reported total of `code`.
    pub(super) fn code(&self, code: ResponseCode) -> Option<u64> {
        let index = self.codes.binary_search_by_key(&code, |(c, _)| *c).ok()?;
        Some(self.codes[index].1)
    }

    /// Highest total of each reported code, in ascending order.
    pub(super) fn codes(&self) -> &[(ResponseCode, u64)] {
        &self.codes
    }

    /// Responses by class, the classes that occurred.
    pub(super) fn responses(&self) -> impl Iterator<Item = (CodeClass, &Counter)> {
        self.classes
            .iter()
            .map(|(class, counter)| (*class, counter))
    }

    /// Drops histories without a rise since `horizon`.
    pub(super) fn forget(&mut self, horizon: Monotonic) {
        for history in self.histories() {
            history.forget(horizon);
        }
    }

    /// Moves all times by `millis`.
    pub(super) fn shift(&mut self, millis: i64) {
        if let Some((at, _)) = &mut self.inflight {
            *at = at.moved(millis);
        }
        for history in self.histories() {
            history.shift(millis);
        }
    }

    fn histories(&mut self) -> impl Iterator<Item = &mut History> {
        [
            &mut self.requests,
            &mut self.upstream_attempts,
            &mut self.inflight_ns,
        ]
        .into_iter()
        .flatten()
        .chain(self.classes.iter_mut().map(|(_, counter)| counter))
        .map(|counter| &mut counter.history)
    }

    /// Counts a class as the sum of its codes: beyond its limit of codes the filter counts exact
    /// codes under their class.
    fn apply_responses(&mut self, span: Span, origin: Origin, totals: &SeriesTotals) {
        for (&code, &total) in &totals.responses {
            match self.codes.binary_search_by_key(&code, |(c, _)| *c) {
                Ok(index) => self.codes[index].1 = self.codes[index].1.max(total),
                Err(index) => self.codes.insert(index, (code, total)),
            }
        }
        for class in CodeClass::ALL {
            let mut codes = self.codes.iter().filter(|(code, _)| code.class() == class);
            let Some(first) = codes.next() else {
                continue;
            };
            let sum = codes.fold(first.1, |sum, (_, total)| sum.saturating_add(*total));
            match self.classes.binary_search_by_key(&class, |(c, _)| *c) {
                Ok(index) => self.classes[index].1.raise(span, sum),
                Err(index) => {
                    let mut counter = None;
                    Counter::raise_or_begin(&mut counter, span, origin, sum);
                    if let Some(counter) = counter {
                        self.classes.insert(index, (class, counter));
                    }
                }
            }
        }
    }
}
