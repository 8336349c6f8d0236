//! One metric: what was read, how old, over which window, who was left out, and what the arithmetic
//! made of it.

use std::collections::BTreeMap;

use autoscaler::{Failure, Metric, Proposal, Step};

use super::Explained;
use crate::documents::{MetricExplanation, PodRead, Read, ReadSource};
use crate::text::{counted, duration, names, pods};

/// A metric that was read.
pub(super) fn read(
    metric: &Metric,
    read: &Read,
    proposal: Option<&Result<Proposal, Failure>>,
) -> Explained {
    let steps = match proposal {
        Some(Ok(proposal)) => proposal.steps.as_slice(),
        _ => &[],
    };
    let wanted = proposal.and_then(|proposal| proposal.as_ref().ok());
    let explanation = MetricExplanation {
        metric: metric.to_string(),
        target: metric.target.to_string(),
        ours: true,
        read: Some(read.clone()),
        proposed_replicas: wanted.map(|proposal| proposal.replicas),
        steps: steps.iter().map(super::step).collect(),
    };
    let mut further = Vec::new();
    if read.sum_milli.is_some() {
        further.extend(left_out(read));
        further.extend(held(read));
        // Who was left out has been said, with the reason.
        let steps = steps
            .iter()
            .filter(|step| !matches!(step, Step::Missing { .. }));
        further.extend(steps.map(ToString::to_string));
    }
    if let Some(Err(failure)) = proposal
        && read.sum_milli.is_some()
    {
        further.push(format!(
            "The HPA can make nothing of it: {}.",
            failure.message
        ));
    }
    Explained {
        explanation,
        sentence: sentence(metric, read),
        further,
    }
}

/// A metric of which no read is known.
pub(super) fn unread(metric: &Metric, ours: bool) -> Explained {
    let sentence = if ours {
        format!("It did not read {metric} (target: {}).", metric.target)
    } else {
        format!(
            "Another server answers {metric} (target: {}), not meshmeter.",
            metric.target
        )
    };
    Explained {
        explanation: MetricExplanation {
            metric: metric.to_string(),
            target: metric.target.to_string(),
            ours,
            ..MetricExplanation::default()
        },
        sentence,
        further: Vec::new(),
    }
}

/// What is not known of a metric.
pub(super) fn unknown(metric: &Metric, read: Option<&Read>, ours: bool) -> Option<String> {
    match (read, ours) {
        (Some(read), _) if read.each.is_none() && is_of_pods(read) => Some(
            "Of this read only the sums are left: which of its pods were Pending is not known, and none is taken as such."
                .to_owned(),
        ),
        (Some(_), _) => None,
        (None, true) => Some(format!(
            "No read of {metric} in this sync is known, so what is derived leaves it out."
        )),
        (None, false) => Some(format!(
            "What {metric} wanted is not known, so what is derived leaves it out: it could only have wanted more, or failed and kept the HPA from scaling down."
        )),
    }
}

fn is_of_pods(read: &Read) -> bool {
    read.object == "pods" && read.sum_milli.is_some()
}

fn sentence(metric: &Metric, read: &Read) -> String {
    let target = &metric.target;
    let from = if read.replica.is_empty() {
        String::new()
    } else {
        format!(" from {}", read.replica)
    };
    if read.sum_milli.is_none() {
        return format!(
            "It asked for {metric} (target: {target}){from} and was refused with {}: {}.",
            read.code,
            read.message.trim_end_matches('.')
        );
    }
    let counted_by = match read.source {
        ReadSource::Pods => "",
        ReadSource::Callers => ", counted by the callers' sidecars since no pod of its runs",
    };
    let old = if read.pods > 1 {
        "the oldest value was"
    } else {
        "the value was"
    };
    format!(
        "It read {metric} (target: {target}){from}, over a window of {}{counted_by}; {old} {} old.",
        duration(read.window_ms),
        duration(read.age_ms)
    )
}

/// A sentence for each reason for which pods were left out.
fn left_out(read: &Read) -> Vec<String> {
    let Some(each) = &read.each else {
        let counts = read.left_out.iter().filter(|(_, count)| **count > 0);
        return counts
            .map(|(reason, count)| format!("{} left out, {}.", was(*count), phrase(reason)))
            .collect();
    };
    let mut by_reason: BTreeMap<&str, Vec<&PodRead>> = BTreeMap::new();
    // Of those that are Pending the arithmetic says that they do not count, value or not.
    for pod in each
        .iter()
        .filter(|pod| pod.value_milli.is_none() && !pod.pending)
    {
        by_reason.entry(&pod.state).or_default().push(pod);
    }
    let sentences = by_reason.into_iter().map(|(reason, pods)| {
        let count = u32::try_from(pods.len()).unwrap_or(u32::MAX);
        let named: Vec<_> = pods.iter().map(|pod| pod.name.as_str()).collect();
        format!(
            "{} left out, {}: {}.",
            was(count),
            phrase(reason),
            names(&named)
        )
    });
    sentences.collect()
}

/// Values that were served though their streams were lost.
fn held(read: &Read) -> Option<String> {
    let each = read.each.iter().flatten();
    let held: Vec<_> = each.filter(|pod| pod.state == "held").collect();
    let oldest = held.iter().map(|pod| pod.age_ms).max()?;
    let count = u32::try_from(held.len()).unwrap_or(u32::MAX);
    let named: Vec<_> = held.iter().map(|pod| pod.name.as_str()).collect();
    let own = if count == 1 { "is its" } else { "are their" };
    let values = if count == 1 { "value" } else { "values" };
    Some(format!(
        "The stream of {} was lost ({}); what counts {own} last {values}, up to {} old.",
        pods(count),
        names(&named),
        duration(oldest)
    ))
}

fn was(pods: u32) -> String {
    let verb = if pods == 1 { "was" } else { "were" };
    format!("{} {verb}", counted(pods, "pod"))
}

/// A phrase after "1 pod was left out," and "2 pods were left out,".
fn phrase(reason: &str) -> String {
    match reason {
        "never_reported" => "as no sidecar had reported",
        "tls_refused" => "as the TLS of the stream was refused",
        "unauthenticated" => "as its token, certificate or address was refused",
        "unreadable" => "as what its filter sent could not be read",
        "stream_refused" => "as its stream was refused by a limit",
        "new" => "as it had been known for less than a second",
        "gone" => "as nothing was reported any more",
        "not_counted" => "as the sidecar does not count this",
        "vm_lost" => "as a Wasm VM was lost and the totals may be too low",
        "hot_restart" => "as two Envoys served it at once",
        "refused" => "as a part of what was reported was refused",
        "no_requests" => "as no request ended in the window",
        other => return format!("for the reason {other}"),
    }
    .to_owned()
}
