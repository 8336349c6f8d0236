//! What came of a request, or of a part of one: a result, and beside it the pods that had no value.

use aggregator_core::pod::PodKey;
use aggregator_core::query::NoValue;

use crate::status::Refusal;

/// A result. Which pods had no value is told in either case.
#[derive(Clone, Debug)]
pub(crate) struct Outcome<T> {
    pub(crate) result: Result<T, Refusal>,
    pub(crate) missing: Vec<(PodKey, NoValue)>,
}

// === impl Outcome ===

impl<T> Outcome<T> {
    /// Goes on with what there is, if nothing was refused.
    pub(crate) fn and_then<U, O: Into<Outcome<U>>>(self, next: impl FnOnce(T) -> O) -> Outcome<U> {
        let mut missing = self.missing;
        let result = self.result.and_then(|value| {
            let outcome: Outcome<U> = next(value).into();
            missing.extend(outcome.missing);
            outcome.result
        });
        Outcome { result, missing }
    }
}

impl<T> From<Result<T, Refusal>> for Outcome<T> {
    fn from(result: Result<T, Refusal>) -> Self {
        Self {
            result,
            missing: Vec::new(),
        }
    }
}
