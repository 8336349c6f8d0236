//! Keys of series, their counters, and the names of process-wide metrics.

pub use common_names::{Direction, Role};

use crate::host::MetricKind;

/// Cluster of the series for requests beyond the limit of series.
pub const OTHER: &str = "other";

/// Key of a series of one role. Roles with the same direction and cluster have separate counters,
/// and are merged into one series on the wire.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SeriesKey {
    pub role: Role,
    pub direction: Direction,
    /// Envoy's upstream cluster; "" without the dimension `cluster`.
    pub cluster: String,
}

/// Outcome of a request: 0 without a response, 1 to 5 for a class, 100 to 599 for a status.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Outcome(pub u16);

/// One counter of a series.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Counter {
    Responses(Outcome),
    /// Integral of `Inflight` over time, in nanoseconds times requests.
    InflightNanos,
    Inflight,
    /// Requests, completed requests or attempts, by role.
    ///
    /// Last in this order: totals are read in it and written in reverse, so that no reader sees
    /// more responses than requests.
    Events,
}

/// Name of the process-wide metric of a counter, without Envoy's prefix `wasmcustom.`. No counter's
/// own name holds a dot, so that names of different keys differ.
pub fn metric_name(role: Role, direction: Direction, cluster: &str, counter: Counter) -> String {
    let events = match role {
        Role::Filter => "requests",
        Role::AccessLog => "completed",
        Role::UpstreamLog => "upstream_attempts",
    };
    let responses = match role {
        Role::Filter => "responses",
        Role::AccessLog | Role::UpstreamLog => events,
    };
    let mut name = String::from("meshmeter.");
    name.push_str(direction.as_str());
    if !cluster.is_empty() {
        name.push('.');
        name.push_str(cluster);
    }
    name.push('.');
    match counter {
        Counter::Events => name.push_str(events),
        Counter::Inflight => name.push_str("inflight"),
        Counter::InflightNanos => name.push_str("inflight_ns"),
        Counter::Responses(outcome) => {
            name.push_str(responses);
            name.push('_');
            match outcome.0 {
                0 => name.push_str("none"),
                class @ 1..=5 => {
                    name.push_str(&class.to_string());
                    name.push_str("xx");
                }
                code => name.push_str(&code.to_string()),
            }
        }
    }
    name
}

// === impl Outcome ===

impl Outcome {
    /// Classes of outcomes: none, and 1xx to 5xx.
    pub const CLASSES: u16 = 6;

    /// The class of a status. A status outside of 100 to 599 is invalid, but still a response: it
    /// counts as 5xx, as clients have to treat it (RFC 9110, section 15).
    pub fn class(status: Option<u16>) -> Self {
        match status {
            None | Some(0) => Self(0),
            Some(status @ 100..=599) => Self(status / 100),
            Some(_) => Self(5),
        }
    }

    /// `None` for an invalid status.
    pub fn exact(status: Option<u16>) -> Option<Self> {
        status
            .filter(|status| (100..=599).contains(status))
            .map(Self)
    }

    /// Whether this is an exact status.
    pub fn is_exact(self) -> bool {
        self.0 >= 100
    }
}

// === impl SeriesKey ===

impl SeriesKey {
    pub fn metric_name(&self, counter: Counter) -> String {
        metric_name(self.role, self.direction, &self.cluster, counter)
    }

    /// Whether both are the same series on the wire.
    pub fn meets(&self, direction: Direction, cluster: &str) -> bool {
        self.direction == direction && self.cluster == cluster
    }
}

// === impl Counter ===

impl Counter {
    pub fn kind(self) -> MetricKind {
        match self {
            Self::Inflight => MetricKind::Gauge,
            Self::Responses(_) | Self::InflightNanos | Self::Events => MetricKind::Counter,
        }
    }
}
