//! Serves metric requests: reads the store and returns a list of values, or an error with the
//! reason.
//!
//! - `pods/*`: pods without a value are omitted; an error if none has one.
//! - `pods/NAME`: no value is an error.
//! - Any other object has one value: a [`sum`] over its pods or, if none of them runs, the
//!   [`demand`] of its callers.

mod demand;
mod metric_request;
mod outcome;
mod sum;

use std::time::Duration;

use aggregator_core::pod::PodKey;
use aggregator_core::query::{Milli, NoValue, QueryResult, Reading};
use aggregator_core::store::Store;
use aggregator_directory::Directory;
use bytes::Bytes;
use common_time::{Monotonic, Now};

use crate::cluster_names::ClusterNames;
use crate::form::Parameters;
use crate::list::{self, DescribedObject, Item, ListError};
use crate::metric_name::MetricNames;
use crate::metric_selector;
use crate::no_value_reason;
use crate::path::{MetricPath, Object};
use crate::quantity;
use crate::selector::Selector;
use crate::signal_age::SignalAge;
use crate::status::{Kind, Reason, Refusal};

pub(crate) use metric_request::MetricRequest;
pub(crate) use outcome::Outcome;
pub(crate) use sum::Source;

#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadContext<'a> {
    pub(crate) store: &'a Store,
    pub(crate) directory: &'a Directory,
    pub(crate) names: &'a MetricNames,
    pub(crate) clusters: &'a ClusterNames,
    pub(crate) now: Now,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Served {
    /// JSON.
    pub(crate) body: Bytes,
    pub(crate) summary: Summary,
}

/// Summary of a served list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Summary {
    pub(crate) source: Source,
    /// The sum of all items.
    pub(crate) total: Milli,
    /// Pods whose values are in it.
    pub(crate) pods: usize,
    /// Age of the oldest value.
    pub(crate) age: SignalAge,
    pub(crate) window: Duration,
}

/// Serves one request for the metric of an object.
pub(crate) fn serve(
    context: ReadContext<'_>,
    path: &MetricPath,
    parameters: &Parameters,
) -> Outcome<Served> {
    Outcome::from(ask(context, path, parameters)).and_then(|(request, metric_selector)| {
        let write = |items: &[Item<'_>]| {
            list::write(path.version, request.metric, &metric_selector, items)
                .map_err(|error| list_refusal(&error))
        };
        if matches!(path.object, Object::Pods | Object::Pod(_)) {
            return list_of_pods(context, &request, write);
        }
        request.total(context).and_then(|sum| {
            let item = Item {
                object: described(path),
                timestamp: context.now.wall_of(sum.timestamp),
                window: sum.window,
                value: sum.quantity(&request.subject())?,
            };
            Ok(Served {
                body: write(&[item])?,
                summary: sum.summary(),
            })
        })
    })
}

/// Parses a request; also returns the metric selector, which the response repeats.
fn ask<'a>(
    context: ReadContext<'a>,
    path: &'a MetricPath,
    parameters: &'a Parameters,
) -> Result<(MetricRequest<'a>, Selector), Refusal> {
    let (name, metric) = context
        .names
        .parse(&path.metric)
        .ok_or_else(|| unknown_metric(context.names, path))?;
    let metric_selector = Selector::parse(&parameters.metric_label_selector)
        .map_err(|error| metric_selector_refusal(&error))?;
    let query = metric_selector::query(metric, &metric_selector)
        .map_err(|error| metric_selector_refusal(&error))?;
    let request = MetricRequest {
        namespace: &path.namespace,
        object: &path.object,
        metric: name,
        query,
        selector_text: parameters.label_selector.trim(),
        selector: label_selector(path, parameters)?,
    };
    Ok((request, metric_selector))
}

fn list_of_pods(
    context: ReadContext<'_>,
    request: &MetricRequest<'_>,
    write: impl Fn(&[Item<'_>]) -> Result<Bytes, Refusal>,
) -> Outcome<Served> {
    Outcome::from(request.read(context)).and_then(|pods| {
        let QueryResult { readings, missing } = &pods;
        let items = each(context.now, request, readings, missing);
        let result = items.and_then(|items| {
            Ok(Served {
                body: write(&items)?,
                summary: summary(context.now.monotonic, readings),
            })
        });
        Outcome { result, pods }
    })
}

fn described(path: &MetricPath) -> DescribedObject<'_> {
    let namespace = &path.namespace;
    match &path.object {
        Object::Pods | Object::Namespace => DescribedObject::namespace(namespace),
        Object::Pod(name) => DescribedObject::pod(namespace, name),
        Object::Service(name) => DescribedObject::service(namespace, name),
        Object::Workload(kind, name) => DescribedObject::workload(*kind, namespace, name),
    }
}

/// One item per pod with a value.
fn each<'a>(
    now: Now,
    request: &MetricRequest<'_>,
    readings: &'a [Reading],
    missing: &[(PodKey, NoValue)],
) -> Result<Vec<Item<'a>>, Refusal> {
    if readings.is_empty() {
        return Err(no_value(match (request.object, missing) {
            (Object::Pod(_), [(pod, why)]) => {
                no_value_reason::one_has_no_value(request.metric, pod, *why)
            }
            _ => {
                no_value_reason::none_has_a_value(request.metric, &request.describe_pods(), missing)
            }
        }));
    }
    readings
        .iter()
        .map(|reading| pod_item(now, reading))
        .collect()
}

fn pod_item(now: Now, reading: &Reading) -> Result<Item<'_>, Refusal> {
    let PodKey { namespace, name } = &reading.pod;
    Ok(Item {
        object: DescribedObject::pod(namespace, name),
        timestamp: now.wall_of(reading.timestamp),
        window: reading.window,
        value: quantity_of(reading.value, || format!("pod {}", reading.pod))?,
    })
}

fn summary(now: Monotonic, readings: &[Reading]) -> Summary {
    let window = readings.iter().map(|reading| reading.window).max();
    let total = readings
        .iter()
        .fold(0_u64, |sum, reading| sum.saturating_add(reading.value.0));
    Summary {
        source: Source::Pods,
        total: Milli(total),
        pods: readings.len(),
        age: SignalAge::of_oldest(now, readings),
        window: window.unwrap_or_default(),
    }
}

fn label_selector(path: &MetricPath, parameters: &Parameters) -> Result<Selector, Refusal> {
    let selector = parse_label_selector(&parameters.label_selector)?;
    if path.object != Object::Pods && !selector.requirements().is_empty() {
        return Err(label_selector_refusal(
            &"only pods/* can be selected by label; this path names one object",
        ));
    }
    Ok(selector)
}

/// Parses `labelSelector`.
pub(crate) fn parse_label_selector(text: &str) -> Result<Selector, Refusal> {
    Selector::parse(text).map_err(|error| label_selector_refusal(&error))
}

pub(crate) fn label_selector_refusal(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::bad_request(Reason::LabelSelector, format!("labelSelector: {error}"))
}

fn metric_selector_refusal(error: &dyn std::error::Error) -> Refusal {
    Refusal::bad_request(
        Reason::MetricLabelSelector,
        format!("metricLabelSelector: {error}"),
    )
}

fn unknown_metric(names: &MetricNames, path: &MetricPath) -> Refusal {
    let objects = match &path.object {
        Object::Namespace => "namespaces",
        Object::Pods | Object::Pod(_) => "pods",
        Object::Service(_) => "services",
        Object::Workload(kind, _) => kind.resource(),
    };
    let message = format!(
        "the server could not find the metric {} for {objects}; known metrics: {}",
        path.metric,
        names.known()
    );
    Refusal::not_found(Reason::UnknownMetric, message)
}

/// The canonical text of `value`; `whose` is the subject for an error.
fn quantity_of(value: Milli, whose: impl Fn() -> String) -> Result<String, Refusal> {
    quantity::format(value).map_err(|error| {
        let message = format!("{}: {error}", whose());
        Refusal::new(Kind::Internal, Reason::OutOfRange, message)
    })
}

pub(crate) fn list_refusal(error: &ListError) -> Refusal {
    Refusal::new(Kind::Internal, Reason::Internal, error.to_string())
}

fn no_value(message: String) -> Refusal {
    Refusal::not_found(Reason::NoValue, message)
}

#[cfg(test)]
mod tests;
