//! What would change it.

use autoscaler::{Hpa, Metric, Source, Target, Threshold, Thresholds};

use super::Explanation;
use crate::documents::Read;
use crate::evidence::Evidence;
use crate::replay::Replayed;
use crate::text::{milli, replicas};

/// Adds a sentence for each metric that was read.
pub(super) fn add(evidence: &Evidence<'_>, sync: &Replayed<'_>, explanation: &mut Explanation) {
    let hpa = evidence.hpa;
    let here = explanation
        .observed_replicas
        .or(explanation.derived_replicas);
    let Some(here) = here.filter(|here| *here > 0) else {
        return;
    };
    for index in &sync.metrics {
        let (Some(metric), Some(read)) = (hpa.metrics.get(*index), sync.sync.reads[*index]) else {
            continue;
        };
        let Some(thresholds) = hpa.thresholds(metric, here) else {
            continue;
        };
        let which = if sync.metrics.len() > 1 {
            format!(", by {metric}")
        } else {
            String::new()
        };
        let each = if is_whole(read) {
            format!("With {}", replicas(here))
        } else {
            format!("With a value of each of {}", replicas(here))
        };
        let sentence = sentence(hpa, metric, here, &thresholds);
        let sentence = format!("{each}{which}: {sentence}");
        explanation.would_change.push(sentence);
    }
    let failed = sync.decision.proposals.iter().any(Result::is_err);
    if failed {
        explanation.would_change.push(
            "While a metric has no value the HPA cannot scale down, and only another metric can scale it up."
                .to_owned(),
        );
    }
    let added = explanation.would_change.clone();
    explanation.sentences.extend(added);
}

fn sentence(hpa: &Hpa, metric: &Metric, here: u32, thresholds: &Thresholds) -> String {
    let per_pod = match (&metric.source, metric.target) {
        (Source::Pods { .. }, _) | (_, Target::Average(_)) => " per pod",
        _ => " in all",
    };
    let value = |threshold: &Threshold| {
        let value = u64::try_from(threshold.value_milli).unwrap_or_default();
        format!("{}{per_pod}", milli(value))
    };
    let up = thresholds.up.as_ref().map_or_else(
        || "it cannot go up, as maxReplicas is reached".to_owned(),
        |up| format!("from {} on it goes up, to {}", value(up), up.replicas),
    );
    let down = thresholds.down.as_ref().map_or_else(
        || {
            if here <= hpa.min {
                "it cannot go down, as minReplicas is reached".to_owned()
            } else {
                "no value takes it down".to_owned()
            }
        },
        |down| {
            let value = value(down);
            if down.value_milli == 0 {
                format!("at {value} it goes down, to {}", down.replicas)
            } else {
                format!("at {value} and below it goes down, to {}", down.replicas)
            }
        },
    );
    let window = hpa.down_window().as_secs();
    let after = if thresholds.down.is_some() && window > 0 {
        format!(", once nothing more was wanted for {window} s")
    } else {
        String::new()
    };
    format!("{up}; {down}{after}.")
}

/// Whether each pod gave a value that counts.
fn is_whole(read: &Read) -> bool {
    let pending = read.each.iter().flatten().any(|pod| pod.pending);
    read.sum_milli.is_some() && read.left_out.is_empty() && !pending
}
