//! Sums over the pods of a service: their increments since this process started, added up.
//!
//! A pod that leaves takes nothing away, and a new one adds only what it counted since the start:
//! so a sum never falls, and never jumps by what was counted before.
//!
//! A process that resumes from a checkpoint may at first receive older totals of a pod than those
//! in it. So totals lower than the last, and those of replaced instances, add nothing.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use aggregator_core::pod::PodKey;
use aggregator_core::report::InstanceId;
use aggregator_core::series::SeriesKey;
use common_time::UnixMillis;

use super::naming::{Id, Owner, Part};

mod checkpoint;

#[cfg(test)]
mod tests;

/// How long sums and the last totals of a pod are kept, in milliseconds.
const REMEMBERED_MS: i64 = 60 * 60 * 1000;

/// Replaced instances kept per pod.
const FORMER_MAX: usize = 16;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sums {
    totals: BTreeMap<Id, Sum>,
    pods: HashMap<PodKey, PodTotals>,
    /// Counters that began later are counted from 0.
    since: UnixMillis,
    /// The last flush, in Unix milliseconds; `None` before the first.
    at: Option<i64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sum {
    total: u64,
    /// The last flush with a pod of this sum.
    at: i64,
    /// True once it was in a flush of this process or of its checkpoint.
    written: bool,
}

/// The last totals of a pod.
#[derive(Clone, Debug, Default, PartialEq)]
struct PodTotals {
    instances: Vec<InstanceId>,
    /// Replaced instances, the newest last.
    former: Vec<InstanceId>,
    totals: HashMap<(SeriesKey, Part), u64>,
    at: i64,
}

// === impl Sum ===

impl Sum {
    fn add(&mut self, at: i64, increment: u64) {
        self.total += increment;
        self.at = at;
    }
}

// === impl Last ===

impl PodTotals {
    /// Records the instances of the current totals. New instances began at 0. False if they were
    /// replaced before: then their totals are old.
    fn accept(&mut self, instances: &[InstanceId]) -> bool {
        let contains_any =
            |known: &[InstanceId]| instances.iter().any(|instance| known.contains(instance));
        if !contains_any(&self.instances) {
            if contains_any(&self.former) {
                return false;
            }
            self.totals.clear();
            self.former.append(&mut self.instances);
            let spare = self.former.len().saturating_sub(FORMER_MAX);
            self.former.drain(..spare);
        }
        self.instances = instances.to_vec();
        true
    }
}

// === impl Sums ===

impl Sums {
    /// Empty sums.
    pub(super) fn new(since: UnixMillis) -> Self {
        Self {
            totals: BTreeMap::new(),
            pods: HashMap::new(),
            since,
            at: None,
        }
    }

    /// Adds the increments of the pod since its last totals; a new pod is counted from 0 if it
    /// `began` after the start. `group` is the owner of its sums.
    pub(super) fn add(
        &mut self,
        at: i64,
        pod: &super::PodStatus,
        began: Option<UnixMillis>,
        group: &Owner,
        totals: impl Iterator<Item = (SeriesKey, Part, u64)>,
    ) {
        if pod.instances.is_empty() {
            return;
        }
        let known = self.pods.contains_key(&pod.key);
        // An older pod may have been counted already, and been forgotten since.
        let began_lately = |began: UnixMillis| {
            let age = at.saturating_sub_unsigned(began.0);
            began > self.since && age < REMEMBERED_MS
        };
        let counts = known || began.is_some_and(began_lately);
        let last = self.pods.entry(pod.key.clone()).or_default();
        last.at = at;
        let accepted = last.accept(&pod.instances);
        for (key, part, total) in totals {
            let before = last.totals.entry((key.clone(), part));
            let increment = match before {
                Entry::Occupied(mut before) => {
                    let previous = *before.get();
                    before.insert(if accepted {
                        previous.max(total)
                    } else {
                        previous
                    });
                    if accepted {
                        total.saturating_sub(previous)
                    } else {
                        0
                    }
                }
                Entry::Vacant(_) if !accepted => 0,
                Entry::Vacant(before) => {
                    before.insert(total);
                    if counts { total } else { 0 }
                }
            };
            let owner = group.clone();
            let key = Some(key);
            let id = Id { owner, key, part };
            self.totals.entry(id).or_default().add(at, increment);
        }
    }

    /// The sums with a pod in the flush at `at`, and whether they are written for the first time.
    pub(super) fn of_flush(&mut self, at: i64) -> impl Iterator<Item = (&Id, u64, bool)> {
        let current = self.totals.iter_mut().filter(move |(_, sum)| sum.at == at);
        current.map(|(id, sum)| (id, sum.total, !std::mem::replace(&mut sum.written, true)))
    }

    /// Ends the flush at `at`: removes sums and pods absent for [`REMEMBERED_MS`].
    pub(super) fn end_flush(&mut self, at: i64) {
        self.at = Some(at);
        self.totals.retain(|_, sum| at - sum.at < REMEMBERED_MS);
        self.pods.retain(|_, last| at - last.at < REMEMBERED_MS);
    }
}
