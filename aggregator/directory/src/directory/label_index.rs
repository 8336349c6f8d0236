//! Index of one namespace's serving pods by their labels.
//!
//! Pods with the same labels form a group, since a selector treats them alike: the pods of a
//! `ReplicaSet` are one group, each pod of a `StatefulSet`, with its name as a label, its own.
//! Groups are indexed by each of their labels, so that a selector with an equality checks only
//! groups that satisfy it.
//!
//! Invariant: `ids`, `groups` and `by_label` have the same groups, and no group is empty.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::directory::label_set::LabelSet;

#[derive(Debug, Default)]
pub(super) struct LabelIndex {
    ids: BTreeMap<Arc<LabelSet>, GroupId>,
    groups: BTreeMap<GroupId, Group>,
    by_label: HashMap<Arc<str>, HashMap<Arc<str>, BTreeSet<GroupId>>>,
    next: GroupId,
}

/// Never reused.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
struct GroupId(u64);

/// Pods with the same labels.
#[derive(Debug)]
struct Group {
    labels: Arc<LabelSet>,
    names: BTreeSet<Arc<str>>,
}

// === impl LabelIndex ===

impl LabelIndex {
    /// The equal set of a group if there is one, else `labels` itself.
    pub(super) fn share(&self, labels: LabelSet) -> Arc<LabelSet> {
        match self.ids.get_key_value(&labels) {
            Some((known, _)) => Arc::clone(known),
            None => Arc::new(labels),
        }
    }

    pub(super) fn add(&mut self, labels: &Arc<LabelSet>, name: Arc<str>) {
        let id = match self.ids.get(labels) {
            Some(id) => *id,
            None => self.begin(labels),
        };
        if let Some(group) = self.groups.get_mut(&id) {
            group.names.insert(name);
        }
    }

    fn begin(&mut self, labels: &Arc<LabelSet>) -> GroupId {
        let id = self.next;
        self.next = GroupId(id.0 + 1);
        self.ids.insert(Arc::clone(labels), id);
        for (key, value) in labels.pairs() {
            let values = self.by_label.entry(Arc::clone(key)).or_default();
            values.entry(Arc::clone(value)).or_default().insert(id);
        }
        let group = Group {
            labels: Arc::clone(labels),
            names: BTreeSet::new(),
        };
        self.groups.insert(id, group);
        id
    }

    pub(super) fn remove(&mut self, labels: &Arc<LabelSet>, name: &str) {
        let Some(id) = self.ids.get(labels).copied() else {
            return;
        };
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        group.names.remove(name);
        if group.names.is_empty() {
            self.end(id, labels);
        }
    }

    fn end(&mut self, id: GroupId, labels: &Arc<LabelSet>) {
        self.ids.remove(labels);
        self.groups.remove(&id);
        for (key, value) in labels.pairs() {
            let Some(values) = self.by_label.get_mut(key) else {
                continue;
            };
            if let Some(ids) = values.get_mut(value) {
                ids.remove(&id);
                if ids.is_empty() {
                    values.remove(value);
                }
            }
            if values.is_empty() {
                self.by_label.remove(key);
            }
        }
    }

    /// Names of pods that have every label of `equals` and whose labels satisfy `matches`,
    /// unsorted.
    pub(super) fn select<'a>(
        &self,
        equals: impl IntoIterator<Item = (&'a str, &'a str)>,
        matches: impl Fn(&LabelSet) -> bool,
    ) -> Vec<Arc<str>> {
        // The rarest label leaves the fewest groups to check; `matches` checks the others.
        let mut fewest: Option<&BTreeSet<GroupId>> = None;
        for (key, value) in equals {
            let Some(ids) = self.by_label.get(key).and_then(|values| values.get(value)) else {
                return Vec::new();
            };
            if fewest.is_none_or(|fewest| ids.len() < fewest.len()) {
                fewest = Some(ids);
            }
        }
        let names = |group: &Group| group.names.iter().cloned().collect::<Vec<_>>();
        let satisfies = |group: &&Group| matches(&group.labels);
        let Some(ids) = fewest else {
            let groups = self.groups.values();
            return groups.filter(satisfies).flat_map(names).collect();
        };
        let groups = ids.iter().filter_map(|id| self.groups.get(id));
        groups.filter(satisfies).flat_map(names).collect()
    }
}
