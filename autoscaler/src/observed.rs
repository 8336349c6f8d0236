//! What the controller sees in one sync.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::phase::Phase;
use crate::tally::Tally;

/// One sync of an HPA.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// Since any fixed start; never falls from sync to sync.
    pub now: Duration,
    /// `spec.replicas` of the target.
    pub replicas: u32,
    /// `status.replicas` of the target; `None`: those of `pods` that neither end nor have ended.
    pub status_replicas: Option<u32>,
    /// Pods that the target's selector matches.
    pub pods: &'a [Pod],
    /// What was answered for each metric of the HPA, in their order; a metric without an answer
    /// failed.
    pub answers: &'a [Answer],
}

/// A pod, as far as the controller looks at it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pod {
    pub name: String,
    pub phase: Phase,
    /// True with a deletion timestamp.
    pub deleting: bool,
    /// Condition `Ready`. Only targets of type `Value` ask for it.
    pub ready: bool,
    /// How far it has come up, for the resource `cpu`; `None`: long ago, so that each sample
    /// counts.
    pub startup: Option<Startup>,
}

/// The start of a pod. CPU time that was used meanwhile is no load. Times are as
/// [`Observed::now`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Startup {
    /// `status.startTime`, if it has one.
    pub started: Option<Duration>,
    /// Last transition of the condition `Ready`, if it has one.
    pub ready_changed: Option<Duration>,
    /// When the sample was taken, and the time it covers.
    pub sampled: Duration,
    pub window: Duration,
}

/// What a metrics API answered. An error is the message that the controller has.
pub type Answer = Result<Values, String>;

/// Values of a metric, in thousandths.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Values {
    /// By pod.
    PerPod(BTreeMap<String, i128>),
    /// By pod, and added up already: whoever counts many syncs has no need of names.
    Counted(Tally),
    /// In all.
    Total(i128),
    /// By pod, with what each pod requests, also for pods without a value.
    Usage {
        values: BTreeMap<String, i128>,
        requests: BTreeMap<String, i128>,
    },
}

// === impl Pod ===

impl Pod {
    /// A pod that is ready since long.
    pub fn running(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            phase: Phase::Running,
            deleting: false,
            ready: true,
            startup: None,
        }
    }

    /// A pod that has not started.
    pub fn pending(name: impl Into<String>) -> Self {
        Self {
            phase: Phase::Pending,
            ready: false,
            ..Self::running(name)
        }
    }
}
