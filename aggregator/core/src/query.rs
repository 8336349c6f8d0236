//! Queries to the store and their results.

use std::sync::Arc;
use std::time::Duration;

use crate::pod::PodKey;
use crate::series::{CodeClass, Direction};
use common_time::Monotonic;

/// A quantity that can be read per pod.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Metric {
    /// Requests that began, per second, in the window.
    RequestsPerSecond,
    /// Upstream attempts that reached a connection, per second, in the window.
    UpstreamRequestsPerSecond,
    /// Requests in flight, the average over the window.
    InflightRequests,
    /// Requests that ended, per second, in the window: with a response or, as class `none`,
    /// without.
    ResponsesPerSecond,
    /// Of the requests that ended in the window, the share with a 5xx status or no response.
    ErrorRatio,
}

/// How the length of the window is chosen.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum WindowChoice {
    /// The shortest of [`WINDOWS`] that holds enough requests in all queried pods together.
    #[default]
    Adaptive,
    /// This length; at most the longest of [`WINDOWS`].
    Fixed(Duration),
}

/// Windows that [`WindowChoice::Adaptive`] chooses from.
pub const WINDOWS: [Duration; 6] = [
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(15),
    Duration::from_secs(30),
    Duration::from_mins(1),
];

/// Which value to read of each pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MetricQuery {
    pub metric: Metric,
    /// Only this side of the sidecar. `None` means the metric's own default: both sides for
    /// upstream attempts, inbound for all others.
    pub direction: Option<Direction>,
    /// Only series of this upstream cluster.
    pub cluster: Option<Arc<str>>,
    /// Only responses of this class: the rate is then a rate of responses.
    pub code_class: Option<CodeClass>,
    pub window: WindowChoice,
}

/// A number in thousandths, as Kubernetes quantities are served. Never negative.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Milli(pub u64);

/// The value of one pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reading {
    pub pod: PodKey,
    /// Requests per second, requests, or a ratio.
    pub value: Milli,
    /// Events in the window by which it was chosen: the denominator of a ratio.
    pub events: Milli,
    /// End of the window: the end of the newest interval the sidecar reported, on the aggregator's
    /// clock.
    pub timestamp: Monotonic,
    /// Length of the sidecar's newest interval: the longest a request in it waited to be reported.
    pub interval: Duration,
    /// When the report of that interval arrived.
    pub arrived: Monotonic,
    /// Length of time the value covers; shorter than the window for a new pod.
    pub window: Duration,
    /// True while the stream is lost and the last value is still served.
    pub held: bool,
}

common_names::named! {
    /// Why a pod has no value.
    pub enum NoValue {
        /// No sidecar of the pod has reported since this aggregator started.
        NeverReported = "never_reported",
        /// No sidecar of the pod has reported, and its last TLS handshake failed.
        TlsRefused = "tls_refused",
        /// No sidecar of the pod reports, and its token, certificate or address was refused last.
        Unauthenticated = "unauthenticated",
        /// No sidecar of the pod reports, and what it sent last could not be read.
        Unreadable = "unreadable",
        /// No sidecar of the pod reports, and its stream was refused last, by a limit.
        StreamRefused = "stream_refused",
        /// Connected, but reports cover less than one second.
        New = "new",
        /// The stream was lost and the time to hold the last value is over.
        Gone = "gone",
        /// The sidecar reports, but does not count this quantity.
        NotCounted = "not_counted",
        /// A Wasm VM of the sidecar died: totals may be too low.
        VmLost = "vm_lost",
        /// Two Envoy processes serve the pod, as in a hot restart: each counts only its share.
        HotRestart = "hot_restart",
        /// Part of what the sidecar reported was refused: totals are too low.
        Refused = "refused",
        /// The metric is a ratio, and no request ended in the window.
        NoRequests = "no_requests",
    }
}

/// The result of a [`MetricQuery`] for a set of pods: each pod is in one of the two lists.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct QueryResult {
    /// Pods with a value, in the order they were asked for.
    pub readings: Vec<Reading>,
    /// Pods without one, in no particular order.
    pub missing: Vec<(PodKey, NoValue)>,
}
