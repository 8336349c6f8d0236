//! The replicas that a `HorizontalPodAutoscaler` derives from a metric of type `Pods`, without
//! stabilisation.

use autoscaler::{Hpa, Metric, Phase, Tally};

/// Average requests per second and pod the autoscaler aims at.
pub(crate) const TARGET: u32 = 10;

/// Replicas wanted for one pod with the value `rate`; at least 1.
pub(crate) fn desired_replicas(rate: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a rate; a cast saturates, and makes 0 of what is no number"
    )]
    let milli = (rate * 1000.0).round() as i128;
    let metric = Metric::pods("requests", i128::from(TARGET) * 1000);
    let hpa = Hpa::new(1, u32::MAX, Vec::new());
    let mut tally = Tally::default();
    tally.add(Phase::Running, false, Some(milli));
    hpa.replicas_for_pods(&metric, 1, &tally).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Within the tolerance nothing changes; beyond it the ratio is rounded up; one pod stays.
    #[test]
    fn wants_as_kubernetes_does() {
        let wanted = [0.0, 8.9, 9.0, 10.9, 11.1, 60.0].map(desired_replicas);
        assert_eq!(wanted, [1, 1, 1, 1, 2, 6]);
    }
}
