//! A metric request of either API: pods, and the part of a metric to read of them.

use aggregator_core::pod::{PodKey, Readiness};
use aggregator_core::query::{MetricQuery, QueryResult};
use aggregator_directory::{Directory, ServicePods};

use crate::metrics::sum::{self, Set, Sum};
use crate::metrics::{Outcome, ReadContext, demand, no_value};
use crate::no_value_reason;
use crate::path::Object;
use crate::selector::Selector;
use crate::status::Refusal;

#[derive(Debug)]
pub(crate) struct MetricRequest<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) object: &'a Object,
    /// Name of the metric, as served.
    pub(crate) metric: &'a str,
    pub(crate) query: MetricQuery,
    /// The label selector as requested, for messages.
    pub(crate) selector_text: &'a str,
    /// Selects pods if the object is a namespace or all its pods.
    pub(crate) selector: Selector,
}

/// The pods of an object.
enum Members {
    /// May be empty.
    Pods(Vec<PodKey>),
    /// Unknown, with the reason.
    Unknown(&'static str),
}

/// The value over the pods of an object.
enum Own {
    Sum(Sum),
    /// No pod runs, with the reason: its callers are read instead.
    NoneRuns(String),
}

// === impl MetricRequest ===

impl MetricRequest<'_> {
    /// Reads each of the requested pods; none is an error.
    pub(super) fn read(&self, context: ReadContext<'_>) -> Result<QueryResult, Refusal> {
        let pods = self.pods(context.directory)?;
        Ok(self.read_pods(context, &pods))
    }

    fn read_pods(&self, context: ReadContext<'_>, pods: &[PodKey]) -> QueryResult {
        let mut result = context.store.read(context.now.monotonic, pods, &self.query);
        for (pod, why) in &mut result.missing {
            let (store, directory) = (context.store, context.directory);
            *why = no_value_reason::refused(store, directory, context.now.monotonic, pod, *why);
        }
        result
    }

    /// The value of an object.
    pub(crate) fn total(&self, context: ReadContext<'_>) -> Outcome<Sum> {
        self.own_pods(context).and_then(|own| match own {
            Own::Sum(sum) => Ok(sum).into(),
            Own::NoneRuns(why) => demand::of(self, context, &why),
        })
    }

    fn own_pods(&self, context: ReadContext<'_>) -> Outcome<Own> {
        Outcome::from(self.members(context.directory)).and_then(|members| match members {
            Members::Unknown(why) => Ok(Own::NoneRuns(why.to_owned())).into(),
            Members::Pods(pods) if pods.is_empty() => {
                Ok(Own::NoneRuns("it has no pods".to_owned())).into()
            }
            Members::Pods(pods) => {
                let result = self.read_pods(context, &pods);
                Outcome {
                    result: self.sum(context, &pods, &result),
                    pods: result,
                }
            }
        })
    }

    /// The sum of `result` over `pods`, all pods of the object.
    fn sum(
        &self,
        context: ReadContext<'_>,
        pods: &[PodKey],
        result: &QueryResult,
    ) -> Result<Own, Refusal> {
        if let Some(sum) = sum::over(context.now.monotonic, self, context.directory, result)? {
            return Ok(Own::Sum(sum));
        }
        if self.is_namespace() || !none_serves(context.directory, pods) {
            return Err(no_value(no_value_reason::none_has_a_value(
                self.metric,
                &self.describe_pods(),
                &result.missing,
            )));
        }
        let why = format!("none of its {} pods is ready", pods.len());
        Ok(Own::NoneRuns(why))
    }

    pub(super) fn set(&self) -> Set {
        if self.is_namespace() && self.selector.requirements().is_empty() {
            Set::Namespace
        } else {
            Set::Members
        }
    }

    /// "pods matching app=jazz in namespace prod"
    pub(super) fn describe_pods(&self) -> String {
        let namespace = self.namespace;
        match (self.object, self.selector_text) {
            (Object::Service(_) | Object::Workload(..), _) => format!("pods of {}", self.subject()),
            (_, "") => format!("pods in namespace {namespace}"),
            (_, selector) => format!("pods matching {selector} in namespace {namespace}"),
        }
    }

    /// "deployment prod/jazz-v1"
    pub(crate) fn subject(&self) -> String {
        let namespace = self.namespace;
        match self.object {
            Object::Namespace if self.selector_text.is_empty() => format!("namespace {namespace}"),
            Object::Namespace | Object::Pods => self.describe_pods(),
            Object::Pod(name) => format!("pod {namespace}/{name}"),
            Object::Service(name) => format!("service {namespace}/{name}"),
            Object::Workload(kind, name) => format!("{} {namespace}/{name}", kind.as_str()),
        }
    }

    fn is_namespace(&self) -> bool {
        matches!(self.object, Object::Namespace)
    }

    fn members(&self, directory: &Directory) -> Result<Members, Refusal> {
        let namespace = self.namespace;
        Ok(match self.object {
            Object::Service(name) => match directory.pods_of_service(namespace, name) {
                ServicePods::Unknown => Members::Unknown("no such service is known"),
                ServicePods::WithoutSelector => {
                    Members::Unknown("it has no selector, so its pods are not known")
                }
                ServicePods::Pods(pods) => Members::Pods(pods),
            },
            Object::Workload(kind, name) => {
                match directory.pods_of_owner(&kind.key(namespace, name)) {
                    None => Members::Unknown("no such object is known"),
                    Some(pods) => Members::Pods(pods),
                }
            }
            Object::Pods | Object::Pod(_) | Object::Namespace => {
                Members::Pods(self.pods(directory)?)
            }
        })
    }

    /// The pods named or selected in the namespace; none is an error.
    fn pods(&self, directory: &Directory) -> Result<Vec<PodKey>, Refusal> {
        let namespace = self.namespace;
        if let Object::Pod(name) = &self.object {
            let key = PodKey::new(namespace, name);
            if directory.is_serving(&key) {
                return Ok(vec![key]);
            }
            let why = match directory.serving(&key) {
                Some(_) => "it is terminating or has ended".to_owned(),
                None => format!("no such pod is known in namespace {namespace}"),
            };
            return Err(no_value(format!(
                "the server could not find the metric {} for pods {name}: {why}",
                self.metric
            )));
        }
        let equals: Vec<_> = self.selector.equalities().collect();
        let pods = directory.select_equal(namespace, &equals, &|labels| {
            self.selector.holds_for(|key| labels.get(key))
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
}

fn none_serves(directory: &Directory, pods: &[PodKey]) -> bool {
    pods.iter()
        .all(|pod| directory.serving(pod) == Some(Readiness::No))
}
