//! The steps of a decision, each with its numbers.

use std::time::Duration;

use crate::behavior::Policy;
use crate::metric::Target;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    Up,
    Down,
}

/// One step; prints as one plain sentence. Values are thousandths, ratios are to the target.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Pods have values.
    Average {
        pods: i64,
        sum_milli: i128,
        average_milli: i128,
    },
    /// Pods use so much of what they request.
    Utilization { pods: i64, percent: i128 },
    /// Pods that are being deleted or have failed do not count, whatever their values.
    Ignored { pods: i64 },
    /// Pods that are Pending or not ready yet: their values do not count.
    Unready { pods: i64 },
    /// Pods without a value.
    Missing { pods: i64 },
    /// The average (or the utilisation in percent, by 1000) against its target.
    Ratio { ratio: f64, target: Target },
    /// A value in all against its target.
    Total {
        total_milli: i128,
        target_milli: i128,
        ratio: f64,
    },
    /// A value in all, by the replicas, against its target per pod.
    TotalPerPod {
        total_milli: i128,
        replicas: i64,
        target_milli: i128,
        ratio: f64,
    },
    /// Pods without a value, taken as `as_milli`, which makes another average. Pods that are not
    /// ready join them as 0 on the way up.
    Filled {
        missing: i64,
        unready: i64,
        filling: Filling,
        pods: i64,
        ratio: f64,
    },
    /// Within the tolerance: no change.
    Within { tolerance: f64, replicas: i64 },
    /// What was filled in turns the direction: no change.
    Turned { replicas: i64 },
    /// The ratio times the pods, rounded up.
    Rounded {
        ratio: f64,
        pods: i64,
        replicas: i64,
    },
    /// The total by the target, rounded up.
    Divided {
        total_milli: i128,
        target_milli: i128,
        replicas: i64,
    },
    /// From no replicas: the ratio itself, rounded up.
    FromZero { ratio: f64, replicas: i64 },
    /// Of several metrics the one that wants most.
    Most {
        metric: String,
        metrics: usize,
        replicas: i64,
    },
    /// Some metrics failed, and the others do not want fewer replicas.
    OnlyUp { failed: usize, replicas: i64 },
    /// Some metrics failed, and the others want fewer replicas: no change.
    Blocked {
        failed: usize,
        wanted: i64,
        replicas: i64,
    },
    /// Another recommendation of the window wins.
    Stabilized {
        direction: Direction,
        window: Duration,
        /// How long ago it was made; `None`: the current replicas lie between all of them.
        age: Option<Duration>,
        wanted: i64,
        replicas: i64,
    },
    /// A policy allows no more.
    Limited {
        direction: Direction,
        policy: Policy,
        /// Replicas at the start of its period.
        start: i64,
        wanted: i64,
        replicas: i64,
    },
    /// Without `spec.behavior`, a sync at most doubles the replicas, or makes them 4.
    Doubled { wanted: i64, replicas: i64 },
    /// Scaling in this direction is disabled.
    Disabled { direction: Direction, replicas: i64 },
    /// `maxReplicas` allows no more.
    Max { wanted: i64, replicas: i64 },
    /// `minReplicas` allows no fewer.
    Min { wanted: i64, replicas: i64 },
    /// The target has more than `maxReplicas`; no metric is read.
    AboveMax { had: u32, replicas: u32 },
    /// The target has fewer than `minReplicas`; no metric is read.
    BelowMin { had: u32, replicas: u32 },
    /// The target has no replicas, and it was not the autoscaler that took them.
    Zero,
}

/// What pods without a value are taken for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Filling {
    /// On the way up.
    Zero,
    /// On the way down, in thousandths.
    Target(i128),
    /// On the way down, for a utilisation: so many percent of what they request.
    Percent(i128),
    /// Exactly on target: not at all.
    Nothing,
}

// === impl Direction ===

impl Direction {
    /// The field of `spec.behavior`.
    pub fn field(self) -> &'static str {
        match self {
            Self::Up => "scaleUp",
            Self::Down => "scaleDown",
        }
    }
}

// === impl Step ===

impl Step {
    /// Replicas after this step, if it is one that makes replicas.
    pub fn replicas(&self) -> Option<u32> {
        let replicas = match self {
            Self::Within { replicas, .. }
            | Self::Turned { replicas }
            | Self::Rounded { replicas, .. }
            | Self::Divided { replicas, .. }
            | Self::FromZero { replicas, .. }
            | Self::Most { replicas, .. }
            | Self::OnlyUp { replicas, .. }
            | Self::Blocked { replicas, .. }
            | Self::Stabilized { replicas, .. }
            | Self::Limited { replicas, .. }
            | Self::Doubled { replicas, .. }
            | Self::Disabled { replicas, .. }
            | Self::Max { replicas, .. }
            | Self::Min { replicas, .. } => *replicas,
            Self::AboveMax { replicas, .. } | Self::BelowMin { replicas, .. } => {
                return Some(*replicas);
            }
            Self::Zero => 0,
            Self::Average { .. }
            | Self::Utilization { .. }
            | Self::Ignored { .. }
            | Self::Unready { .. }
            | Self::Missing { .. }
            | Self::Ratio { .. }
            | Self::Total { .. }
            | Self::TotalPerPod { .. }
            | Self::Filled { .. } => return None,
        };
        Some(u32::try_from(replicas.max(0)).unwrap_or(u32::MAX))
    }
}
