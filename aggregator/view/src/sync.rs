//! The syncs of an HPA, as its reads and the changes of its status show them.

use autoscaler::Hpa;

use crate::computed::index_of;
use crate::documents::{Change, Read};
use crate::evidence::Evidence;

/// Reads further apart belong to different syncs. The controller asks for one metric after the
/// other, each within its client's deadline.
const SYNC_MAX_MS: u64 = 60_000;

/// The same change, seen by another replica of the aggregator, comes within this time.
const ECHO_MAX_MS: u64 = 2_000;

/// One sync: a read of each metric that we answer.
#[derive(Clone, Debug)]
pub(crate) struct Sync<'a> {
    /// Time of the first read.
    pub(crate) at: u64,
    /// For each metric of the HPA.
    pub(crate) reads: Vec<Option<&'a Read>>,
}

/// The syncs, the oldest first. The controller asks for the metrics in their order, so a read of
/// one that is not after the last one begins a new sync.
pub(crate) fn syncs<'a>(evidence: &Evidence<'a>) -> Vec<Sync<'a>> {
    let hpa = evidence.hpa;
    let mut syncs: Vec<Sync<'a>> = Vec::new();
    let mut last = 0;
    for (index, read) in of_metrics(hpa, evidence.reads) {
        let open = syncs
            .last_mut()
            .filter(|sync| index > last && read.at_unix_ms < sync.at + SYNC_MAX_MS);
        if let Some(sync) = open {
            sync.reads[index] = Some(read);
        } else {
            let mut reads = vec![None; hpa.metrics.len()];
            reads[index] = Some(read);
            let at = read.at_unix_ms;
            syncs.push(Sync { at, reads });
        }
        last = index;
    }
    syncs
}

/// The reads of the HPA, each with the index of its metric.
fn of_metrics<'a>(hpa: &'a Hpa, reads: &'a [Read]) -> impl Iterator<Item = (usize, &'a Read)> {
    let own = reads.iter().filter(|read| read.hpa == hpa.name);
    own.filter_map(|read| {
        // An external metric has one selector, which is asked for as the label selector.
        let selector = if read.object == "external" && read.metric_selector.is_empty() {
            &read.selector
        } else {
            &read.metric_selector
        };
        let index = index_of(hpa, &read.metric, &read.object, selector)?;
        Some((index, read))
    })
}

/// The changes of the HPA, the oldest first, each once.
pub(crate) fn changes<'a>(evidence: &Evidence<'a>) -> Vec<&'a Change> {
    let own = evidence.changes.iter();
    let mut own: Vec<_> = own
        .filter(|change| change.hpa == evidence.hpa.name)
        .collect();
    own.sort_by_key(|change| change.at_unix_ms);
    let mut each: Vec<&Change> = Vec::new();
    for change in own {
        let recent = each
            .iter()
            .rev()
            .take_while(|seen| seen.at_unix_ms + ECHO_MAX_MS >= change.at_unix_ms);
        let is_echo = recent.into_iter().any(|seen| is_same(seen, change));
        if !is_echo {
            each.push(change);
        }
    }
    each
}

fn is_same(one: &Change, other: &Change) -> bool {
    one.ready_pods == other.ready_pods && is_same_status(one, other)
}

/// Whether both have the same status, whichever pods are ready.
pub(crate) fn is_same_status(one: &Change, other: &Change) -> bool {
    one.current_replicas == other.current_replicas
        && one.desired_replicas == other.desired_replicas
        && one.conditions == other.conditions
}

/// The changes that a scaling made: of those that differ in nothing but ready pods, the first.
pub(crate) fn scalings<'a>(changes: &[&'a Change]) -> impl Iterator<Item = &'a Change> {
    let before = std::iter::once(None).chain(changes.iter().copied().map(Some));
    let pairs = before.zip(changes.iter().copied());
    pairs
        .filter(|(before, after)| before.is_none_or(|before| !is_same_status(before, after)))
        .map(|(_, after)| after)
        .filter(|change| change.current_replicas != change.desired_replicas)
}
