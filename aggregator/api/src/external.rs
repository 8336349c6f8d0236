//! External metrics: `labelSelector` selects both the pods and the part of the metric.
//!
//! Keys `direction`, `cluster`, `code_class` and `window` are those of a metric selector. One of
//! `service`, `deployment`, `replicaset`, `statefulset`, `daemonset` and `job` names an object,
//! whose value is the same as in the custom metrics API. All other keys are labels of pods; without
//! any, the whole namespace is selected.

use std::collections::BTreeMap;

use aggregator_core::query::{Metric, MetricQuery};
use thiserror::Error;

use crate::form::Parameters;
use crate::list::{self, ExternalItem};
use crate::metric_selector::{self, KEYS, MetricSelectorError};
use crate::metrics::{
    MetricRequest, Outcome, ReadContext, Served, label_selector_refusal, list_refusal,
    parse_label_selector,
};
use crate::names::{pod_name_fault, service_name_fault};
use crate::path::{ExternalPath, Object};
use crate::selector::{Condition, Requirement, Selector};
use crate::status::{Reason, Refusal};
use crate::workload::Workload;

/// A parsed selector.
#[derive(Debug)]
struct ExternalQuery {
    object: Object,
    query: MetricQuery,
    pods: Selector,
    /// Repeated in the response.
    labels: BTreeMap<&'static str, String>,
}

/// Why a selector was refused.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
enum AskError {
    #[error(transparent)]
    Metric(#[from] MetricSelectorError),
    #[error("{0}: only {0}=NAME is supported, with one name")]
    Operator(&'static str),
    #[error("{0} and {1} cannot be asked for together: each names one object")]
    TwoObjects(&'static str, &'static str),
    #[error("{0} names the pods already, so the label {1:?} cannot select among them")]
    LabelBesideObject(&'static str, String),
    #[error("{key}: \"{name}\" is not valid: {rule}")]
    Name {
        key: &'static str,
        name: String,
        rule: &'static str,
    },
}

/// Serves one request for an external metric.
pub(crate) fn serve(
    context: ReadContext<'_>,
    path: &ExternalPath,
    parameters: &Parameters,
) -> Outcome<Served> {
    Outcome::from(named(context, path, parameters)).and_then(|(name, selected)| {
        let is_selected = !selected.pods.requirements().is_empty();
        let request = MetricRequest {
            namespace: &path.namespace,
            object: &selected.object,
            metric: name,
            query: selected.query,
            selector_text: if is_selected {
                parameters.label_selector.trim()
            } else {
                ""
            },
            selector: selected.pods,
        };
        request.total(context).and_then(|sum| {
            let mut labels = selected.labels;
            labels.insert("namespace", path.namespace.clone());
            labels.insert("source", sum.source.as_str().to_owned());
            let item = ExternalItem {
                labels,
                timestamp: context.now.wall_of(sum.timestamp),
                window: sum.window,
                value: sum.quantity(&request.subject())?,
            };
            Ok(Served {
                body: list::write_external(name, &item).map_err(|error| list_refusal(&error))?,
                summary: sum.summary(),
            })
        })
    })
}

/// Name of the metric, as served, and its query.
fn named<'a>(
    context: ReadContext<'a>,
    path: &ExternalPath,
    parameters: &Parameters,
) -> Result<(&'a str, ExternalQuery), Refusal> {
    let (names, metric) = (context.names, &path.metric);
    let (name, metric) = names.parse_external(metric).ok_or_else(|| {
        let known = names.known();
        let message = format!(
            "the server could not find the external metric {metric}; known metrics: {known}"
        );
        Refusal::not_found(Reason::UnknownMetric, message)
    })?;
    if !parameters.metric_label_selector.is_empty() {
        return Err(Refusal::bad_request(
            Reason::MetricLabelSelector,
            "metricLabelSelector: external metrics are selected by labelSelector alone",
        ));
    }
    let selector = parse_label_selector(&parameters.label_selector)?;
    let selected = ask(metric, &selector).map_err(|error| label_selector_refusal(&error))?;
    Ok((name, selected))
}

fn ask(metric: Metric, selector: &Selector) -> Result<ExternalQuery, AskError> {
    let mut of_metric = Vec::new();
    let mut of_pods = Vec::new();
    let mut named: Option<(&'static str, Object)> = None;
    let mut labels = BTreeMap::new();
    for requirement in selector.requirements() {
        let key = requirement.key.as_str();
        if let Some(key) = KEYS.into_iter().find(|known| *known == key) {
            if let Some(value) = one_value(&requirement.condition) {
                labels.insert(key, value.to_owned());
            }
            of_metric.push(requirement.clone());
        } else if let Some((key, object)) = object(requirement)? {
            if let Some((other, _)) = &named {
                return Err(AskError::TwoObjects(other, key));
            }
            if let Some(name) = one_value(&requirement.condition) {
                labels.insert(key, name.to_owned());
            }
            named = Some((key, object));
        } else {
            of_pods.push(requirement.clone());
        }
    }
    if let (Some((key, _)), Some(label)) = (&named, of_pods.first()) {
        return Err(AskError::LabelBesideObject(key, label.key.clone()));
    }
    Ok(ExternalQuery {
        object: named.map_or(Object::Namespace, |(_, object)| object),
        query: metric_selector::query(metric, &Selector::of(of_metric))?,
        pods: Selector::of(of_pods),
        labels,
    })
}

/// The object that `requirement` names, with its static key; `None` for a label of pods.
fn object(requirement: &Requirement) -> Result<Option<(&'static str, Object)>, AskError> {
    let workload = Workload::parse(&requirement.key);
    let (key, fault): (_, fn(&str) -> _) = match workload {
        Some(kind) => (kind.as_str(), pod_name_fault),
        None if requirement.key == "service" => ("service", service_name_fault),
        None => return Ok(None),
    };
    let name = one_value(&requirement.condition).ok_or(AskError::Operator(key))?;
    if let Some(rule) = fault(name) {
        return Err(AskError::Name {
            key,
            name: name.to_owned(),
            rule,
        });
    }
    let name = name.to_owned();
    let object = match workload {
        Some(kind) => Object::Workload(kind, name),
        None => Object::Service(name),
    };
    Ok(Some((key, object)))
}

fn one_value(condition: &Condition) -> Option<&str> {
    match condition {
        Condition::Equals(value) => Some(value),
        Condition::In(values) if values.len() == 1 => values.first().map(String::as_str),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
