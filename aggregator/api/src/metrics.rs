//! Metric requests: path and selectors -> the store -> a list of values, or a sentence that says why not.
//!
//! - `pods/*`: a pod without a value is left out; if none has one, that is an error.
//! - `pods/NAME`: no value is an error.
//! - `namespaces/NS/metrics/M`: the sum over the namespace's pods. Pods that do not report are left out; any
//!   doubt about a pod that does is an error, since the sum would be too low (decision 0004).

use std::time::Duration;

use aggregator_core::directory::Directory;
use aggregator_core::pod::PodKey;
use aggregator_core::query::{Answer, Milli, Missing, Reading};
use aggregator_core::store::Store;
use aggregator_core::time::UnixMillis;
use bytes::Bytes;

use crate::form::Parameters;
use crate::list::{self, DescribedObject, Item};
use crate::metric_name;
use crate::metric_selector;
use crate::missing;
use crate::path::{MetricPath, Object};
use crate::quantity;
use crate::selector::Selector;
use crate::status::{Kind, Reason, Refusal};

/// Where values come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sources<'a> {
    pub(crate) store: &'a Store,
    pub(crate) directory: &'a Directory,
    pub(crate) now: UnixMillis,
}

/// A served list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Served {
    /// JSON.
    pub(crate) body: Bytes,
    /// Age of the oldest value.
    pub(crate) age: Duration,
}

/// What came of a request. Which pods had no value is told in either case.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) result: Result<Served, Refusal>,
    pub(crate) missing: Vec<(PodKey, Missing)>,
}

/// Answers one metric request.
pub(crate) fn answer(sources: Sources<'_>, path: &MetricPath, parameters: &Parameters) -> Outcome {
    match ask(sources, path, parameters) {
        Ok((question, answer)) => Outcome {
            result: question.serve(sources.now, &answer),
            missing: answer.missing,
        },
        Err(refusal) => Outcome {
            result: Err(refusal),
            missing: Vec::new(),
        },
    }
}

struct Question<'a> {
    path: &'a MetricPath,
    metric: &'static str,
    label_selector: &'a str,
    metric_selector: Selector,
}

fn ask<'a>(
    sources: Sources<'_>,
    path: &'a MetricPath,
    parameters: &'a Parameters,
) -> Result<(Question<'a>, Answer), Refusal> {
    let (name, metric) = metric_name::parse(&path.metric).ok_or_else(|| unknown_metric(path))?;
    let metric_selector = Selector::parse(&parameters.metric_label_selector)
        .map_err(|error| metric_selector_refusal(&error))?;
    let query = metric_selector::query(metric, &metric_selector)
        .map_err(|error| metric_selector_refusal(&error))?;
    let label_selector = label_selector(path, parameters)?;
    let question = Question {
        path,
        metric: name,
        label_selector: parameters.label_selector.trim(),
        metric_selector,
    };
    let pods = question.pods(sources.directory, &label_selector)?;
    let answer = sources.store.read(sources.now, &pods, &query);
    Ok((question, answer))
}

fn label_selector(path: &MetricPath, parameters: &Parameters) -> Result<Selector, Refusal> {
    let refuse = |message| Refusal::bad_request(Reason::LabelSelector, message);
    let selector = Selector::parse(&parameters.label_selector)
        .map_err(|error| refuse(format!("labelSelector: {error}")))?;
    if path.object != Object::Pods && !selector.requirements().is_empty() {
        return Err(refuse(
            "labelSelector: only pods/* can be selected by label; this path names one object"
                .into(),
        ));
    }
    Ok(selector)
}

fn metric_selector_refusal(error: &dyn std::error::Error) -> Refusal {
    Refusal::bad_request(
        Reason::MetricLabelSelector,
        format!("metricLabelSelector: {error}"),
    )
}

fn unknown_metric(path: &MetricPath) -> Refusal {
    let objects = match path.object {
        Object::Namespace => "namespaces",
        Object::Pods | Object::Pod(_) => "pods",
    };
    let message = format!(
        "the server could not find the metric {} for {objects}; known metrics: {}",
        path.metric,
        metric_name::known()
    );
    Refusal::not_found(Reason::UnknownMetric, message)
}

// === impl Question ===

impl Question<'_> {
    /// The pods that are asked about; none is an error.
    fn pods(&self, directory: &Directory, selector: &Selector) -> Result<Vec<PodKey>, Refusal> {
        let namespace = &self.path.namespace;
        if let Object::Pod(name) = &self.path.object {
            let key = PodKey::new(namespace, name);
            return match directory.get(&key) {
                Some(_) => Ok(vec![key]),
                None => Err(no_value(format!(
                    "the server could not find the metric {} for pods {name}: no such pod is known in namespace {namespace}",
                    self.metric
                ))),
            };
        }
        let pods = directory.select(namespace, &|labels| {
            selector.holds_for(|key| labels.get(key))
        });
        if !pods.is_empty() {
            return Ok(pods);
        }
        let known = directory.select(namespace, &|_| true).len();
        Err(no_value(format!(
            "the server could not find the metric {} for pods: there are no {}; {known} pods are known in that namespace",
            self.metric,
            self.describe_pods()
        )))
    }

    fn describe_pods(&self) -> String {
        let namespace = &self.path.namespace;
        match self.label_selector {
            "" => format!("pods in namespace {namespace}"),
            selector => format!("pods matching {selector} in namespace {namespace}"),
        }
    }

    fn serve(&self, now: UnixMillis, answer: &Answer) -> Result<Served, Refusal> {
        let items = match &self.path.object {
            Object::Namespace => vec![self.sum(answer)?],
            Object::Pods | Object::Pod(_) => self.each(answer)?,
        };
        let oldest = items.iter().map(|item| item.timestamp).min().unwrap_or(now);
        let body = list::write(
            self.path.version,
            self.metric,
            &self.metric_selector,
            &items,
        )
        .map_err(|error| Refusal::new(Kind::Internal, Reason::Internal, error.to_string()))?;
        Ok(Served {
            body,
            age: now.since(oldest),
        })
    }

    /// One item per pod with a value.
    fn each<'a>(&self, answer: &'a Answer) -> Result<Vec<Item<'a>>, Refusal> {
        if answer.readings.is_empty() {
            return Err(no_value(match (&self.path.object, &answer.missing[..]) {
                (Object::Pod(_), [(pod, why)]) => missing::one_has_no_value(self.metric, pod, *why),
                (_, missing) => {
                    missing::none_has_a_value(self.metric, &self.describe_pods(), missing)
                }
            }));
        }
        answer.readings.iter().map(pod_item).collect()
    }

    /// The sum over all pods: as old as its oldest part, over the longest window of them.
    fn sum(&self, answer: &Answer) -> Result<Item<'_>, Refusal> {
        let doubtful: Vec<_> = answer
            .missing
            .iter()
            .filter(|(_, why)| !matches!(why, Missing::Gone | Missing::NeverReported))
            .cloned()
            .collect();
        if !doubtful.is_empty() {
            let message = format!(
                "the sum of {} in namespace {} would be too low, since {} of its pods have no value: {}",
                self.metric,
                self.path.namespace,
                doubtful.len(),
                missing::counted(&doubtful)
            );
            return Err(Refusal::new(Kind::Unavailable, Reason::Doubt, message));
        }
        let readings = &answer.readings;
        let (Some(timestamp), Some(window)) = (
            readings.iter().map(|reading| reading.timestamp).min(),
            readings.iter().map(|reading| reading.window).max(),
        ) else {
            let pods = self.describe_pods();
            return Err(no_value(missing::none_has_a_value(
                self.metric,
                &pods,
                &answer.missing,
            )));
        };
        let sum = readings
            .iter()
            .fold(0_u64, |sum, reading| sum.saturating_add(reading.value.0));
        let value = quantity::format(Milli(sum)).map_err(|error| {
            let message = format!("namespace {}: {error}", self.path.namespace);
            Refusal::new(Kind::Internal, Reason::OutOfRange, message)
        })?;
        let object = DescribedObject::namespace(&self.path.namespace);
        Ok(Item {
            object,
            timestamp,
            window,
            value,
        })
    }
}

fn pod_item(reading: &Reading) -> Result<Item<'_>, Refusal> {
    let PodKey { namespace, name } = &reading.pod;
    let value = quantity::format(reading.value).map_err(|error| {
        let message = format!("pod {}: {error}", reading.pod);
        Refusal::new(Kind::Internal, Reason::OutOfRange, message)
    })?;
    Ok(Item {
        object: DescribedObject::pod(namespace, name),
        timestamp: reading.timestamp,
        window: reading.window,
        value,
    })
}

fn no_value(message: String) -> Refusal {
    Refusal::not_found(Reason::NoValue, message)
}

#[cfg(test)]
mod tests;
