//! Parses paths of the API into a [`Route`], as kube-apiserver does: decoded before they are split,
//! since Python's client sends the path within a collection as one segment (`pods%2F%2A%2FM`), and
//! without slashes at the end, since clients request `/version/` and `/apis/G/V/`.
//!
//! A namespace as an object has three spellings: `namespaces/NS/metrics/M`, which autoscalers and
//! Go clients send, `namespaces/NS/namespaces/NS/M` like an object in a namespace, and
//! `namespaces/NS/M` like one outside.

use thiserror::Error;

use crate::names::{namespace_fault, pod_name_fault, service_name_fault};
use crate::percent::{self, PercentError};
use crate::workload::Workload;

pub(crate) use view::{ListResource, PagePath, VIEW_GROUP, VIEW_VERSION, ViewPath};

mod view;

/// The API group of metrics of objects.
pub(crate) const GROUP: &str = "custom.metrics.k8s.io";

/// The API group of metrics of no object.
pub(crate) const EXTERNAL_GROUP: &str = "external.metrics.k8s.io";

/// The only version of [`EXTERNAL_GROUP`].
pub(crate) const EXTERNAL_VERSION: &str = "v1beta1";

/// Bytes of a metric name.
const METRIC_NAME_BYTES_MAX: usize = 253;

/// Characters of the request that an error repeats.
const PRINTED_CHARS_MAX: usize = 253;

/// Segments of the longest valid path: `apis/G/V/namespaces/NS/pods/NAME/METRIC`.
const SEGMENTS_MAX: usize = 8;

common_names::named! {
    /// The preferred one first.
    pub(crate) enum ApiVersion {
        V1Beta2 = "v1beta2",
        V1Beta1 = "v1beta1",
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Route {
    /// `/`
    Root,
    /// `/api`: legacy groups, of which there are none.
    LegacyGroups,
    /// `/apis`
    Groups,
    /// `/apis/G`
    Group,
    /// `/apis/G/V`
    Resources(ApiVersion),
    /// A metric of one or several objects.
    Metric(MetricPath),
    /// `/apis/view.meshmeter.io`
    ViewGroup,
    /// `/apis/view.meshmeter.io/v1`
    ViewResources,
    /// What people see.
    View(ViewPath),
    /// The same in a browser.
    Page(PagePath),
    /// `/apis/X`, of external metrics
    ExternalGroup,
    /// `/apis/X/v1beta1`
    ExternalResources,
    /// A metric of no object.
    External(ExternalPath),
    /// `/openapi/v3`
    OpenApi,
    /// `/openapi/v3/apis/G/V`: the index of one of the documents
    OpenApiOf(usize),
    /// `/version`
    Version,
    /// `/healthz`, `/livez`, `/readyz`, and `/readyz/CHECK`
    Health(HealthPath),
}

/// The path of a custom metric.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct MetricPath {
    /// Version of the response.
    pub(crate) version: ApiVersion,
    pub(crate) namespace: String,
    pub(crate) object: Object,
    /// Name of the metric, as requested.
    pub(crate) metric: String,
}

/// The path of an external metric.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ExternalPath {
    pub(crate) namespace: String,
    /// Name of the metric, as requested: clients send it in lower case.
    pub(crate) metric: String,
}

/// The object or objects of a metric.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Object {
    /// `pods/*`
    Pods,
    /// `pods/NAME`
    Pod(String),
    Namespace,
    /// `services/NAME`
    Service(String),
    /// `deployments.apps/NAME` and the like
    Workload(Workload, String),
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct HealthPath {
    pub(crate) endpoint: &'static str,
    pub(crate) check: Option<String>,
}

/// Why a path is refused.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub(crate) enum PathError {
    #[error("the server could not find the requested resource: {0}")]
    Unknown(String),
    /// A resource whose metrics are not served.
    #[error(
        "the server could not find the metric {metric} for {resource}: metrics are served for pods, namespaces, \
         services, deployments.apps, replicasets.apps, statefulsets.apps, daemonsets.apps and jobs.batch"
    )]
    Resource { resource: String, metric: String },
    /// `*` for another resource than pods.
    /// Where reads of metrics were until version 0.2.
    #[error(
        "reads of metrics have a group of their own now: /apis/view.meshmeter.io/v1/namespaces/{namespace}/reads"
    )]
    ReadsMoved { namespace: String },
    #[error("only pods can be asked for together, by pods/*; name one of the {resource} instead")]
    Wildcard { resource: String },
    #[error("the namespace {outer} does not hold the namespace {inner}")]
    NestedNamespace { outer: String, inner: String },
    #[error("the path cannot be decoded: {0}")]
    Percent(#[from] PercentError),
    #[error("{what} \"{name}\" is not valid: {rule}")]
    Name {
        /// Such as `pod name`.
        what: &'static str,
        /// Cut to [`PRINTED_CHARS_MAX`].
        name: String,
        rule: &'static str,
    },
}

/// Served groups and versions, as in paths: the preferred one first, then external metrics, and
/// views last.
pub(crate) fn group_versions() -> [String; 4] {
    let [preferred, other] = ApiVersion::ALL.map(ApiVersion::group_version);
    [
        preferred,
        other,
        format!("{EXTERNAL_GROUP}/{EXTERNAL_VERSION}"),
        format!("{VIEW_GROUP}/{VIEW_VERSION}"),
    ]
}

// === impl ApiVersion ===

impl ApiVersion {
    /// `apiVersion`.
    pub(crate) fn group_version(self) -> String {
        format!("{GROUP}/{}", self.as_str())
    }
}

// === impl Route ===

impl Route {
    /// Parses the path of a URL, without the query.
    pub(crate) fn parse(path: &str) -> Result<Self, PathError> {
        let unknown = || PathError::Unknown(printable(path));
        // Segment by segment, so that an error names the one that cannot be decoded.
        let segments_decoded: Result<Vec<String>, _> =
            path.split('/').map(percent::decode).collect();
        let decoded = segments_decoded?.join("/");
        let trimmed = decoded.strip_prefix('/').ok_or_else(unknown)?;
        let trimmed = trimmed.trim_end_matches('/');
        if trimmed.is_empty() {
            return Ok(Self::Root);
        }
        // One more than allowed is enough to see that there are too many.
        let segments: Vec<&str> = trimmed.split('/').take(SEGMENTS_MAX + 1).collect();
        if segments.len() > SEGMENTS_MAX {
            return Err(unknown());
        }
        match segments[..] {
            ["api"] => Ok(Self::LegacyGroups),
            ["apis"] => Ok(Self::Groups),
            ["version"] => Ok(Self::Version),
            ["openapi", "v3"] => Ok(Self::OpenApi),
            ["openapi", "v3", "apis", group, version] => {
                let requested = format!("{group}/{version}");
                let known = group_versions();
                let index = known.iter().position(|known| *known == requested);
                index.map(Self::OpenApiOf).ok_or_else(unknown)
            }
            ["apis", GROUP] => Ok(Self::Group),
            ["apis", GROUP, version, ref rest @ ..] => {
                let version = ApiVersion::parse(version).ok_or_else(unknown)?;
                parse_in_version(version, rest)?.ok_or_else(unknown)
            }
            ["apis", VIEW_GROUP] => Ok(Self::ViewGroup),
            ["apis", VIEW_GROUP, VIEW_VERSION] => Ok(Self::ViewResources),
            ["apis", VIEW_GROUP, VIEW_VERSION, ref rest @ ..] => {
                if let Some(page) = PagePath::parse(rest)? {
                    return Ok(Self::Page(page));
                }
                ViewPath::parse(rest)?.map(Self::View).ok_or_else(unknown)
            }
            ["apis", EXTERNAL_GROUP] => Ok(Self::ExternalGroup),
            ["apis", EXTERNAL_GROUP, EXTERNAL_VERSION] => Ok(Self::ExternalResources),
            [
                "apis",
                EXTERNAL_GROUP,
                EXTERNAL_VERSION,
                "namespaces",
                namespace,
                metric,
            ] => {
                check_name("namespace", namespace, namespace_fault(namespace))?;
                check_name("metric name", metric, metric_name_fault(metric))?;
                Ok(Self::External(ExternalPath {
                    namespace: namespace.to_owned(),
                    metric: metric.to_owned(),
                }))
            }
            [endpoint, ref rest @ ..] => parse_health(endpoint, rest).ok_or_else(unknown),
            [] => Err(unknown()),
        }
    }
}

fn parse_in_version(version: ApiVersion, rest: &[&str]) -> Result<Option<Route>, PathError> {
    let (namespace, object, metric) = match *rest {
        [] => return Ok(Some(Route::Resources(version))),
        ["namespaces", namespace, "metrics", metric] => (namespace, Object::Namespace, metric),
        ["namespaces", namespace, "reads"] => {
            check_name("namespace", namespace, namespace_fault(namespace))?;
            return Err(PathError::ReadsMoved {
                namespace: namespace.to_owned(),
            });
        }
        ["namespaces", namespace, metric] if !is_resource(metric) => {
            (namespace, Object::Namespace, metric)
        }
        ["namespaces", namespace, "namespaces", name, metric] => {
            if namespace != name {
                return Err(PathError::NestedNamespace {
                    outer: printable(namespace),
                    inner: printable(name),
                });
            }
            (namespace, Object::Namespace, metric)
        }
        ["namespaces", namespace, resource, name, metric] => {
            (namespace, parse_object(resource, name, metric)?, metric)
        }
        [resource, _, metric] if resource != "namespaces" => {
            return Err(unknown_resource(resource, metric));
        }
        _ => return Ok(None),
    };
    check_name("namespace", namespace, namespace_fault(namespace))?;
    check_name("metric name", metric, metric_name_fault(metric))?;
    Ok(Some(Route::Metric(MetricPath {
        version,
        namespace: namespace.to_owned(),
        object,
        metric: metric.to_owned(),
    })))
}

/// True for a resource, which is a truncated path and no name of a metric.
fn is_resource(text: &str) -> bool {
    matches!(text, "pods" | "services" | "namespaces" | "metrics")
        || Workload::from_resource(text).is_some()
}

/// The object `name` of `resource`, in a namespace.
fn parse_object(resource: &str, name: &str, metric: &str) -> Result<Object, PathError> {
    let workload = Workload::from_resource(resource);
    match (resource, name) {
        ("pods", "*") => return Ok(Object::Pods),
        ("pods" | "services", _) => {}
        _ if workload.is_none() => return Err(unknown_resource(resource, metric)),
        _ => {}
    }
    if name == "*" {
        return Err(PathError::Wildcard {
            resource: resource.to_owned(),
        });
    }
    let owned = name.to_owned();
    match workload {
        Some(kind) => {
            check_name("workload name", name, pod_name_fault(name))?;
            Ok(Object::Workload(kind, owned))
        }
        None if resource == "services" => {
            check_name("service name", name, service_name_fault(name))?;
            Ok(Object::Service(owned))
        }
        None => {
            check_name("pod name", name, pod_name_fault(name))?;
            Ok(Object::Pod(owned))
        }
    }
}

fn unknown_resource(resource: &str, metric: &str) -> PathError {
    PathError::Resource {
        resource: printable(resource),
        metric: printable(metric),
    }
}

fn parse_health(endpoint: &str, rest: &[&str]) -> Option<Route> {
    let endpoint = ["healthz", "livez", "readyz"]
        .into_iter()
        .find(|known| *known == endpoint)?;
    let check = match *rest {
        [] => None,
        [check] => Some(check.to_owned()),
        _ => return None,
    };
    Some(Route::Health(HealthPath { endpoint, check }))
}

const METRIC_RULE: &str = "at most 253 printable characters without '/' and '%'";

fn check_name(
    what: &'static str,
    name: &str,
    fault: Option<&'static str>,
) -> Result<(), PathError> {
    match fault {
        None => Ok(()),
        Some(rule) => Err(PathError::Name {
            what,
            name: printable(name),
            rule,
        }),
    }
}

fn metric_name_fault(name: &str) -> Option<&'static str> {
    let valid = name.len() <= METRIC_NAME_BYTES_MAX && is_metric_name(name);
    (!valid).then_some(METRIC_RULE)
}

fn is_metric_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_graphic() && c != '/' && c != '%')
}

/// `text` for an error: at most [`PRINTED_CHARS_MAX`] characters, none of them a control character.
fn printable(text: &str) -> String {
    text.chars()
        .take(PRINTED_CHARS_MAX)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests;
