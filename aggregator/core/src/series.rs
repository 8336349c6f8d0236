//! Series: what the sidecars of a pod count apart.

use std::sync::Arc;

/// Which side of the sidecar a request came from.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Direction {
    /// Towards the pod's own application.
    Inbound,
    /// From the pod's own application.
    Outbound,
}

/// Key of a series within a pod. Cheap to clone.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SeriesKey {
    /// Which side of the sidecar.
    pub direction: Direction,
    /// Envoy's name of the upstream cluster, "" where clusters are not told apart.
    pub cluster: Arc<str>,
}

/// How a request ended: the class of its status, or none (reset, timeout).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum CodeClass {
    None,
    /// Status 1xx.
    Informational,
    /// Status 2xx.
    Success,
    /// Status 3xx.
    Redirection,
    /// Status 4xx.
    ClientError,
    /// Status 5xx.
    ServerError,
}

impl Direction {
    /// The name in labels, selectors and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

impl CodeClass {
    /// Every class, in ascending order.
    pub const ALL: [Self; 6] = [
        Self::None,
        Self::Informational,
        Self::Success,
        Self::Redirection,
        Self::ClientError,
        Self::ServerError,
    ];

    /// The name in labels, selectors and JSON: "none", "1xx" to "5xx".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Informational => "1xx",
            Self::Success => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
        }
    }
}
