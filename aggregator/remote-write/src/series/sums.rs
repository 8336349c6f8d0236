//! Running totals of all pods of a service: what they counted while we looked, added up.
//!
//! A pod that leaves takes nothing with it, and one that is seen for the first time brings only
//! what it counted since we look: so a sum never falls, and never leaps by what was counted before.
//!
//! A process that goes on with the checkpoint of the one before it may for a moment know less of a
//! pod than that one did. What it hears that was heard before therefore adds nothing: totals lower
//! than the last, and instances that were replaced.

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

/// How long a sum and what a pod had last are remembered, in milliseconds.
const REMEMBERED_MS: i64 = 60 * 60 * 1000;

/// Instances of a pod that are remembered after others took their place.
const FORMER_MAX: usize = 16;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sums {
    totals: BTreeMap<Id, Sum>,
    pods: HashMap<PodKey, Last>,
    /// What began later is counted from 0.
    since: UnixMillis,
    /// The last flush, in Unix milliseconds; `None` before the first.
    at: Option<i64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sum {
    total: u64,
    /// The last flush that something was added in, if only 0.
    at: i64,
    /// False until it is in a flush of ours.
    written: bool,
}

/// What a pod had last.
#[derive(Clone, Debug, Default, PartialEq)]
struct Last {
    instances: Vec<InstanceId>,
    /// Instances that were the pod's before, the newest last.
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

impl Last {
    /// Notes the instances that totals are of now. Others than before began at 0, even if they have
    /// more by now; false if they were replaced already, and tell nothing new.
    fn is_news(&mut self, instances: &[InstanceId]) -> bool {
        let among =
            |known: &[InstanceId]| instances.iter().any(|instance| known.contains(instance));
        if !among(&self.instances) {
            if among(&self.former) {
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
    /// Sums of 0 that count since `since`.
    pub(super) fn new(since: UnixMillis) -> Self {
        Self {
            totals: BTreeMap::new(),
            pods: HashMap::new(),
            since,
            at: None,
        }
    }

    /// Adds what the pod counted since it was last seen; one that was not is counted from 0 if it
    /// `began` since we look. `group` is the owner of its sums.
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
        // What began before we would have forgotten it may have been counted already.
        let began_lately = |began: UnixMillis| {
            let age = at.saturating_sub_unsigned(began.0);
            began > self.since && age < REMEMBERED_MS
        };
        let counts = known || began.is_some_and(began_lately);
        let last = self.pods.entry(pod.key.clone()).or_default();
        last.at = at;
        let news = last.is_news(&pod.instances);
        for (key, part, total) in totals {
            let before = last.totals.entry((key.clone(), part));
            let increment = match before {
                Entry::Occupied(mut before) => {
                    let told = *before.get();
                    before.insert(if news { told.max(total) } else { told });
                    if news { total.saturating_sub(told) } else { 0 }
                }
                Entry::Vacant(_) if !news => 0,
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

    /// The sums that something was added to at `at`, if only 0, and whether they are told for the
    /// first time.
    pub(super) fn of_flush(&mut self, at: i64) -> impl Iterator<Item = (&Id, u64, bool)> {
        let current = self.totals.iter_mut().filter(move |(_, sum)| sum.at == at);
        current.map(|(id, sum)| (id, sum.total, !std::mem::replace(&mut sum.written, true)))
    }

    /// The flush of `at` is whole: forgets what was not seen for [`REMEMBERED_MS`].
    pub(super) fn end_flush(&mut self, at: i64) {
        self.at = Some(at);
        self.totals.retain(|_, sum| at - sum.at < REMEMBERED_MS);
        self.pods.retain(|_, last| at - last.at < REMEMBERED_MS);
    }
}
