//! How soon a step in load was read, decided on, and served by ready pods.

use std::cmp::Ordering;

use crate::documents::{Change, Reaction, Read};
use crate::evidence::Evidence;
use crate::replay::Replayed;
use crate::sync::scalings;

/// Syncs in a row that want the same direction.
struct Run<'a> {
    direction: Ordering,
    /// Data before it that shows no step ends here.
    calm_until: Option<u64>,
    first: &'a Read,
    /// From the first of its syncs to the next one after it.
    from: u64,
    to: u64,
}

/// A reaction for each run of syncs that want another number of replicas, if the HPA scaled.
pub(super) fn reactions(
    evidence: &Evidence<'_>,
    replayed: &[Replayed<'_>],
    changes: &[&Change],
) -> Vec<Reaction> {
    let runs = runs(evidence, replayed);
    runs.iter()
        .filter_map(|run| reaction(run, changes))
        .collect()
}

fn runs<'a>(evidence: &Evidence<'_>, replayed: &[Replayed<'a>]) -> Vec<Run<'a>> {
    let mut runs: Vec<Run<'a>> = Vec::new();
    let mut is_open = false;
    let mut calm_until = None;
    for sync in replayed {
        let direction = direction(evidence, sync);
        let Some(read) = sync.sync.reads.iter().flatten().next().copied() else {
            continue;
        };
        let open = runs.last_mut().filter(|_| is_open);
        match (direction, open) {
            (None | Some(Ordering::Equal), open) => {
                if let Some(open) = open {
                    open.to = sync.sync.at;
                }
                is_open = false;
            }
            (Some(direction), Some(open)) if open.direction == direction => {}
            (Some(direction), open) => {
                if let Some(open) = open {
                    open.to = sync.sync.at;
                }
                runs.push(Run {
                    direction,
                    calm_until,
                    first: read,
                    from: sync.sync.at,
                    to: u64::MAX,
                });
                is_open = true;
            }
        }
        calm_until = Some(data_end(read));
    }
    runs
}

/// Which way the metrics of a sync want to go; `None` if no one wants anything.
fn direction(evidence: &Evidence<'_>, sync: &Replayed<'_>) -> Option<Ordering> {
    let proposals = sync.decision.proposals.iter();
    let wanted = proposals
        .filter_map(|own| own.as_ref().ok())
        .map(|own| own.replicas);
    let wanted = wanted
        .max()?
        .clamp(evidence.hpa.min, evidence.hpa.max.max(evidence.hpa.min));
    Some(wanted.cmp(&sync.replicas))
}

fn reaction(run: &Run<'_>, changes: &[&Change]) -> Option<Reaction> {
    let scalings: Vec<&Change> = scalings(changes)
        .filter(|change| (run.from..run.to).contains(&change.at_unix_ms))
        .filter(|change| change.desired_replicas.cmp(&change.current_replicas) == run.direction)
        .collect();
    let (first, last) = (scalings.first()?, scalings.last()?);
    let target = last.desired_replicas;
    let ready = changes
        .iter()
        .filter(|change| change.at_unix_ms >= last.at_unix_ms)
        .find(|change| {
            change
                .ready_pods
                .is_some_and(|ready| is_served(run, ready, target))
        });
    let step = step(run)?;
    Some(Reaction {
        step_unix_ms: step,
        from_replicas: first.current_replicas,
        to_replicas: target,
        read_ms: Some(run.first.at_unix_ms.saturating_sub(step)),
        decision_ms: Some(first.at_unix_ms.saturating_sub(step)),
        ready_ms: ready.map(|change| change.at_unix_ms.saturating_sub(step)),
    })
}

fn is_served(run: &Run<'_>, ready: u32, target: u32) -> bool {
    match run.direction {
        Ordering::Greater => ready >= target,
        _ => ready <= target,
    }
}

/// When the step was. A window never reaches back over a step, so that it was at the beginning of
/// the first window that shows it, or somewhat before; and the read before that did not show it.
/// `None` without such a read.
fn step(run: &Run<'_>) -> Option<u64> {
    let window_start = data_end(run.first).saturating_sub(run.first.window_ms);
    Some(window_start.max(run.calm_until?))
}

/// The end of the oldest value in a read.
fn data_end(read: &Read) -> u64 {
    read.at_unix_ms.saturating_sub(read.age_ms)
}
