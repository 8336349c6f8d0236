//! Our own metric names among those of Envoy, and which of them are gauges.

/// Name of the gauge of requests per second, as the metrics API has it.
pub const RATE: &str = "appmesh_requests_per_second";

/// Requests at a listener. Envoy's `downstream_rq_total` also counts requests outside the filter.
pub const REQUESTS: &str = "appmesh_requests_total";

/// Responses of a listener by class. Envoy's `upstream_rq_xx` omits local replies of Envoy, and
/// counts the response after the last retry.
pub const RESPONSES: &str = "appmesh_responses_total";

/// Responses of a listener by exact status.
pub const RESPONSES_BY_CODE: &str = "appmesh_responses_by_code_total";

/// Requests in flight at a listener. Envoy's `upstream_rq_active` counts those of a cluster.
pub const IN_FLIGHT: &str = "appmesh_requests_in_flight";

/// All other metrics are counters.
const GAUGES: [&str; 2] = [IN_FLIGHT, RATE];

pub fn is_gauge(name: &str) -> bool {
    GAUGES.contains(&name)
}
