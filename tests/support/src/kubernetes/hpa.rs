//! The maths of the HPA controller for metrics per pod, as recorded from Kubernetes 1.36.
//!
//! Pure: values and replicas in, wanted replicas out. Errors freeze; a missing pod counts as 0 on the way up and as the
//! target on the way down; a step of less than the tolerance is none.

use std::collections::BTreeMap;

#[cfg(test)]
mod tests;

/// Default tolerance: a tenth of the target, in thousandths.
pub const TOLERANCE_MILLI: i128 = 100;

/// A `HorizontalPodAutoscaler` with one metric of the type `Pods`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Autoscaler {
    /// `minReplicas`
    pub min: u32,
    /// `maxReplicas`
    pub max: u32,
    /// `averageValue` of the target, in thousandths.
    pub target_milli: i128,
    /// Highest relative difference from the target that is none, in thousandths.
    pub tolerance_milli: i128,
    /// Pods per step: a multiple of the current ones on the way up (2 for a policy of 100 %); `None`: no limit.
    pub factor_up: Option<u32>,
}

/// What an autoscaler decides in one sync.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// So many replicas, which may be as many as there are.
    Replicas {
        /// How many.
        count: u32,
        /// Average of the values, in thousandths, as `currentMetrics` shows it.
        average_milli: i128,
        /// Condition `ScalingLimited`: its reason.
        limited: Option<&'static str>,
    },
    /// None: the condition `ScalingActive` is false with this message, replicas stay.
    Frozen(String),
}

// === impl Autoscaler ===

impl Autoscaler {
    /// A new one with the controller's default tolerance and a policy of 100 % per step, as in the recordings.
    pub fn new(min: u32, max: u32, target_milli: i128) -> Self {
        Self {
            min,
            max,
            target_milli,
            tolerance_milli: TOLERANCE_MILLI,
            factor_up: Some(2),
        }
    }

    /// One sync: `pods` are the running pods of the target, `answer` what the metrics API said, per pod in thousandths.
    pub fn decide(
        &self,
        metric: &str,
        pods: &[String],
        answer: &Result<BTreeMap<String, i128>, String>,
    ) -> Decision {
        let values = match answer {
            Err(message) => {
                return frozen(
                    metric,
                    &format!("unable to fetch metrics from custom metrics API: {message}"),
                );
            }
            Ok(values) if values.is_empty() => {
                return frozen(metric, "no metrics returned from custom metrics API");
            }
            Ok(values) => values,
        };
        let count = i128::try_from(values.len()).unwrap_or(i128::MAX);
        let sum: i128 = values.values().sum();
        let missing = pods.iter().filter(|pod| !values.contains_key(*pod)).count();
        let current = u32::try_from(pods.len()).unwrap_or(u32::MAX);
        let wanted = self.wanted(current, sum, count, i128::try_from(missing).unwrap_or(0));
        let (count_wanted, limited) = self.limit(current, wanted);
        Decision::Replicas {
            count: count_wanted,
            average_milli: sum / count,
            limited,
        }
    }

    /// `calcPlainMetricReplicas` of the controller.
    fn wanted(&self, current: u32, sum: i128, count: i128, missing: i128) -> i128 {
        let here = i128::from(current);
        let average = sum / count;
        if missing == 0 {
            if self.tolerates(average) {
                return here;
            }
            return div_ceil(average * here, self.target_milli);
        }
        let up = average > self.target_milli;
        let filled = if up { 0 } else { self.target_milli };
        let all = count + missing;
        let rebalanced = (sum + missing * filled) / all;
        let flipped = (rebalanced > self.target_milli) != up;
        if self.tolerates(rebalanced) || flipped {
            return here;
        }
        let wanted = div_ceil(rebalanced * all, self.target_milli);
        if (up && wanted < here) || (!up && wanted > here) {
            return here;
        }
        wanted
    }

    fn tolerates(&self, average: i128) -> bool {
        (average - self.target_milli).abs() * 1000 <= self.tolerance_milli * self.target_milli
    }

    /// Bounds and the policy. What the policy holds back is a limit too, but only the bounds are named in the end.
    fn limit(&self, current: u32, wanted: i128) -> (u32, Option<&'static str>) {
        let limited = if wanted > i128::from(self.max) {
            Some("TooManyReplicas")
        } else if wanted < i128::from(self.min) {
            Some("TooFewReplicas")
        } else {
            None
        };
        let bounded = wanted.clamp(i128::from(self.min), i128::from(self.max));
        let bounded = u32::try_from(bounded).unwrap_or(self.max);
        let ceiling = self
            .factor_up
            .map_or(u32::MAX, |factor| current.saturating_mul(factor));
        (bounded.min(ceiling.max(self.min)), limited)
    }
}

fn frozen(metric: &str, why: &str) -> Decision {
    Decision::Frozen(format!(
        "the HPA was unable to compute the replica count: unable to get metric {metric}: {why}"
    ))
}

fn div_ceil(value: i128, by: i128) -> i128 {
    value / by + i128::from(value % by > 0)
}
