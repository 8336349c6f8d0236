//! The replicas that a `HorizontalPodAutoscaler` derives from a metric of type `Pods`, without
//! stabilisation.
//!
//! <https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/#algorithm-details>

/// Average requests per second and pod the autoscaler aims at.
pub(crate) const TARGET: f64 = 10.0;
/// A ratio this close to 1 changes nothing.
const TOLERANCE: f64 = 0.1;

/// Replicas wanted for `current` pods that have the average value `average`; at least 1.
pub(crate) fn desired_replicas(current: u32, average: f64) -> u32 {
    let ratio = average / TARGET;
    if (ratio - 1.0).abs() <= TOLERANCE {
        return current;
    }
    let wanted = (ratio * f64::from(current)).ceil().max(1.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole and at least 1; a cast saturates above"
    )]
    let wanted = wanted as u32;
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Within the tolerance nothing changes; beyond it the ratio is rounded up; one pod stays.
    #[test]
    fn wants_as_kubernetes_does() {
        let wanted = [0.0, 8.9, 9.0, 10.9, 11.1, 60.0].map(|average| desired_replicas(1, average));
        assert_eq!(wanted, [1, 1, 1, 1, 2, 6]);
        assert_eq!(desired_replicas(3, 20.0), 6);
        assert_eq!(desired_replicas(4, 4.9), 2);
        assert_eq!(desired_replicas(4, 9.5), 4);
    }
}
