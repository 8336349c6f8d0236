//! What an HPA read and did, line by line.

mod reactions;

use std::collections::BTreeMap;

use autoscaler::Target;

use crate::documents::{Change, Entry, EntryKind, Reaction, Read, Timeline};
use crate::evidence::Evidence;
use crate::replay::{Replayed, replay};
use crate::sync::changes;
use crate::text::{counted, duration, milli, pods, replicas};
use crate::{GROUP, VERSION};

/// What the HPA read and did since `from_unix_ms`. What came shortly before is taken to tell what
/// changed, and from where a step in load began.
pub fn timeline(evidence: &Evidence<'_>, from_unix_ms: u64) -> Timeline {
    let replayed = replay(evidence);
    let changes = changes(evidence);
    let mut entries: Vec<Entry> = replayed
        .iter()
        .flat_map(|sync| reads(evidence, sync))
        .chain(of_changes(&changes))
        .filter(|entry| entry.at_unix_ms >= from_unix_ms)
        .collect();
    entries.sort_by_key(|entry| entry.at_unix_ms);
    let reactions = reactions::reactions(evidence, &replayed, &changes);
    let decided = |own: &Reaction| own.step_unix_ms + own.decision_ms.unwrap_or_default();
    let reactions = reactions
        .into_iter()
        .filter(|reaction| decided(reaction) >= from_unix_ms);
    let hpa = evidence.hpa;
    Timeline {
        kind: "Timeline".to_owned(),
        api_version: format!("{GROUP}/{VERSION}"),
        namespace: hpa.namespace.clone(),
        hpa: hpa.name.clone(),
        target: format!("{}/{}", hpa.target.kind, hpa.target.name),
        min_replicas: hpa.min,
        max_replicas: hpa.max,
        target_milli: target(evidence),
        entries,
        reactions: reactions.collect(),
        replicas: evidence.replicas.to_vec(),
    }
}

/// The target per pod, if one metric of ours has one.
fn target(evidence: &Evidence<'_>) -> Option<u64> {
    let ours = evidence.hpa.metrics.iter().zip(evidence.ours);
    let ours = ours.filter(|(_, ours)| **ours);
    let mut targets = ours.filter_map(|(metric, _)| match metric.target {
        Target::Average(milli) => u64::try_from(milli).ok(),
        _ => None,
    });
    targets.next().filter(|_| targets.next().is_none())
}

/// A line for each read of a sync.
fn reads(evidence: &Evidence<'_>, sync: &Replayed<'_>) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (place, index) in sync.metrics.iter().enumerate() {
        let Some(read) = sync.sync.reads.get(*index).copied().flatten() else {
            continue;
        };
        let metric = evidence.hpa.metrics.get(*index);
        let metric = metric.map(ToString::to_string).unwrap_or_default();
        let wanted = sync.decision.proposals.get(place);
        let wanted = wanted.and_then(|own| own.as_ref().ok());
        entries.push(Entry {
            at_unix_ms: read.at_unix_ms,
            kind: if read.sum_milli.is_some() {
                EntryKind::Read
            } else {
                EntryKind::Refusal
            },
            text: read_text(&metric, read, wanted.map(|own| own.replicas)),
            sum_milli: read.sum_milli,
            count: read.sum_milli.map(|_| read.pods),
        });
    }
    entries
}

fn read_text(metric: &str, read: &Read, wanted: Option<u32>) -> String {
    let Some(sum) = read.sum_milli else {
        return format!("{metric} refused with {}: {}", read.code, read.message);
    };
    let is_average = read.object == "pods" && read.pods > 1;
    let average = is_average.then(|| milli(sum / u64::from(read.pods)));
    let average = average.map_or_else(String::new, |average| format!(", {average} on average"));
    let missing: u32 = read.left_out.values().sum();
    let missing = if missing > 0 {
        format!(", {missing} left out")
    } else {
        String::new()
    };
    let wanted = wanted.map_or_else(String::new, |wanted| {
        format!("; makes {}", replicas(wanted))
    });
    format!(
        "{metric}: {} from {}{average}{missing}, window {}, age {}{wanted}",
        milli(sum),
        pods(read.pods),
        duration(read.window_ms),
        duration(read.age_ms)
    )
}

/// Lines for what changed from one status to the next.
fn of_changes(changes: &[&Change]) -> Vec<Entry> {
    let mut entries = Vec::new();
    let before = std::iter::once(None).chain(changes.iter().copied().map(Some));
    for (before, after) in before.zip(changes.iter().copied()) {
        let entry = |kind, text, count| Entry {
            at_unix_ms: after.at_unix_ms,
            kind,
            text,
            sum_milli: None,
            count,
        };
        // Before the first one that is known there were the replicas that it says.
        let desired = before.map_or(after.current_replicas, |before| before.desired_replicas);
        if desired != after.desired_replicas {
            let (here, to) = (after.current_replicas, replicas(after.desired_replicas));
            let text = if after.current_replicas == after.desired_replicas {
                format!("has {to}, which it did not scale to itself")
            } else {
                format!("scales from {here} to {to}")
            };
            entries.push(entry(
                EntryKind::Decision,
                text,
                Some(after.desired_replicas),
            ));
        }
        let Some(before) = before else {
            continue;
        };
        for text in conditions(&before.conditions, &after.conditions) {
            entries.push(entry(EntryKind::Condition, text, None));
        }
        if let Some(ready) = after.ready_pods
            && before.ready_pods != after.ready_pods
        {
            let text = format!("{} ready", counted(ready, "pod"));
            entries.push(entry(EntryKind::Ready, text, Some(ready)));
        }
    }
    entries
}

/// Conditions that became something else. `AbleToScale` says at each scaling that it was done,
/// which the scaling says too.
fn conditions(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    let changed = after.iter().filter(|(kind, text)| {
        let was = before.get(*kind);
        let routine = *kind == "AbleToScale" && text.starts_with("True");
        !routine && was.is_none_or(|was| reason(was) != reason(text))
    });
    changed
        .map(|(kind, text)| format!("{kind} is {text}"))
        .collect()
}

/// Status and reason of `True ReadyForNewScale: text`.
fn reason(text: &str) -> &str {
    text.split_once(':').map_or(text, |(reason, _)| reason)
}
