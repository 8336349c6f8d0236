//! How old the values were when they were read.

use serde::Serialize;

/// Ages of all reads, in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct SignalAges(Vec<u64>);

/// Quantiles of [`SignalAges`], in milliseconds; `None` without a read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct Quantiles {
    /// Half of the reads were no older.
    pub(crate) p50: Option<u64>,
    /// 99 of 100 reads were no older.
    pub(crate) p99: Option<u64>,
}

// === impl SignalAges ===

impl SignalAges {
    pub(crate) fn add(&mut self, millis: u64) {
        self.0.push(millis);
    }

    /// How many reads there were.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The quantiles of all reads, by nearest rank.
    pub(crate) fn quantiles(&self) -> Quantiles {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100);
            sorted.get(rank.checked_sub(1)?).copied()
        };
        Quantiles {
            p50: rank(50),
            p99: rank(99),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nearest rank over unsorted reads; no read has no quantile.
    #[test]
    fn takes_quantiles() {
        let mut ages = SignalAges::default();
        assert_eq!(
            ages.quantiles(),
            Quantiles {
                p50: None,
                p99: None
            }
        );
        for age in (1..=200).rev() {
            ages.add(age);
        }
        let expected = Quantiles {
            p50: Some(100),
            p99: Some(198),
        };
        assert_eq!((ages.quantiles(), ages.len()), (expected, 200));
    }
}
