//! Names of metrics as the API serves them <-> quantities of the core.

use aggregator_core::query::Metric;

/// Every served metric, sorted by name.
pub(crate) const METRICS: [(&str, Metric); 3] = [
    ("appmesh_inflight_requests", Metric::InflightRequests),
    ("appmesh_requests_per_second", Metric::RequestsPerSecond),
    (
        "appmesh_upstream_requests_per_second",
        Metric::UpstreamRequestsPerSecond,
    ),
];

/// The metric called `name`, with the name as it lives in [`METRICS`].
pub(crate) fn parse(name: &str) -> Option<(&'static str, Metric)> {
    METRICS.into_iter().find(|(known, _)| *known == name)
}

/// Every name, for errors.
pub(crate) fn known() -> String {
    METRICS.map(|(name, _)| name).join(", ")
}
