//! Which HPA a read is of, and what the arithmetic of that HPA makes of it.
//!
//! A request names no HPA. The read is of one if it is the only one whose metric is asked for: by
//! name, object and metric selector, and for a metric of pods by the pods, which are those of its
//! target. Otherwise it is of none: a guess would explain the wrong autoscaler.

use std::sync::Arc;

use aggregator_core::pod::PodKey;
use aggregator_core::query::QueryResult;
use aggregator_directory::{AutoscalerInfo, Directory};
use aggregator_ledger::PodValue;
use aggregator_view::{computed_for_pods, computed_for_total, metric_of};
use autoscaler::{Hpa, Metric, Target};

use crate::asked::Asked;
use crate::metrics::Summary;

/// Autoscalers that are compared by their pods when a read has none.
const CANDIDATES_MAX: usize = 16;

/// The HPA that a read is of.
#[derive(Clone, Debug)]
pub(crate) struct ReadingHpa {
    pub(crate) info: Arc<AutoscalerInfo>,
    /// Position in the metrics of its specification.
    pub(crate) metric: usize,
}

/// What a read is for the arithmetic.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Computed {
    /// Replicas that the metric wants.
    pub(crate) replicas: Option<u32>,
    /// The value over its target.
    pub(crate) ratio: Option<f64>,
}

/// The HPA that asked for `asked` and so read `pods`, if there is exactly one.
pub(crate) fn reader(
    directory: &Directory,
    asked: &Asked<'_>,
    pods: &QueryResult,
) -> Option<ReadingHpa> {
    let object = asked.object.to_string();
    let selector = match &*object {
        "external" => asked.selector,
        _ => asked.metric_selector,
    };
    let asks = |info: &AutoscalerInfo| {
        let spec = info.spec.as_ref().ok();
        spec.is_some_and(|hpa| metric_of(hpa, asked.metric, &object, selector).is_some())
    };
    let first = pods.readings.first().map(|reading| &reading.pod);
    let first = first.or_else(|| pods.missing.first().map(|(pod, _)| pod));
    let found = match first {
        _ if object != "pods" => directory.fitting_autoscalers(asked.namespace, 2, asks),
        Some(pod) => {
            let owners = directory.owners_of(pod);
            let owns = |info: &AutoscalerInfo| owners.contains(&info.target.object) && asks(info);
            let mut found = directory.fitting_autoscalers(asked.namespace, 2, owns);
            found.retain(|info| has_pods(directory, info, pods));
            found
        }
        None => {
            let mut found = directory.fitting_autoscalers(asked.namespace, CANDIDATES_MAX, asks);
            if found.len() > 1 {
                found.retain(|info| {
                    directory
                        .pods_of_autoscaler(info)
                        .is_none_or(|p| p.is_empty())
                });
            }
            found
        }
    };
    let [info] = &found[..] else {
        return None;
    };
    let metrics = &info.spec.as_ref().ok()?.metrics;
    let metric = metric_of(info.spec.as_ref().ok()?, asked.metric, &object, selector)?;
    Some(ReadingHpa {
        metric: metrics.iter().position(|own| own == metric)?,
        info: Arc::clone(info),
    })
}

/// True if `pods` are the pods of what the autoscaler scales.
fn has_pods(directory: &Directory, info: &AutoscalerInfo, pods: &QueryResult) -> bool {
    let Some(own) = directory.pods_of_autoscaler(info) else {
        return false;
    };
    let is_own = |pod: &PodKey| own.binary_search(pod).is_ok();
    let missing = pods.missing.iter().map(|(pod, _)| pod);
    let mut read = pods
        .readings
        .iter()
        .map(|reading| &reading.pod)
        .chain(missing);
    own.len() == pods.readings.len() + pods.missing.len() && read.all(is_own)
}

// === impl ReadingHpa ===

impl ReadingHpa {
    /// What the arithmetic makes of an answer with `summary`, read from the pods `each`.
    pub(crate) fn compute(&self, summary: &Summary, each: &[PodValue<'_>]) -> Computed {
        let Some((hpa, metric)) = self.spec() else {
            return Computed::default();
        };
        let replicas = self.replicas(each);
        let total = summary.total.0;
        if matches!(metric.source, autoscaler::Source::Pods { .. }) {
            let pods = each.iter().map(|pod| (pod.value_milli(), pod.pending));
            return Computed {
                replicas: computed_for_pods(hpa, metric, replicas, pods),
                ratio: ratio(total, metric.target, summary.pods),
            };
        }
        Computed {
            replicas: computed_for_total(hpa, metric, replicas, total),
            ratio: ratio(total, metric.target, replicas as usize),
        }
    }

    /// Name of the metric in the specification.
    pub(crate) fn metric_name(&self) -> &str {
        self.spec().map_or("", |(_, metric)| &metric.name)
    }

    fn spec(&self) -> Option<(&Hpa, &Metric)> {
        let hpa = self.info.spec.as_ref().ok()?;
        Some((hpa, hpa.metrics.get(self.metric)?))
    }

    /// Replicas of the target as its HPA saw or set them last; before that, its pods.
    fn replicas(&self, each: &[PodValue<'_>]) -> u32 {
        match &self.info.status {
            Some(status) => status.desired_replicas,
            None => u32::try_from(each.len()).unwrap_or(u32::MAX),
        }
    }
}

/// `total` in thousandths over `target`, which for an average is that of `pods`.
#[expect(clippy::cast_precision_loss, reason = "a gauge, which has 53 bits")]
fn ratio(total: u64, target: Target, pods: usize) -> Option<f64> {
    let whole = match target {
        Target::Average(milli) => milli as f64 * pods as f64,
        Target::Value(milli) => milli as f64,
        Target::Utilization(_) => return None,
    };
    (whole > 0.0).then(|| total as f64 / whole)
}
