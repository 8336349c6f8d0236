//! What was derived against what the HPA's status said, and what is not known.

use autoscaler::Step;

use super::Explanation;
use crate::documents::Change;
use crate::evidence::Evidence;
use crate::replay::Replayed;
use crate::sync::scalings;
use crate::text::{clock, date_time, duration, replicas};

/// A scaling this close to the time asked for is told of.
const NEAR_MS: u64 = 120_000;

/// Says whether the status says the same.
pub(super) fn compare(evidence: &Evidence<'_>, explanation: &mut Explanation) {
    let Some(derived) = explanation.derived_replicas else {
        return;
    };
    let sentence = match explanation.observed_replicas {
        None => {
            let sentence = "What the HPA's status said after it is not known.".to_owned();
            explanation.unknown.push(sentence);
            return;
        }
        Some(observed) if observed == derived => {
            format!("The HPA's status says the same: {}.", replicas(observed))
        }
        Some(observed) => {
            differs(evidence, observed, derived, explanation);
            return;
        }
    };
    explanation.sentences.push(sentence);
}

fn differs(evidence: &Evidence<'_>, observed: u32, derived: u32, explanation: &mut Explanation) {
    let first = format!(
        "By what is known here it would be {}; the HPA's status says {observed}.",
        replicas(derived)
    );
    explanation.sentences.push(first);
    let theirs = explanation
        .metrics
        .iter()
        .any(|metric| metric.read.is_none());
    if theirs && observed > derived {
        explanation.sentences.push(
            "That fits: the metric that wants most decides, and not all of them are known here."
                .to_owned(),
        );
        return;
    }
    let failing = explanation.change.clone();
    if let Some(change) = failing {
        failing_condition(&change, explanation);
    }
    let settings = &evidence.hpa.settings;
    explanation.unknown.push(format!(
        "Why they differ is not known. It could be that the HPA's spec was changed since, that kube-controller-manager has other settings than a tolerance of {} and a stabilisation of {}, that it was started shortly before, or that somebody else scaled {}.",
        settings.tolerance,
        duration(u64::try_from(settings.downscale_stabilization.as_millis()).unwrap_or(u64::MAX)),
        explanation.target
    ));
}

/// What the status itself says of a failure; false if it says of none.
pub(super) fn failing_condition(change: &Change, explanation: &mut Explanation) -> bool {
    let mut fails = false;
    for kind in ["ScalingActive", "AbleToScale"] {
        if let Some(text) = change.conditions.get(kind)
            && let Some(text) = text.strip_prefix("False ")
        {
            explanation.sentences.push(format!(
                "The HPA's condition {kind} is False: {}.",
                text.trim_end_matches('.')
            ));
            fails = true;
        }
    }
    fails
}

/// Says so if earlier syncs that matter are not known.
pub(super) fn reach(
    evidence: &Evidence<'_>,
    all: &[Replayed<'_>],
    sync: &Replayed<'_>,
    explanation: &mut Explanation,
) {
    let reach = u64::try_from(evidence.hpa.reach().as_millis()).unwrap_or(u64::MAX);
    let Some(first) = all.first().map(|first| first.sync.at) else {
        return;
    };
    let since = evidence.replicas.iter().filter_map(|own| own.since_unix_ms);
    let since = since.min().unwrap_or(first);
    let needed = sync.sync.at.saturating_sub(reach);
    // An HPA that is younger than the ledger has no earlier syncs.
    if first <= needed || since <= needed {
        return;
    }
    let wanted = sync.decision.limits.iter().find_map(|step| match step {
        Step::Stabilized { window, .. } => Some(window.as_secs()),
        _ => None,
    });
    let matters = wanted.map_or_else(String::new, |_| {
        " What it wanted before counts as the replicas that there were then.".to_owned()
    });
    explanation.unknown.push(format!(
        "The last {} can matter, and reads are known since {} only, {} before.{matters}",
        duration(reach),
        clock(first),
        duration(sync.sync.at - first)
    ));
}

/// Tells of a scaling near the time asked for, if this was none.
pub(super) fn nearest_scaling(changes: &[&Change], at_unix_ms: u64, explanation: &mut Explanation) {
    let stays = explanation
        .observed_replicas
        .or(explanation.derived_replicas)
        == explanation.current_replicas;
    let is_one = explanation
        .change
        .as_ref()
        .is_some_and(|change| change.current_replicas != change.desired_replicas);
    if !stays || is_one {
        return;
    }
    let scalings = scalings(changes);
    let scalings = scalings.filter(|change| change.at_unix_ms.abs_diff(at_unix_ms) <= NEAR_MS);
    let Some(nearest) = scalings.min_by_key(|change| change.at_unix_ms.abs_diff(at_unix_ms)) else {
        return;
    };
    let apart = duration(nearest.at_unix_ms.abs_diff(at_unix_ms));
    let side = if nearest.at_unix_ms < at_unix_ms {
        "before"
    } else {
        "after"
    };
    explanation.sentences.push(format!(
        "The scaling nearest to the time asked for is from {} to {} at {}, {apart} {side} it.",
        nearest.current_replicas,
        replicas(nearest.desired_replicas),
        date_time(nearest.at_unix_ms)
    ));
}

/// Says so if a replica of the aggregator did not give its part.
pub(super) fn missing_replicas(evidence: &Evidence<'_>, explanation: &mut Explanation) {
    for replica in evidence.replicas.iter().filter(|own| !own.error.is_empty()) {
        explanation.unknown.push(format!(
            "The reads that {} answered are not known: {}.",
            replica.name,
            replica.error.trim_end_matches('.')
        ));
    }
}
