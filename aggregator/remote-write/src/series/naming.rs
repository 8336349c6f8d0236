//! Names and labels of what is written.

use aggregator_core::pod::PodKey;
use aggregator_core::series::{CodeClass, SeriesKey};
use aggregator_core::status::SeriesStatus;

use crate::encoder::SeriesLabels;

/// Name of the gauge of requests per second, as the metrics API has it.
pub const RATE: &str = "appmesh_requests_per_second";

/// How the names of gauges end or what they are; everything else is a counter.
const GAUGES: [&str; 2] = ["upstream_rq_active", RATE];

/// Names and labels.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Naming {
    /// What the names of all counters begin with.
    pub prefix: String,
    /// Labels of every series, such as `cluster` and `__replica__`.
    pub external_labels: Vec<(String, String)>,
    /// Labels of the pod that become labels of its series, under names that Prometheus allows.
    pub pod_labels: Vec<String>,
    /// Only series of pods that report to this replica at this moment: another replica may write the others, and
    /// the receiver takes the samples of one replica at a time.
    pub live_only: bool,
    /// One series for each pod, or for all pods of a service.
    pub output: Output,
    /// Write the gauge [`RATE`].
    pub rate: bool,
    /// Write requests in flight.
    pub inflight: bool,
}

/// Whose totals a series holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Output {
    /// One pod's.
    PerPod,
    /// Those of all pods of a namespace with the same service and the same values of [`Naming::pod_labels`].
    Summed,
}

/// What is known of a pod besides its totals.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct About {
    /// The service that leads to it; of several the first by name.
    pub service: String,
    /// The values of [`Naming::pod_labels`], in their order; empty where there is none.
    pub labels: Vec<String>,
}

/// Whose series it is.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Owner {
    Pod(PodKey),
    Group { namespace: String, about: About },
}

/// What makes a series of ours.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Id {
    pub(super) owner: Owner,
    /// `None` for what is not told apart by cluster.
    pub(super) key: Option<SeriesKey>,
    pub(super) part: Part,
}

/// Which number of a series of the store.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Part {
    Total,
    Class(CodeClass),
    Code(u16),
    Active,
    Rate,
}

// === impl Naming ===

impl Default for Naming {
    fn default() -> Self {
        Self {
            prefix: "envoy_cluster_".to_owned(),
            external_labels: Vec::new(),
            pod_labels: Vec::new(),
            live_only: false,
            output: Output::PerPod,
            rate: false,
            inflight: false,
        }
    }
}

impl Naming {
    pub(super) fn labels(&self, id: &Id, about: &About) -> Option<SeriesLabels> {
        let (name, own) = self.name(id.part);
        let (namespace, pod) = match &id.owner {
            Owner::Pod(pod) => (&*pod.namespace, &*pod.name),
            Owner::Group { namespace, .. } => (namespace.as_str(), ""),
        };
        let key = id.key.as_ref();
        let fixed = [
            ("namespace", namespace),
            ("kubernetes_pod_name", pod),
            ("service", about.service.as_str()),
            ("envoy_cluster_name", key.map_or("", |key| &*key.cluster)),
            (
                "traffic_direction",
                key.map_or("", |key| key.direction.as_str()),
            ),
        ];
        let allowed: Vec<String> = self.pod_labels.iter().map(|key| label_name(key)).collect();
        let of_pod = allowed.iter().map(String::as_str);
        let of_pod = of_pod.zip(about.labels.iter().map(String::as_str));
        let external = self.external_labels.iter();
        let external = external.map(|(name, value)| (name.as_str(), value.as_str()));
        let own = own.as_ref().map(|(name, value)| (*name, value.as_str()));
        let all = fixed.into_iter().chain(own).chain(of_pod).chain(external);
        SeriesLabels::new(&name, all).ok()
    }

    fn name(&self, part: Part) -> (String, Option<(&'static str, String)>) {
        let prefix = &self.prefix;
        match part {
            Part::Total => (format!("{prefix}upstream_rq_total"), None),
            Part::Active => (format!("{prefix}upstream_rq_active"), None),
            Part::Rate => (RATE.to_owned(), None),
            Part::Class(class) => {
                let digit = class.as_str().trim_end_matches('x').to_owned();
                let own = ("envoy_response_code_class", digit);
                (format!("{prefix}upstream_rq_xx"), Some(own))
            }
            Part::Code(code) => {
                let own = ("envoy_response_code", code.to_string());
                (format!("{prefix}upstream_rq"), Some(own))
            }
        }
    }

    /// The running totals of a series of the store. Without attempts, requests stand in for them.
    pub(super) fn totals(series: &SeriesStatus) -> impl Iterator<Item = (Part, u64)> {
        let total = series.upstream_attempts.or(series.requests);
        let total = total.map(|total| (Part::Total, total));
        // Envoy has no class for what got no response.
        let classes = series.responses.iter();
        let classes = classes.filter(|(class, _)| *class != CodeClass::None);
        let classes = classes.map(|(class, total)| (Part::Class(*class), *total));
        let codes = series.codes.iter();
        let codes = codes.filter_map(|(code, total)| Some((Part::Code(code.exact()?), *total)));
        total.into_iter().chain(classes).chain(codes)
    }
}

// === impl Part ===

impl Part {
    /// What no two parts share; that of [`Part::from_number`].
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Total => 0,
            Self::Active => 1,
            Self::Rate => 2,
            Self::Class(class) => {
                let index = CodeClass::ALL.iter().position(|known| *known == class);
                10 + u32::try_from(index.unwrap_or(0)).unwrap_or(0)
            }
            Self::Code(code) => u32::from(code),
        }
    }

    /// The part of this number, if there is one.
    pub(super) fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Total),
            1 => Some(Self::Active),
            2 => Some(Self::Rate),
            10..=15 => {
                let index = usize::try_from(number - 10).ok()?;
                CodeClass::ALL.get(index).copied().map(Self::Class)
            }
            100..=599 => u16::try_from(number).ok().map(Self::Code),
            _ => None,
        }
    }
}

/// A label key of Kubernetes as a label name of Prometheus, as its service discovery does it.
pub fn label_name(key: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    key.chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .collect()
}

/// True if the metric `name` of ours may go up and down.
pub fn is_gauge(name: &str) -> bool {
    GAUGES.iter().any(|gauge| name.ends_with(gauge))
}
