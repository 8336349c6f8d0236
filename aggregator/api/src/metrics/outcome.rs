//! The outcome of a request: a result, and the pods without a value.

use aggregator_core::pod::PodKey;
use aggregator_core::query::NoValue;

use crate::status::Refusal;

/// A result with the pods without a value, which an error has as well.
#[derive(Clone, Debug)]
pub(crate) struct Outcome<T> {
    pub(crate) result: Result<T, Refusal>,
    pub(crate) missing: Vec<(PodKey, NoValue)>,
}

// === impl Outcome ===

impl<T> Outcome<T> {
    /// Chains like [`Result::and_then`]; collects the pods without a value of both steps.
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
