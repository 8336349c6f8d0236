//! Checks that requests follow the weights.

/// Standard deviations that chance is given: it takes more once in two million times.
const SIGMAS: f64 = 5.0;

/// Requests to two versions, and their weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Split {
    pub first: u64,
    pub second: u64,
    /// Requests that the second should have.
    pub expected: f64,
    /// Tolerance of a share.
    pub bound: f64,
}

// === impl Split ===

impl Split {
    /// These requests, with these weights: a binomial distribution.
    pub fn new((first, second): (u64, u64), weights: (u32, u32)) -> Self {
        let share = f64::from(weights.1) / f64::from(weights.0 + weights.1);
        let all = real(first + second);
        Self {
            first,
            second,
            expected: all * share,
            bound: SIGMAS * (all * share * (1.0 - share)).sqrt() + 1.0,
        }
    }

    /// False if chance does not explain it.
    pub fn is_likely(&self) -> bool {
        (real(self.second) - self.expected).abs() <= self.bound
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn real(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::Split;

    #[test]
    fn chance_is_told_from_a_wrong_weight() {
        assert!(Split::new((948, 52), (95, 5)).is_likely());
        assert!(!Split::new((900, 100), (95, 5)).is_likely());
        assert!(!Split::new((1_000, 0), (95, 5)).is_likely());
        assert!(Split::new((480, 520), (50, 50)).is_likely());
    }
}
