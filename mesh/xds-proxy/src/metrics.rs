//! Metrics of the xDS proxy.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Histogram bounds in seconds, from Envoy's NACK to the original; the documented limit is 10 ms.
const RESTORE_SECONDS: [f64; 8] = [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.1];

/// Cheap to clone; all clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) streams: Gauge,
    pub(crate) responses: Counter,
    pub(crate) changed: Counter,
    pub(crate) malformed: Counter,
    pub(crate) rejected: Counter,
    pub(crate) given_up: Counter,
    pub(crate) without_module: Counter,
    pub(crate) unread: Counter,
    pub(crate) upstream_failures: Counter,
    pub(crate) restore: Histogram,
    pub(crate) events_dropped: Counter,
}

impl Metrics {
    /// Registers the metrics under the prefix `xds_proxy`.
    pub fn register(registry: &mut Registry) -> Self {
        let all = Self {
            streams: Gauge::default(),
            responses: Counter::default(),
            changed: Counter::default(),
            malformed: Counter::default(),
            rejected: Counter::default(),
            given_up: Counter::default(),
            without_module: Counter::default(),
            unread: Counter::default(),
            upstream_failures: Counter::default(),
            restore: Histogram::new(RESTORE_SECONDS),
            events_dropped: Counter::default(),
        };
        let registry = registry.sub_registry_with_prefix("xds_proxy");
        let help = "Open discovery streams";
        registry.register("streams", help, all.streams.clone());
        let help = "Responses received from the control plane";
        registry.register("responses", help, all.responses.clone());
        let help = "Listeners and clusters that were changed or added";
        registry.register("resources_changed", help, all.changed.clone());
        let help = "Resources that could not be parsed and passed unchanged";
        registry.register("resources_malformed", help, all.malformed.clone());
        let help = "Changes that Envoy rejected; it got the original";
        registry.register("changes_rejected", help, all.rejected.clone());
        let help = "Responses that passed unchanged because Envoy rejected their change before";
        registry.register("changes_given_up", help, all.given_up.clone());
        let help = "Responses that passed unchanged because a module is missing or has unexpected contents";
        registry.register("responses_without_module", help, all.without_module.clone());
        let help = "Responses that passed unchanged because they are too large to change within the memory limit";
        registry.register("responses_unread", help, all.unread.clone());
        let help = "Streams that the control plane rejected or ended with an error";
        registry.register("upstream_failures", help, all.upstream_failures.clone());
        let help = "Time from Envoy's rejection until the original is sent";
        let seconds = Unit::Seconds;
        registry.register_with_unit("restore", help, seconds, all.restore.clone());
        let help = "Events dropped because the queue was full";
        registry.register("events_left_out", help, all.events_dropped.clone());
        all
    }
}
