//! Limits of the store. Everything that a sidecar can make grow has one.

use std::time::Duration;

/// Pods in the store, gone ones included: Kubernetes' own limit of a cluster. The memory budget
/// allows fewer under a smaller memory limit.
pub const PODS_MAX: usize = 150_000;

/// Series of one pod. The filter's own default limit is 64 per sidecar.
pub const SERIES_PER_POD_MAX: usize = 256;

/// Instances of one pod, including replaced ones whose history a window still reaches. Where each
/// Wasm VM has its own stream there is one per Envoy worker, and Envoy starts one worker per core.
pub const INSTANCES_PER_POD_MAX: usize = 64;

/// Bytes of a namespace: Kubernetes' limit of a DNS label.
pub const NAMESPACE_BYTES_MAX: usize = 63;

/// Bytes of a pod's or node's name: Kubernetes' limit of a DNS subdomain.
pub const NAME_BYTES_MAX: usize = 253;

/// Bytes of a pod's uid: 36 for a UUID, 32 for a static pod's hash.
pub const UID_BYTES_MAX: usize = 64;

/// Bytes of an upstream cluster's name as Envoy has it.
pub const CLUSTER_BYTES_MAX: usize = 256;

pub const LABELS_MAX: usize = 64;

/// Bytes of a label's key: a prefix of 253, a slash, a name of 63.
pub const LABEL_KEY_BYTES_MAX: usize = 253 + 1 + 63;

/// Bytes of a label's value.
pub const LABEL_VALUE_BYTES_MAX: usize = 63;

/// Bytes of all labels of a pod together, keys and values.
pub const LABELS_BYTES_MAX: usize = 16 * 1024;

/// Upstream clusters in the index of callers: one for every port of a service.
pub const CALLED_CLUSTERS_MAX: usize = 20_000;

/// Pairs of upstream cluster and calling pod, about 50 bytes each: 10 for each pod.
pub const CALLERS_MAX: usize = 10 * PODS_MAX;

/// Addresses of a pod: one of each IP family, and room for networks with several.
pub const IPS_PER_POD_MAX: usize = 8;

/// Services in the directory: twice as many as Kubernetes is tested with.
pub const SERVICES_MAX: usize = 20_000;

/// Owners of pods in the directory. A Deployment keeps ten old `ReplicaSets` by default, so this is
/// some 27,000 Deployments at worst.
pub const OWNERS_MAX: usize = 2 * PODS_MAX;

/// `HorizontalPodAutoscalers` in the directory: five times as many as the ledger of reads is sized
/// for at most.
pub const AUTOSCALERS_MAX: usize = 5_000;

/// Bytes of one of them, specification and status: usual ones take 1 to 3 KiB.
pub const AUTOSCALER_BYTES_MAX: usize = 32 * 1024;

/// Bytes of all of them together.
pub const AUTOSCALERS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Levels of owners above a pod: `ReplicaSet`, Deployment and two more for operators.
pub const OWNER_DEPTH_MAX: usize = 4;

/// Highest believable rate of one counter, in events per second: a hundred times what the largest
/// Envoy machines proxy.
pub const EVENTS_PER_SECOND_MAX: u64 = 1_000_000_000;

/// Highest running total: JSON numbers (doubles) are exact up to here.
pub const TOTAL_MAX: u64 = 1 << 53;

/// Highest believable number of requests in flight in one series.
pub const INFLIGHT_MAX: u64 = 10_000_000;

/// How far a report may be ahead of the sidecar's clock as estimated from earlier frames.
pub const AHEAD_MAX: Duration = Duration::from_mins(1);

/// How late a report may be beyond `next_report_within` before its pod is held.
pub const GRACE: Duration = Duration::from_secs(2);

/// How long the last value is still served after the stream was lost.
pub const HOLD: Duration = Duration::from_secs(10);

/// [`HOLD`] after a final report: long enough for the successor in a reconfigured Envoy.
pub const HOLD_FINAL: Duration = Duration::from_secs(2);

/// How long a pod counts as served by two Envoy processes after the older one last sent a frame. A
/// refused sidecar reconnects within about 1.2 s.
pub const RIVAL: Duration = Duration::from_secs(5);

/// How long a pod is remembered after it is gone.
pub const FORGET_AFTER: Duration = Duration::from_mins(10);

/// Shortest time that reports must cover before a pod has a value.
pub const SEEN_MIN: Duration = Duration::from_secs(1);

/// Configurable limits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StoreLimits {
    /// [`PODS_MAX`] by default.
    pub pods: usize,
    /// [`SERIES_PER_POD_MAX`] by default.
    pub series_per_pod: usize,
    /// [`INSTANCES_PER_POD_MAX`] by default.
    pub instances_per_pod: usize,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self {
            pods: PODS_MAX,
            series_per_pod: SERIES_PER_POD_MAX,
            instances_per_pod: INSTANCES_PER_POD_MAX,
        }
    }
}
