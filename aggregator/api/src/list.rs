//! Writes `MetricValueList` in both versions and `ExternalMetricValueList` as JSON, like
//! Kubernetes' own types.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use common_time::UnixMillis;
use serde::Serialize;
use thiserror::Error;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::path::{ApiVersion, EXTERNAL_GROUP, EXTERNAL_VERSION};
use crate::selector::{Condition, Selector};
use crate::workload::Workload;

/// One value of a list.
#[derive(Clone, Debug)]
pub(crate) struct Item<'a> {
    pub(crate) object: DescribedObject<'a>,
    pub(crate) timestamp: UnixMillis,
    pub(crate) window: Duration,
    pub(crate) value: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DescribedObject<'a> {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    name: &'a str,
    api_version: &'static str,
}

/// Why a list cannot be written.
#[derive(Debug, Error)]
pub(crate) enum ListError {
    /// A point in time beyond the year 9999.
    #[error("timestamp out of range: {} ms", .0.0)]
    Timestamp(UnixMillis),
    /// Never happens: the types below always serialise.
    #[error("the list cannot be written: {0}")]
    Json(#[from] serde_json::Error),
}

/// `metav1.LabelSelector`, an echo of the request.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LabelSelector<'a> {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    match_labels: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    match_expressions: Vec<Expression<'a>>,
}

#[derive(Clone, Debug, Serialize)]
struct Expression<'a> {
    key: &'a str,
    operator: &'static str,
    values: &'a [String],
}

/// `metav1.ListMeta`, of which nothing is used.
#[derive(Serialize)]
struct Metadata {}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<T> {
    kind: &'static str,
    api_version: String,
    metadata: Metadata,
    items: Vec<T>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct V1Beta2<'a> {
    described_object: &'a DescribedObject<'a>,
    metric: Identifier<'a>,
    timestamp: String,
    window_seconds: u64,
    value: &'a str,
}

#[derive(Serialize)]
struct Identifier<'a> {
    name: &'a str,
    selector: Option<&'a LabelSelector<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct V1Beta1<'a> {
    described_object: &'a DescribedObject<'a>,
    metric_name: &'a str,
    timestamp: String,
    window: u64,
    value: &'a str,
    selector: Option<&'a LabelSelector<'a>>,
}

/// The value of an external metric.
#[derive(Clone, Debug)]
pub(crate) struct ExternalItem {
    pub(crate) labels: BTreeMap<&'static str, String>,
    pub(crate) timestamp: UnixMillis,
    pub(crate) window: Duration,
    pub(crate) value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct External<'a> {
    metric_name: &'a str,
    metric_labels: &'a BTreeMap<&'static str, String>,
    timestamp: String,
    window: u64,
    value: &'a str,
}

// === impl DescribedObject ===

impl<'a> DescribedObject<'a> {
    pub(crate) fn pod(namespace: &'a str, name: &'a str) -> Self {
        Self {
            kind: "Pod",
            namespace: Some(namespace),
            name,
            api_version: "v1",
        }
    }

    pub(crate) fn service(namespace: &'a str, name: &'a str) -> Self {
        Self {
            kind: "Service",
            ..Self::pod(namespace, name)
        }
    }

    pub(crate) fn workload(kind: Workload, namespace: &'a str, name: &'a str) -> Self {
        Self {
            kind: kind.kind(),
            api_version: kind.api_version(),
            ..Self::pod(namespace, name)
        }
    }

    /// A namespace, which is not namespaced itself.
    pub(crate) fn namespace(name: &'a str) -> Self {
        Self {
            kind: "Namespace",
            namespace: None,
            name,
            api_version: "v1",
        }
    }
}

/// Writes `items` of `metric` in `version`; `selector` is the metric selector to echo.
pub(crate) fn write(
    version: ApiVersion,
    metric: &str,
    selector: &Selector,
    items: &[Item<'_>],
) -> Result<Bytes, ListError> {
    let echo = echo(selector);
    let selector = echo.as_ref();
    let json = match version {
        ApiVersion::V1Beta2 => to_json(version, items, |item, timestamp| V1Beta2 {
            described_object: &item.object,
            metric: Identifier {
                name: metric,
                selector,
            },
            timestamp,
            window_seconds: whole_seconds(item.window),
            value: &item.value,
        }),
        ApiVersion::V1Beta1 => to_json(version, items, |item, timestamp| V1Beta1 {
            described_object: &item.object,
            metric_name: metric,
            timestamp,
            window: whole_seconds(item.window),
            value: &item.value,
            selector,
        }),
    }?;
    Ok(json.into())
}

/// Writes the value of the external metric `metric`.
pub(crate) fn write_external(metric: &str, item: &ExternalItem) -> Result<Bytes, ListError> {
    let list = List {
        kind: "ExternalMetricValueList",
        api_version: format!("{EXTERNAL_GROUP}/{EXTERNAL_VERSION}"),
        metadata: Metadata {},
        items: vec![External {
            metric_name: metric,
            metric_labels: &item.labels,
            timestamp: rfc3339(item.timestamp)?,
            window: whole_seconds(item.window),
            value: &item.value,
        }],
    };
    Ok(serde_json::to_vec(&list)?.into())
}

fn to_json<'a, T: Serialize>(
    version: ApiVersion,
    items: &'a [Item<'a>],
    convert: impl Fn(&'a Item<'a>, String) -> T,
) -> Result<Vec<u8>, ListError> {
    let items = items
        .iter()
        .map(|item| Ok(convert(item, rfc3339(item.timestamp)?)))
        .collect::<Result<Vec<T>, ListError>>()?;
    let list = List {
        kind: "MetricValueList",
        api_version: version.group_version(),
        metadata: Metadata {},
        items,
    };
    Ok(serde_json::to_vec(&list)?)
}

/// Whole seconds, as `metav1.Time` prints them; truncated, so that a value never looks newer than
/// it is.
fn rfc3339(timestamp: UnixMillis) -> Result<String, ListError> {
    i64::try_from(timestamp.0 / 1000)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|time| time.format(&Rfc3339).ok())
        .ok_or(ListError::Timestamp(timestamp))
}

/// To the nearest second, but at least one: the field is an integer, and 0 would mean "no window".
fn whole_seconds(window: Duration) -> u64 {
    (window + Duration::from_millis(500)).as_secs().max(1)
}

/// Converts a selector like Go's `metav1.ParseToLabelSelector`; `None` for the empty one.
fn echo(selector: &Selector) -> Option<LabelSelector<'_>> {
    let mut echo = LabelSelector {
        match_labels: BTreeMap::new(),
        match_expressions: Vec::new(),
    };
    for requirement in selector.requirements() {
        let key = requirement.key.as_str();
        match &requirement.condition {
            Condition::Equals(value) => drop(echo.match_labels.insert(key, value)),
            Condition::In(values) => {
                echo.match_expressions.push(Expression {
                    key,
                    operator: "In",
                    values,
                });
            }
            // Other conditions were refused by `metric_selector`.
            _ => {}
        }
    }
    (!selector.requirements().is_empty()).then_some(echo)
}

#[cfg(test)]
mod tests;
