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
    Pods { pod: PodKey, max: usize },
    #[error("pod {pod}: its sidecar already has {max} instances")]
    InstancesPerPod { pod: PodKey, max: usize },
    /// Another instance replaced this one and is live.
    #[error(
        "pod {pod}: instance {instance} is older than instance {newer}, which reports for the pod"
    )]
    OlderInstance {
        pod: PodKey,
        instance: InstanceId,
        newer: InstanceId,
    },
    #[error("{field}: {total} exceeds {max}, the highest possible total")]
    TotalTooHigh {
        /// Path of the field in the report.
        field: String,
        total: u64,
        max: u64,
    },
    #[error(
        "{field}: {total} is {rise} more than before, at most {max} is possible in {elapsed:?}"
    )]
    RoseTooFast {
        /// Path of the field in the report.
        field: String,
        total: u64,
        rise: u64,
        elapsed: Duration,
        /// The highest possible rise in `elapsed`.
        max: u64,
    },
    #[error("report.interval_end_unix_ms: {end_ms} is {ahead:?} ahead of the sidecar's own clock")]
    AheadOfClock { end_ms: u64, ahead: Duration },
    /// The stream's pod was removed, or replaced by another pod of the same name.
    #[error("pod {pod}: the aggregator no longer knows this stream; connect again")]
    UnknownStream { pod: PodKey },
}

// === impl StoreRefusal ===

impl StoreRefusal {
    /// The label under which it is counted.
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
