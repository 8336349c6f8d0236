//! The median of paired differences with a confidence interval that assumes nothing about their
//! distribution.

use serde::Serialize;

/// Fewest values that allow a 95 % interval: 1 - 2 / 2^6 = 96.9 %.
pub(crate) const VALUES_MIN: usize = 6;
/// Chance that the median of the population lies outside an interval, at most.
const DOUBT: f64 = 0.05;

/// A median and the interval that holds the true one in at least 95 of 100 runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Interval {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

// === impl Interval ===

impl Interval {
    /// `None` when there are fewer than [`VALUES_MIN`] values.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        if values.len() < VALUES_MIN {
            return None;
        }
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let outside = ranks_outside(sorted.len());
        Some(Self {
            median: middle(&sorted),
            low: sorted[outside],
            high: sorted[sorted.len() - 1 - outside],
        })
    }

    /// `median [low, high]` with so many decimals, and a unit.
    pub(crate) fn shown(self, decimals: usize, unit: &str) -> String {
        let Self { median, low, high } = self;
        format!("{median:+.decimals$} [{low:+.decimals$}, {high:+.decimals$}] {unit}")
    }
}

/// Middle value, or the mean of the two in the middle; NaN of nothing.
pub(crate) fn middle(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[half],
        _ => f64::midpoint(sorted[half - 1], sorted[half]),
    }
}

/// How many of the smallest, and of the largest, values may be left out of the interval. Each value
/// lies below the true median with chance 1/2, so their number is binomial (the sign test): both
/// tails together keep at most [`DOUBT`].
fn ranks_outside(n: usize) -> usize {
    // Chance that exactly k of n values lie below the median, for k = 0, 1, …
    let mut chance = 0.5_f64.powi(i32::try_from(n).unwrap_or(i32::MAX));
    let mut tail = chance;
    let mut outside = 0;
    let (mut k, all) = (0.0, to_f64(n));
    loop {
        chance *= (all - k) / (k + 1.0);
        k += 1.0;
        if 2.0 * (tail + chance) > DOUBT {
            return outside;
        }
        tail += chance;
        outside += 1;
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count of rounds")]
fn to_f64(n: usize) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::{Interval, ranks_outside};

    /// The ranks are those of the published tables of the sign test's interval for the median.
    #[test]
    fn ranks_are_those_of_the_tables() {
        let outside: Vec<_> = [6, 8, 9, 12, 15, 20, 25, 30].map(ranks_outside).into();
        assert_eq!(outside, [0, 0, 1, 2, 3, 5, 7, 9]);
    }

    /// One wild round moves neither the median nor the interval far.
    #[test]
    fn outliers_do_not_rule() {
        let mut values: Vec<f64> = (1..=15).map(f64::from).collect();
        values[14] = 1e9;
        let found = Interval::of(&values).unwrap();
        assert_eq!(
            found,
            Interval {
                median: 8.0,
                low: 4.0,
                high: 12.0
            }
        );
        assert_eq!(Interval::of(&values[..5]), None);
    }
}
