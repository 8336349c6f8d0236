//! Why an HPA had as many replicas as it had at a time.
//!
//! ```text
//! reads ──> syncs ─┐
//! changes ─────────┴─> replay through autoscaler::Hpa ──> the sync asked for ──> sentences
//! ```

mod outlook;
mod reading;
mod verdict;

use autoscaler::{Decision, Memory, Observed, Proposal};

use crate::documents::{Change, Explanation, MetricExplanation, Step};
use crate::evidence::Evidence;
use crate::replay::{Replayed, replay};
use crate::sync::changes;
use crate::text::{clock, date_time, duration, replicas};
use crate::{GROUP, VERSION};

/// Why there is no explanation.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unexplained {
    /// The ledger does not reach back to the time asked for.
    #[error(
        "reads of the HPA {hpa} are known since {since} only; the time asked for is {at}. Ask for a later time"
    )]
    BeforeLedger {
        hpa: String,
        /// Both in UTC.
        at: String,
        since: String,
    },
    /// No replica of the aggregator has a read yet.
    #[error(
        "no read of any autoscaler is known at {at}: the ledger of reads is empty. Ask again after the next sync of the HPA {hpa}"
    )]
    NoRead { hpa: String, at: String },
}

/// A read that is this much older than the time asked for is not the one before it.
const RECENT_MAX_MS: u64 = 120_000;

/// Explains the last sync at or before `at_unix_ms`. It needs the reads and changes of
/// [`Hpa::reach`](autoscaler::Hpa::reach) before it, a sync before that, and those of the minute
/// after it.
pub fn explain(evidence: &Evidence<'_>, at_unix_ms: u64) -> Result<Explanation, Unexplained> {
    let replayed = replay(evidence);
    let last = replayed.iter().rfind(|sync| sync.sync.at <= at_unix_ms);
    check_reach(evidence, last, at_unix_ms)?;
    let changes = changes(evidence);
    let mut explanation = head(evidence, at_unix_ms);
    if let Some(change) = without_read(evidence, &changes, last, at_unix_ms) {
        of_change(evidence, change, &mut explanation);
    } else if let Some(last) = last {
        of_sync(evidence, &replayed, last, &mut explanation);
    } else {
        of_nothing(evidence, &changes, at_unix_ms, &mut explanation);
    }
    verdict::nearest_scaling(&changes, at_unix_ms, &mut explanation);
    verdict::missing_replicas(evidence, &mut explanation);
    let unknown = explanation.unknown.clone();
    explanation.sentences.extend(unknown);
    Ok(explanation)
}

fn check_reach(
    evidence: &Evidence<'_>,
    last: Option<&Replayed<'_>>,
    at_unix_ms: u64,
) -> Result<(), Unexplained> {
    if last.is_some() {
        return Ok(());
    }
    let (hpa, at) = (evidence.hpa.name.clone(), date_time(at_unix_ms));
    let of_replicas = evidence.replicas.iter().filter_map(|own| own.since_unix_ms);
    let of_reads = evidence.reads.first().map(|read| read.at_unix_ms);
    let Some(since) = of_replicas.min().or(of_reads) else {
        return Err(Unexplained::NoRead { hpa, at });
    };
    if at_unix_ms < since {
        let since = date_time(since);
        return Err(Unexplained::BeforeLedger { hpa, at, since });
    }
    Ok(())
}

fn head(evidence: &Evidence<'_>, at_unix_ms: u64) -> Explanation {
    let hpa = evidence.hpa;
    Explanation {
        kind: "Explanation".to_owned(),
        api_version: format!("{GROUP}/{VERSION}"),
        namespace: hpa.namespace.clone(),
        hpa: hpa.name.clone(),
        at_unix_ms,
        target: format!("{}/{}", hpa.target.kind, hpa.target.name),
        min_replicas: hpa.min,
        max_replicas: hpa.max,
        replicas: evidence.replicas.to_vec(),
        ..Explanation::default()
    }
}

/// The status after the last sync, if it is one in which the controller reads no metric: too many
/// replicas, too few, or none.
fn without_read<'a>(
    evidence: &Evidence<'_>,
    changes: &[&'a Change],
    last: Option<&Replayed<'_>>,
    at_unix_ms: u64,
) -> Option<&'a Change> {
    let change = changes
        .iter()
        .rfind(|change| change.at_unix_ms <= at_unix_ms)?;
    let hpa = evidence.hpa;
    let here = change.current_replicas;
    let reads_none = here > hpa.max || here < hpa.min || here == 0;
    let is_later = last.is_none_or(|last| {
        last.made
            .is_none_or(|made| made.at_unix_ms < change.at_unix_ms)
            && last.sync.at < change.at_unix_ms
    });
    (reads_none && is_later).then_some(*change)
}

/// A sync without a read.
fn of_change(evidence: &Evidence<'_>, change: &Change, explanation: &mut Explanation) {
    let mut memory = Memory::default();
    let observed = Observed {
        now: std::time::Duration::from_millis(change.at_unix_ms),
        replicas: change.current_replicas,
        status_replicas: None,
        pods: &[],
        answers: &[],
    };
    let decision = evidence.hpa.evaluate(&mut memory, &observed);
    explanation.current_replicas = Some(change.current_replicas);
    explanation.derived_replicas = decision.replicas;
    explanation.observed_replicas = Some(change.desired_replicas);
    explanation.change = Some(change.clone());
    explanation.limits = decision.limits.iter().map(step).collect();
    let (here, to) = (change.current_replicas, change.desired_replicas);
    let first = first_sentence(evidence, change.at_unix_ms, (here, to), &explanation.target);
    explanation.sentences.push(first);
    let limits = decision.limits.iter().map(ToString::to_string);
    explanation.sentences.extend(limits);
    verdict::compare(evidence, explanation);
}

/// The HPA read nothing, though its reads would be known.
fn of_nothing(
    evidence: &Evidence<'_>,
    changes: &[&Change],
    at_unix_ms: u64,
    explanation: &mut Explanation,
) {
    let before = changes
        .iter()
        .rfind(|change| change.at_unix_ms <= at_unix_ms);
    explanation.current_replicas = before.map(|change| change.current_replicas);
    explanation.observed_replicas = before.map(|change| change.desired_replicas);
    explanation.change = before.map(|change| (*change).clone());
    let target = &explanation.target;
    let ours = evidence.ours.iter().any(|ours| *ours);
    let first = format!(
        "At {} the HPA {} ({target}, {} to {} replicas) had read nothing from meshmeter.",
        date_time(at_unix_ms),
        evidence.hpa.name,
        evidence.hpa.min,
        evidence.hpa.max
    );
    explanation.sentences.push(first);
    let metrics = evidence.hpa.metrics.iter().zip(evidence.ours);
    for (metric, ours) in metrics {
        let own = reading::unread(metric, *ours);
        explanation.sentences.push(own.sentence);
        explanation.metrics.push(own.explanation);
    }
    if let Some(change) = before {
        explanation.sentences.push(format!(
            "The last change of its status before that was at {}: {}.",
            date_time(change.at_unix_ms),
            status(change)
        ));
        if verdict::failing_condition(change, explanation) {
            return;
        }
    }
    let why = if ours {
        "Why it read nothing is not known here: it asks only if it is in force and its target and selectors are valid."
    } else {
        "None of its metrics is answered by meshmeter, so its replicas cannot be derived here."
    };
    explanation.unknown.push(why.to_owned());
}

fn status(change: &Change) -> String {
    let (here, desired) = (change.current_replicas, change.desired_replicas);
    if here == desired || desired == 0 {
        return replicas(here);
    }
    format!("from {here} to {}", replicas(desired))
}

fn of_sync(
    evidence: &Evidence<'_>,
    all: &[Replayed<'_>],
    sync: &Replayed<'_>,
    explanation: &mut Explanation,
) {
    let hpa = evidence.hpa;
    explanation.current_replicas = Some(sync.replicas);
    explanation.derived_replicas = sync.derived();
    explanation.observed_replicas = sync.observed();
    explanation.change = sync.made.cloned();
    let limits: &[autoscaler::Step] = if explanation.derived_replicas.is_some() {
        &sync.decision.limits
    } else {
        explanation.unknown.push(format!(
            "By the HPA's spec of now it would have read nothing with {}: the spec was changed since, so its replicas cannot be derived.",
            replicas(sync.replicas)
        ));
        &[]
    };
    explanation.limits = limits.iter().map(step).collect();
    let (at, asked) = (sync.sync.at, explanation.at_unix_ms);
    let to = sync.observed().or(sync.derived()).unwrap_or(sync.replicas);
    let first = first_sentence(evidence, at, (sync.replicas, to), &explanation.target);
    explanation.sentences.push(first);
    if asked > at + RECENT_MAX_MS {
        explanation.sentences.push(format!(
            "That was its last read before {}: for {} it has read nothing from meshmeter.",
            clock(asked),
            duration(asked - at)
        ));
    }
    for (index, (metric, ours)) in hpa.metrics.iter().zip(evidence.ours).enumerate() {
        let read = sync.sync.reads[index];
        let own = match read {
            Some(read) => reading::read(metric, read, proposal(sync, index)),
            None => reading::unread(metric, *ours),
        };
        explanation
            .unknown
            .extend(reading::unknown(metric, read, *ours));
        explanation.sentences.push(own.sentence);
        explanation.sentences.extend(own.further);
        explanation.metrics.push(own.explanation);
    }
    let limits = limits.iter().map(ToString::to_string);
    explanation.sentences.extend(limits);
    if !sync.is_status_known {
        explanation.unknown.push(format!(
            "The HPA's status at that time is not known; that there were {} is taken from the pods that were read.",
            replicas(sync.replicas)
        ));
    }
    verdict::compare(evidence, explanation);
    verdict::reach(evidence, all, sync, explanation);
    outlook::add(evidence, sync, explanation);
}

fn first_sentence(
    evidence: &Evidence<'_>,
    at: u64,
    (here, to): (u32, u32),
    target: &str,
) -> String {
    let hpa = evidence.hpa;
    let went = if here == to {
        format!("stayed at {}", replicas(here))
    } else {
        format!("went from {here} to {}", replicas(to))
    };
    format!(
        "In its sync at {} the HPA {} ({target}, {} to {} replicas) {went}.",
        date_time(at),
        hpa.name,
        hpa.min,
        hpa.max
    )
}

/// What `index` of the HPA's metrics wanted, or why nothing.
fn proposal<'a>(
    sync: &'a Replayed<'_>,
    index: usize,
) -> Option<&'a Result<Proposal, autoscaler::Failure>> {
    let Decision { proposals, .. } = &sync.decision;
    let place = sync.metrics.iter().position(|own| *own == index)?;
    proposals.get(place)
}

fn step(step: &autoscaler::Step) -> Step {
    Step {
        text: step.to_string(),
        replicas: step.replicas(),
    }
}

/// A metric in an explanation, and its sentences.
struct Explained {
    explanation: MetricExplanation,
    sentence: String,
    further: Vec<String>,
}
