//! Why the store refuses a stream or a report.

use std::time::Duration;

use thiserror::Error;

use crate::pod::PodKey;
use crate::report::InstanceId;
use crate::status::RefusedReason;

/// Why the store refused a stream or a report. Nothing of a refused report was taken.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum StoreRefusal {
    #[error("pod {pod}: the aggregator holds {max} pods already")]
    Pods {
        /// The pod that had no room.
        pod: PodKey,
        /// Pods the store may hold.
        max: usize,
    },
    /// The pod has too many instances.
    #[error("pod {pod}: {max} instances of its sidecar are open already")]
    InstancesPerPod {
        /// Whose instance had no room.
        pod: PodKey,
        /// Instances a pod may have.
        max: usize,
    },
    /// Another instance, whose counters began later, reports for the pod.
    #[error(
        "pod {pod}: instance {instance} is older than instance {newer}, which reports for the pod"
    )]
    OlderInstance {
        pod: PodKey,
        /// The instance that was refused.
        instance: InstanceId,
        newer: InstanceId,
    },
    /// A running total is higher than any can be.
    #[error("{field}: {total} is more than {max}, the highest total there can be")]
    TotalTooHigh {
        /// Where it stood in the report.
        field: String,
        total: u64,
        max: u64,
    },
    /// A running total rose faster than any can.
    #[error("{field}: {total} is {rise} more than before, in {elapsed:?} at most {max} can be")]
    RoseTooFast {
        /// Where it stood in the report.
        field: String,
        total: u64,
        /// By how much it rose.
        rise: u64,
        elapsed: Duration,
        /// The highest rise in that time.
        max: u64,
    },
    /// The report is from the future.
    #[error("report.interval_end_unix_ms: {end_ms} is {ahead:?} ahead of the sidecar's own clock")]
    AheadOfClock {
        /// What the report said, in milliseconds.
        end_ms: u64,
        /// How far that is ahead.
        ahead: Duration,
    },
    /// The store no longer knows the stream: its pod was forgotten, or another pod of this name
    /// took its place.
    #[error("pod {pod}: the aggregator no longer knows this stream; connect again")]
    UnknownStream { pod: PodKey },
}

// === impl Refused ===

impl StoreRefusal {
    /// The kind of reason, as it is counted.
    pub fn reason(&self) -> RefusedReason {
        match self {
            Self::Pods { .. } => RefusedReason::Pods,
            Self::InstancesPerPod { .. } => RefusedReason::InstancesPerPod,
            Self::OlderInstance { .. } => RefusedReason::OlderInstance,
            Self::TotalTooHigh { .. } | Self::RoseTooFast { .. } => RefusedReason::ImpossibleTotal,
            Self::AheadOfClock { .. } => RefusedReason::AheadOfClock,
            Self::UnknownStream { .. } => RefusedReason::UnknownStream,
        }
    }
}
