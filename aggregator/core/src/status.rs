//! Status of the store: the state of each pod, and counts of pods, streams and series.

use std::sync::Arc;
use std::time::Duration;

use crate::pod::PodKey;
use crate::report::{InstanceId, ResponseCode};
use crate::series::{CodeClass, SeriesKey};
use common_time::Monotonic;

common_names::named! {
    /// Whether a pod has a value, and how fresh it is.
    pub enum PodState {
        /// Reports cover less than one second.
        New = "new",
        Live = "live",
        /// The stream was lost or a report is overdue; the last value is served for
        /// [`HOLD`](crate::limits::HOLD).
        Held = "held",
        /// Held for too long: no value.
        Gone = "gone",
    }
}

/// One pod as the store sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PodStatus {
    pub key: PodKey,
    /// "" if no sidecar reported it.
    pub uid: Arc<str>,
    pub state: PodState,
    /// Open streams, superseded ones excluded.
    pub streams: usize,
    /// Instances whose totals make up the pod's, in ascending order.
    pub instances: Vec<InstanceId>,
    /// When the oldest of them began, on the aggregator's clock; `None` before the first report.
    pub started_at: Option<Monotonic>,
    /// Time since the end of the newest interval reported; `None` before the first report.
    pub last_report_age: Option<Duration>,
    /// Wasm VMs that should be counting, as last reported.
    pub vms_expected: u32,
    /// Wasm VMs that are counting, as last reported.
    pub vms_live: u32,
    /// The sidecar's running totals, sorted by key.
    pub series: Vec<SeriesStatus>,
}

/// Running totals of one series of a pod. `None` means not counted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SeriesStatus {
    pub key: SeriesKey,
    /// Requests that began, or completed with `requests_at_completion`.
    pub requests: Option<u64>,
    /// True if `requests` are counted when they complete.
    pub requests_at_completion: bool,
    /// Attempts that reached an upstream connection.
    pub upstream_attempts: Option<u64>,
    /// Responses by class, the classes that occurred, in ascending order.
    pub responses: Vec<(CodeClass, u64)>,
    /// Responses by class or exact code, as the sidecar counts them, in ascending order.
    pub codes: Vec<(ResponseCode, u64)>,
    /// Requests in flight as last reported.
    pub inflight: Option<u64>,
    /// Integral of the requests in flight, in nanoseconds times requests.
    pub inflight_ns: Option<u64>,
}

/// Numbers of pods, streams, instances and series, and of refusals since the start.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    pub pods_new: usize,
    pub pods_live: usize,
    pub pods_held: usize,
    pub pods_gone: usize,
    pub streams: usize,
    /// Instances, including replaced ones whose history a window still reaches.
    pub instances: usize,
    pub series: usize,
    /// Every reason is listed.
    pub refused: Vec<(RefusedReason, u64)>,
}

common_names::named! {
    /// Why the store refused something.
    pub enum RefusedReason {
        /// [`StoreLimits::pods`](crate::limits::StoreLimits::pods) was reached.
        Pods = "pods",
        /// [`StoreLimits::instances_per_pod`](crate::limits::StoreLimits::instances_per_pod) was
        /// reached.
        InstancesPerPod = "instances_per_pod",
        /// [`StoreLimits::series_per_pod`](crate::limits::StoreLimits::series_per_pod) was reached.
        /// Counts series; the rest of the report was taken.
        SeriesPerPod = "series_per_pod",
        /// A newer instance of the pod's sidecar reports.
        OlderInstance = "older_instance",
        /// A running total was too high, or rose too fast.
        ImpossibleTotal = "impossible_total",
        /// A time was too far ahead of the sidecar's clock.
        AheadOfClock = "ahead_of_clock",
        /// The pod of the stream was forgotten or replaced by another of its name.
        UnknownStream = "unknown_stream",
        /// [`CALLERS_MAX`](crate::limits::CALLERS_MAX) or
        /// [`CALLED_CLUSTERS_MAX`](crate::limits::CALLED_CLUSTERS_MAX) was reached. Counts clusters
        /// that were not indexed for a pod; the report was taken.
        Callers = "callers",
    }
}
