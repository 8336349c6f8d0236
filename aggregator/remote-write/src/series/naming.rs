//! Names and labels of series.
//!
//! A series with a name of Envoy has the value of Envoy, for requests of listeners with a filter;
//! one that differs has a name of our own.
//!
//! | Name | Value |
//! |---|---|
//! | `PREFIXupstream_rq_total` | as Envoy: attempts on a connection, with retries |
//! | `PREFIXupstream_rq_xx`, `PREFIXupstream_rq` | as Envoy: sent by its metrics service |
//! | [`REQUESTS`] | requests begun at a listener; in the role `access_log`, completed ones |
//! | [`RESPONSES`], [`RESPONSES_BY_CODE`] | responses to callers, local replies of Envoy included |
//! | [`IN_FLIGHT`] | requests in flight at a listener, with or without an upstream |

use aggregator_core::pod::PodKey;
use aggregator_core::series::{CodeClass, SeriesKey};
use aggregator_core::status::SeriesStatus;

use crate::encoder::SeriesLabels;
use crate::names::{IN_FLIGHT, RATE, REQUESTS, RESPONSES, RESPONSES_BY_CODE};

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Naming {
    /// Prefix of Envoy's names.
    pub prefix: String,
    /// Labels of every series, such as `cluster` and `__replica__`.
    pub external_labels: Vec<(String, String)>,
    /// Pod labels to copy to its series, under names that Prometheus allows.
    pub pod_labels: Vec<String>,
    /// Write only pods that are live here: another replica may write the others, and the receiver
    /// stores the samples of one replica at a time.
    pub live_only: bool,
    pub output: Output,
    /// Write the gauge [`RATE`].
    pub rate: bool,
    pub inflight: bool,
}

/// Whether a series is that of one pod or a sum.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Output {
    PerPod,
    /// Sums over the pods of a namespace with the same service and values of
    /// [`Naming::pod_labels`].
    Summed,
}

/// Labels of a pod's series from the directory.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SeriesMetadata {
    /// The service that selects it; of several the first by name.
    pub service: String,
    /// The values of [`Naming::pod_labels`], in their order; empty if the pod has no such label.
    pub labels: Vec<String>,
}

#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Owner {
    Pod(PodKey),
    Group {
        namespace: String,
        metadata: SeriesMetadata,
    },
}

/// Identity of a series, without its labels.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Id {
    pub(super) owner: Owner,
    /// `None` if the series is not per cluster.
    pub(super) key: Option<SeriesKey>,
    pub(super) part: Part,
}

/// Which total or gauge of a series of the store.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Part {
    /// Attempts that reached a connection of the upstream.
    Attempts,
    /// Responses of the upstream, as Envoy counts them.
    UpstreamClass(CodeClass),
    UpstreamCode(u16),
    Requests,
    Class(CodeClass),
    Code(u16),
    InFlight,
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
    pub(super) fn labels(&self, id: &Id, metadata: &SeriesMetadata) -> Option<SeriesLabels> {
        let (name, own) = self.name(id.part);
        let (namespace, pod) = match &id.owner {
            Owner::Pod(pod) => (&*pod.namespace, &*pod.name),
            Owner::Group { namespace, .. } => (namespace.as_str(), ""),
        };
        let key = id.key.as_ref();
        let fixed = [
            ("namespace", namespace),
            ("kubernetes_pod_name", pod),
            ("service", metadata.service.as_str()),
            ("envoy_cluster_name", key.map_or("", |key| &*key.cluster)),
            (
                "traffic_direction",
                key.map_or("", |key| key.direction.as_str()),
            ),
        ];
        let allowed: Vec<String> = self.pod_labels.iter().map(|key| label_name(key)).collect();
        let of_pod = allowed.iter().map(String::as_str);
        let of_pod = of_pod.zip(metadata.labels.iter().map(String::as_str));
        let external = self.external_labels.iter();
        let external = external.map(|(name, value)| (name.as_str(), value.as_str()));
        let own = own.as_ref().map(|(name, value)| (*name, value.as_str()));
        let all = fixed.into_iter().chain(own).chain(of_pod).chain(external);
        SeriesLabels::new(&name, all).ok()
    }

    fn name(&self, part: Part) -> (String, Option<(&'static str, String)>) {
        let envoys = |rest: &str| format!("{}{rest}", self.prefix);
        let class = |class: CodeClass| {
            let digit = class.as_str().trim_end_matches('x').to_owned();
            Some(("envoy_response_code_class", digit))
        };
        let code = |code: u16| Some(("envoy_response_code", code.to_string()));
        match part {
            Part::Attempts => (envoys("upstream_rq_total"), None),
            Part::UpstreamClass(of) => (envoys("upstream_rq_xx"), class(of)),
            Part::UpstreamCode(of) => (envoys("upstream_rq"), code(of)),
            Part::Requests => (REQUESTS.to_owned(), None),
            Part::Class(of) => (RESPONSES.to_owned(), class(of)),
            Part::Code(of) => (RESPONSES_BY_CODE.to_owned(), code(of)),
            Part::InFlight => (IN_FLIGHT.to_owned(), None),
            Part::Rate => (RATE.to_owned(), None),
        }
    }

    /// The running totals of a series of the store.
    pub(super) fn totals(series: &SeriesStatus) -> impl Iterator<Item = (Part, u64)> {
        // The plugin counts requests and responses at a listener; responses without requests come
        // from Envoy's metrics service and are those of a cluster.
        let of_listener = series.requests.is_some();
        let requests = series.requests.map(|total| (Part::Requests, total));
        let attempts = series.upstream_attempts;
        let attempts = attempts.map(|total| (Part::Attempts, total));
        // Envoy has no class for requests without a response.
        let classes = series.responses.iter();
        let classes = classes.filter(|(class, _)| *class != CodeClass::None);
        let classes = classes.map(move |(class, total)| {
            let part = if of_listener {
                Part::Class(*class)
            } else {
                Part::UpstreamClass(*class)
            };
            (part, *total)
        });
        let codes = series.codes.iter();
        let codes = codes.filter_map(move |(code, total)| {
            let code = code.exact()?;
            let part = if of_listener {
                Part::Code(code)
            } else {
                Part::UpstreamCode(code)
            };
            Some((part, *total))
        });
        let all = requests.into_iter().chain(attempts);
        all.chain(classes).chain(codes)
    }
}

// === impl Part ===

/// Offset of exact statuses of upstreams in [`Part::number`].
const UPSTREAM_CODES: u16 = 1000;

impl Part {
    /// A stable, unique number, inverse of [`Part::from_number`]: it is saved on disk.
    pub(super) fn number(self) -> u32 {
        let index = |class| {
            let index = CodeClass::ALL.iter().position(|known| *known == class);
            u32::try_from(index.unwrap_or(0)).unwrap_or(0)
        };
        match self {
            Self::Attempts => 0,
            Self::InFlight => 1,
            Self::Rate => 2,
            Self::Requests => 3,
            Self::Class(class) => 10 + index(class),
            Self::UpstreamClass(class) => 20 + index(class),
            Self::Code(code) => u32::from(code),
            Self::UpstreamCode(code) => u32::from(UPSTREAM_CODES) + u32::from(code),
        }
    }

    pub(super) fn from_number(number: u32) -> Option<Self> {
        let class = |first: u32| {
            let index = usize::try_from(number - first).ok()?;
            CodeClass::ALL.get(index).copied()
        };
        let number16 = u16::try_from(number).ok()?;
        match number16 {
            0 => Some(Self::Attempts),
            1 => Some(Self::InFlight),
            2 => Some(Self::Rate),
            3 => Some(Self::Requests),
            10..=19 => class(10).map(Self::Class),
            20..=29 => class(20).map(Self::UpstreamClass),
            100..=999 => Some(Self::Code(number16)),
            1100..=1999 => Some(Self::UpstreamCode(number16 - UPSTREAM_CODES)),
            _ => None,
        }
    }
}

/// Converts a label key of Kubernetes to a label name, as Prometheus' service discovery does.
pub fn label_name(key: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    key.chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .collect()
}
