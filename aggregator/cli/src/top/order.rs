//! The order of rows. Pure.

use std::cmp::Ordering;

use super::rows::Row;
use crate::args::SortBy;

/// Sorts values downwards with what is not known last, names and states upwards; then by namespace
/// and name.
pub(super) fn sort(rows: &mut [Row], by: SortBy) {
    rows.sort_by(|one, other| {
        let rates = (&one.rates, &other.rates);
        let first = match by {
            SortBy::Requests => down(rates.0.requests_per_second, rates.1.requests_per_second),
            SortBy::Attempts => down(rates.0.attempts_per_second, rates.1.attempts_per_second),
            SortBy::Inflight => down(rates.0.inflight, rates.1.inflight),
            SortBy::Errors => down(rates.0.error_ratio, rates.1.error_ratio),
            SortBy::Skew => down(one.skew, other.skew),
            SortBy::Window => down(rates.0.window_ms, rates.1.window_ms),
            SortBy::Age => down(rates.0.age_ms, rates.1.age_ms),
            SortBy::State => one.state.cmp(&other.state),
            SortBy::Name => Ordering::Equal,
        };
        let name = |row: &Row| (row.namespace.clone(), row.name.clone());
        first.then_with(|| name(one).cmp(&name(other)))
    });
}

fn down<T: PartialOrd>(one: Option<T>, other: Option<T>) -> Ordering {
    match (one, other) {
        (Some(one), Some(other)) => other.partial_cmp(&one).unwrap_or(Ordering::Equal),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}
