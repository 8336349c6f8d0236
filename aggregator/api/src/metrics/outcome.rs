//! The outcome of a request: a result, and the pods that were read.

use aggregator_core::query::QueryResult;

use crate::status::Refusal;

/// A result with the pods that were read for it, which an error has as well.
#[derive(Clone, Debug)]
pub(crate) struct Outcome<T> {
    pub(crate) result: Result<T, Refusal>,
    pub(crate) pods: QueryResult,
}

// === impl Outcome ===

impl<T> Outcome<T> {
    /// Chains like [`Result::and_then`]; collects the pods of both steps.
    pub(crate) fn and_then<U, O: Into<Outcome<U>>>(self, next: impl FnOnce(T) -> O) -> Outcome<U> {
        let mut pods = self.pods;
        let result = self.result.and_then(|value| {
            let outcome: Outcome<U> = next(value).into();
            append(&mut pods.readings, outcome.pods.readings);
            append(&mut pods.missing, outcome.pods.missing);
            outcome.result
        });
        Outcome { result, pods }
    }
}

impl<T> From<Result<T, Refusal>> for Outcome<T> {
    fn from(result: Result<T, Refusal>) -> Self {
        Self {
            result,
            pods: QueryResult::default(),
        }
    }
}

/// Appends `more`; the first list is moved, not copied.
fn append<T>(all: &mut Vec<T>, more: Vec<T>) {
    if all.is_empty() {
        *all = more;
    } else {
        all.extend(more);
    }
}
