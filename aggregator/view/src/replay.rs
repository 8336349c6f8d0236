//! The syncs of an HPA again, through the controller's arithmetic.

use std::time::Duration;

use autoscaler::{
    Answer, Decision, Hpa, Memory, Metric, Observed, Phase, Pod, Source, Tally, Target, Values,
};

use crate::documents::{Change, Read};
use crate::evidence::Evidence;
use crate::sync::{Sync, changes, is_same_status, syncs};

/// A change of the status that comes later after the last sync is none of it.
const STATUS_MAX_MS: u64 = 60_000;

/// One sync, and what the arithmetic makes of it.
#[derive(Clone, Debug)]
pub(crate) struct Replayed<'a> {
    pub(crate) sync: Sync<'a>,
    /// `spec.replicas` of the target in it.
    pub(crate) replicas: u32,
    /// False if the status of that time is not known, and `replicas` are the pods in the read.
    pub(crate) is_status_known: bool,
    pub(crate) decision: Decision,
    /// The metrics of the HPA that the decision is made of, in the order of its proposals.
    pub(crate) metrics: Vec<usize>,
    /// The status after it.
    pub(crate) after: Option<&'a Change>,
    /// The change of the status that it made.
    pub(crate) made: Option<&'a Change>,
}

// === impl Replayed ===

impl Replayed<'_> {
    /// Replicas by the arithmetic; `None` if by the spec of now the sync had read nothing.
    pub(crate) fn derived(&self) -> Option<u32> {
        if self.decision.proposals.is_empty() {
            return None;
        }
        // What cannot be computed stays.
        Some(self.decision.replicas.unwrap_or(self.replicas))
    }

    /// Replicas that the HPA's status says after it.
    pub(crate) fn observed(&self) -> Option<u32> {
        let after = self.after?;
        let failed = after.conditions.get("ScalingActive").is_some_and(|active| {
            active.starts_with("False") && !active.contains("ScalingDisabled")
        });
        Some(if failed {
            // What is desired is left as it was.
            after.current_replicas
        } else {
            after.desired_replicas
        })
    }
}

/// All syncs of the evidence, the oldest first, each after what the HPA did in those before it.
pub(crate) fn replay<'a>(evidence: &Evidence<'a>) -> Vec<Replayed<'a>> {
    let changes = changes(evidence);
    let syncs = syncs(evidence);
    let mut memory = Memory::default();
    let ends: Vec<u64> = syncs.iter().skip(1).map(|sync| sync.at).collect();
    let mut replayed = Vec::with_capacity(syncs.len());
    for (index, sync) in syncs.into_iter().enumerate() {
        let end = ends.get(index).copied().unwrap_or(u64::MAX);
        let end = end.min(sync.at + STATUS_MAX_MS);
        let (made, before) = status_at(&changes, sync.at, end);
        let after = made.or(before);
        let replicas = after.map_or_else(|| pods_read(&sync), |change| change.current_replicas);
        let ready = before.or(made).and_then(|change| change.ready_pods);
        let metrics: Vec<usize> = (0..sync.reads.len())
            .filter(|index| sync.reads[*index].is_some())
            .collect();
        let decision = decide(evidence.hpa, &mut memory, &sync, replicas, ready);
        replayed.push(Replayed {
            sync,
            replicas,
            is_status_known: after.is_some(),
            decision,
            metrics,
            after,
            made,
        });
        if let Some(last) = replayed.last() {
            remember(evidence.hpa, &mut memory, last);
        }
    }
    replayed
}

/// The first change of the status from `from` to `to`, and the last one before that.
fn status_at<'a>(
    changes: &[&'a Change],
    from: u64,
    to: u64,
) -> (Option<&'a Change>, Option<&'a Change>) {
    let first = changes.partition_point(|change| change.at_unix_ms < from);
    let before = first.checked_sub(1).map(|last| changes[last]);
    let mut last = before;
    for change in &changes[first..] {
        if change.at_unix_ms >= to {
            break;
        }
        // Of a change of the ready pods alone the controller knows nothing.
        if last.is_none_or(|last| !is_same_status(last, change)) {
            return (Some(change), before);
        }
        last = Some(change);
    }
    (None, before)
}

/// Scalings are those that the status shows, where it is known.
fn remember(hpa: &Hpa, memory: &mut Memory, replayed: &Replayed<'_>) {
    let now = Duration::from_millis(replayed.sync.at);
    let to = match (replayed.is_status_known, replayed.made) {
        (true, Some(_)) => replayed.observed(),
        (true, None) => None,
        (false, _) => replayed.derived(),
    };
    if let Some(to) = to {
        hpa.scaled(memory, now, replayed.replicas, to);
    }
}

fn decide(
    hpa: &Hpa,
    memory: &mut Memory,
    sync: &Sync<'_>,
    replicas: u32,
    ready: Option<u32>,
) -> Decision {
    let pods = pods(hpa, replicas, ready.unwrap_or(replicas));
    let known = hpa.metrics.iter().zip(&sync.reads);
    let known: Vec<_> = known
        .filter_map(|(metric, read)| Some((metric.clone(), answer(&metric.source, (*read)?))))
        .collect();
    let (metrics, answers): (Vec<_>, Vec<_>) = known.into_iter().unzip();
    let observed = Observed {
        now: Duration::from_millis(sync.at),
        replicas,
        status_replicas: Some(replicas),
        pods: &pods,
        answers: &answers,
    };
    if metrics.len() == hpa.metrics.len() {
        return hpa.evaluate(memory, &observed);
    }
    // What other servers answer is not known: the decision is made of the others alone.
    let ours = Hpa {
        metrics,
        ..hpa.clone()
    };
    ours.evaluate(memory, &observed)
}

/// The target's pods, of which `ready` are ready: only targets in all look at them.
fn pods(hpa: &Hpa, replicas: u32, ready: u32) -> Vec<Pod> {
    let in_all = |metric: &Metric| matches!(metric.target, Target::Value(_));
    if !hpa.metrics.iter().any(in_all) {
        return Vec::new();
    }
    let pod = |number: u32| Pod {
        ready: number < ready,
        ..Pod::running(number.to_string())
    };
    (0..replicas.max(ready)).map(pod).collect()
}

fn answer(source: &Source, read: &Read) -> Answer {
    let Some(sum) = read.sum_milli else {
        return Err(read.message.clone());
    };
    let sum = i128::from(sum);
    if !matches!(source, Source::Pods { .. }) {
        return Ok(Values::Total(sum));
    }
    let Some(each) = &read.each else {
        // Which of its pods were Pending is not known.
        return Ok(Values::Counted(Tally {
            sum,
            values: i64::from(read.pods),
            ready: i64::from(read.pods),
            missing: read.left_out.values().copied().map(i64::from).sum(),
            ..Tally::default()
        }));
    };
    let mut tally = Tally::default();
    for pod in each {
        let phase = if pod.pending {
            Phase::Pending
        } else {
            Phase::Running
        };
        tally.add(phase, false, pod.value_milli.map(i128::from));
    }
    Ok(Values::Counted(tally))
}

/// Pods in the reads of a sync, for want of a status.
fn pods_read(sync: &Sync<'_>) -> u32 {
    let reads = sync.reads.iter().flatten();
    let counts = reads.map(|read| read.pods + read.left_out.values().sum::<u32>());
    counts.max().unwrap_or_default()
}
