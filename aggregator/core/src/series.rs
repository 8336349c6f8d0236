//! Series: direction and upstream cluster of counted requests.

use std::sync::Arc;

pub use common_names::Direction;

/// Key of a series within a pod. Cheap to clone.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SeriesKey {
    pub direction: Direction,
    /// Envoy's name of the upstream cluster, "" where requests are not counted by cluster.
    pub cluster: Arc<str>,
}

common_names::named! {
    /// How a request ended: the class of its status, or none (reset, timeout).
    pub enum CodeClass {
        None = "none",
        /// Status 1xx.
        Informational = "1xx",
        /// Status 2xx.
        Success = "2xx",
        /// Status 3xx.
        Redirection = "3xx",
        /// Status 4xx.
        ClientError = "4xx",
        /// Status 5xx.
        ServerError = "5xx",
    }
}
