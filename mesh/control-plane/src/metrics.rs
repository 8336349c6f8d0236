//! Metrics of the control plane.

use std::collections::BTreeMap;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::envoy::{CLUSTER, ENDPOINT, LISTENER, TYPES};
use crate::mesh::{Meshes, RefusedObject};
use crate::resources::Kind;

/// Cheap to clone; all clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub(crate) streams: Gauge,
    pub(crate) streams_refused: Counter,
    pub(crate) unknown_nodes: Counter,
    responses: Family<OfType, Counter>,
    rejections: Family<OfType, Counter>,
    served: Family<OfKind, Gauge>,
    refused: Family<OfKind, Gauge>,
    over_limit: Family<OfLimit, Counter>,
    pub(crate) statuses: Counter,
    pub(crate) status_failures: Counter,
    pub(crate) events: Counter,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OfType {
    r#type: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OfKind {
    kind: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OfLimit {
    limit: &'static str,
}

common_names::named! {
    /// Values of the label `limit`.
    pub(crate) enum Limit {
        CustomResources = "custom_resources",
        CustomResourceBytes = "custom_resource_bytes",
        Namespaces = "namespaces",
        Services = "services",
        Slices = "slices",
        SliceEndpoints = "slice_endpoints",
        Endpoints = "endpoints",
        Pods = "pods",
    }
}

// === impl Metrics ===

impl Metrics {
    /// Registers the metrics under the prefix `control_plane`.
    pub fn register(registry: &mut Registry) -> Self {
        let all = Self::default();
        let registry = registry.sub_registry_with_prefix("control_plane");
        let help = "Open discovery streams";
        registry.register("streams", help, all.streams.clone());
        let help =
            "Streams rejected, or closed before their first request, because there were too many";
        registry.register("streams_refused", help, all.streams_refused.clone());
        let help =
            "Streams that ended because no VirtualNode and no VirtualGateway has their node id";
        registry.register("unknown_nodes", help, all.unknown_nodes.clone());
        let help = "Responses sent to Envoys, by resource type";
        registry.register("responses", help, all.responses.clone());
        let help = "Responses that an Envoy rejected, by resource type";
        registry.register("rejections", help, all.rejections.clone());
        let help = "Served custom resources, by kind";
        registry.register("resources_served", help, all.served.clone());
        let help = "Custom resources that are refused in whole or in part, by kind; kind unknown: files and unknown kinds";
        registry.register("resources_refused", help, all.refused.clone());
        let help =
            "Objects and addresses ignored because they were too many or too large, by limit";
        registry.register("over_limit", help, all.over_limit.clone());
        let help = "Conditions written into the status of custom resources";
        registry.register("statuses_written", help, all.statuses.clone());
        let help = "Conditions and Events that could not be written";
        registry.register("status_failures", help, all.status_failures.clone());
        let help = "Events raised about refusals";
        registry.register("events", help, all.events.clone());
        for type_url in TYPES {
            // Present from the start: `rate()` misses the first increment of a new series.
            drop(all.responses.get_or_create(&OfType::new(type_url)));
            drop(all.rejections.get_or_create(&OfType::new(type_url)));
        }
        all.start_limits();
        // Zeros until the resources are read.
        all.resources(&Meshes::default(), &[]);
        all
    }

    /// Metrics for [`crate::cluster::Purpose::LookUp`], registered without a prefix of their own.
    pub fn of_look_up(registry: &mut Registry) -> Self {
        let all = Self::default();
        let help = "Kubernetes objects ignored because they were too many or too large, by limit";
        registry.register("over_limit", help, all.over_limit.clone());
        all.start_limits();
        all
    }

    fn start_limits(&self) {
        for limit in Limit::ALL {
            drop(self.over_limit.get_or_create(&limit.into()));
        }
    }

    pub(crate) fn response(&self, type_url: &str) {
        self.responses.get_or_create(&OfType::new(type_url)).inc();
    }

    pub(crate) fn rejection(&self, type_url: &str) {
        self.rejections.get_or_create(&OfType::new(type_url)).inc();
    }

    pub(crate) fn over_limit(&self, limit: Limit) {
        self.over_limit.get_or_create(&limit.into()).inc();
    }

    /// Sets the gauges of served and refused resources.
    pub(crate) fn resources(&self, meshes: &Meshes, refused: &[RefusedObject]) {
        let mut served: BTreeMap<_, usize> = BTreeMap::new();
        for mesh in meshes.iter() {
            *served.entry(Kind::Mesh).or_default() += 1;
            *served.entry(Kind::VirtualNode).or_default() += mesh.nodes.len();
            *served.entry(Kind::VirtualService).or_default() += mesh.services.len();
            *served.entry(Kind::VirtualRouter).or_default() += mesh.routers.len();
            *served.entry(Kind::BackendGroup).or_default() += mesh.groups.len();
            *served.entry(Kind::VirtualGateway).or_default() += mesh.gateways.len();
            *served.entry(Kind::GatewayRoute).or_default() += mesh.gateway_routes.len();
        }
        let faulty = |kind: Option<Kind>| {
            let mut named: Vec<_> = refused
                .iter()
                .filter(|refused| refused.object.as_ref().map(|(kind, _)| *kind) == kind)
                .map(|refused| &refused.what)
                .collect();
            named.sort();
            named.dedup();
            named.len()
        };
        let set = |family: &Family<OfKind, Gauge>, kind, count: usize| {
            let gauge = family.get_or_create(&OfKind { kind });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        };
        for kind in Kind::ALL {
            let count = served.get(&kind).copied().unwrap_or(0);
            set(&self.served, kind.as_str(), count);
            set(&self.refused, kind.as_str(), faulty(Some(kind)));
        }
        set(&self.refused, "unknown", faulty(None));
    }
}

impl OfType {
    fn new(type_url: &str) -> Self {
        let r#type = match type_url {
            CLUSTER => "clusters",
            ENDPOINT => "endpoints",
            LISTENER => "listeners",
            _ => "routes",
        };
        Self { r#type }
    }
}

impl From<Limit> for OfLimit {
    fn from(limit: Limit) -> Self {
        let limit = limit.as_str();
        Self { limit }
    }
}
