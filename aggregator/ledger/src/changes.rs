//! Changes of the status of HPAs, by namespace and name, bounded in bytes and age.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use aggregator_view::documents::Change;

use crate::limits::KEPT;
use crate::read::millis;

/// Bytes that the tables take for an HPA, and for each text of a condition with its place.
const TABLES_PER_HPA: usize = 192;
const CONDITION_BYTES: usize = 96;

#[derive(Debug)]
pub(crate) struct Changes {
    /// By namespace, then name. Oldest first.
    hpas: BTreeMap<Box<str>, BTreeMap<Box<str>, VecDeque<Stored>>>,
    bytes: usize,
    limit: usize,
    dropped: u64,
}

#[derive(Clone, Debug)]
struct Stored {
    at: u64,
    current: u32,
    desired: u32,
    ready: Option<u32>,
    /// Shared with the change before, as long as they are the same.
    conditions: Arc<BTreeMap<String, String>>,
}

// === impl Changes ===

impl Changes {
    /// For `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            hpas: BTreeMap::new(),
            bytes: 0,
            limit,
            dropped: 0,
        }
    }

    /// Adds a change; one that changes nothing is left out. True if it was added.
    pub(crate) fn add(&mut self, namespace: &str, change: Change) -> bool {
        let now = change.at_unix_ms;
        if !self.hpas.contains_key(namespace) {
            self.hpas.insert(namespace.into(), BTreeMap::new());
        }
        let Some(hpas) = self.hpas.get_mut(namespace) else {
            return false;
        };
        if !hpas.contains_key(&*change.hpa) {
            hpas.insert(change.hpa.as_str().into(), VecDeque::new());
            self.bytes += TABLES_PER_HPA + namespace.len() + change.hpa.len();
        }
        let Some(changes) = hpas.get_mut(&*change.hpa) else {
            return false;
        };
        let stored = Stored::of(change, changes.back());
        if changes.back().is_some_and(|last| last.is_same(&stored)) {
            return false;
        }
        self.bytes += stored.heap(changes.back());
        changes.push_back(stored);
        self.forget(|at| at < now.saturating_sub(u64::from(millis(KEPT))));
        while self.bytes > self.limit {
            let Some(oldest) = self.oldest() else {
                break;
            };
            self.dropped += self.forget(|at| at <= oldest);
        }
        true
    }

    /// Changes of `namespace`, of `hpa` if it is given, from `from` to `to`; the oldest first.
    pub(crate) fn between(
        &self,
        namespace: &str,
        hpa: Option<&str>,
        from: u64,
        to: u64,
    ) -> Vec<Change> {
        let hpas = self.hpas.get(namespace).into_iter().flatten();
        let wanted = hpas.filter(|(name, _)| hpa.is_none_or(|hpa| hpa == &***name));
        let mut changes: Vec<_> = wanted
            .flat_map(|(name, changes)| changes.iter().map(|change| change.document(name)))
            .filter(|change| (from..=to).contains(&change.at_unix_ms))
            .collect();
        changes.sort_by_key(|change| change.at_unix_ms);
        changes
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Changes that gave way, since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Time of the oldest change.
    fn oldest(&self) -> Option<u64> {
        let all = self.hpas.values().flat_map(BTreeMap::values);
        all.filter_map(|changes| Some(changes.front()?.at)).min()
    }

    /// Forgets the first changes of each HPA that are `too_old`; returns how many.
    fn forget(&mut self, too_old: impl Fn(u64) -> bool) -> u64 {
        let mut forgotten = 0;
        let bytes = &mut self.bytes;
        self.hpas.retain(|namespace, hpas| {
            hpas.retain(|name, changes| {
                while changes.front().is_some_and(|change| too_old(change.at)) {
                    if let Some(first) = changes.pop_front() {
                        *bytes -= first.heap(None);
                        // The next one has the conditions alone from now on, if they shared them.
                        *bytes += changes.front().map_or(0, |next| first.shared_with(next));
                        forgotten += 1;
                    }
                }
                if changes.is_empty() {
                    *bytes -= TABLES_PER_HPA + namespace.len() + name.len();
                }
                !changes.is_empty()
            });
            !hpas.is_empty()
        });
        forgotten
    }
}

// === impl Stored ===

impl Stored {
    fn of(change: Change, last: Option<&Self>) -> Self {
        let same = last.filter(|last| *last.conditions == change.conditions);
        Self {
            at: change.at_unix_ms,
            current: change.current_replicas,
            desired: change.desired_replicas,
            ready: change.ready_pods,
            conditions: match same {
                Some(last) => Arc::clone(&last.conditions),
                None => Arc::new(change.conditions),
            },
        }
    }

    fn is_same(&self, next: &Self) -> bool {
        (self.current, self.desired, self.ready) == (next.current, next.desired, next.ready)
            && Arc::ptr_eq(&self.conditions, &next.conditions)
    }

    /// Bytes that it takes behind `last`.
    fn heap(&self, last: Option<&Self>) -> usize {
        let conditions = self.conditions_heap();
        let shared = last.map_or(0, |last| last.shared_with(self));
        // A queue may be half empty.
        2 * size_of::<Self>() + conditions - shared
    }

    fn shared_with(&self, next: &Self) -> usize {
        if Arc::ptr_eq(&self.conditions, &next.conditions) {
            self.conditions_heap()
        } else {
            0
        }
    }

    fn conditions_heap(&self) -> usize {
        let texts = self.conditions.iter();
        texts
            .map(|(kind, text)| CONDITION_BYTES + kind.len() + text.len())
            .sum()
    }

    fn document(&self, hpa: &str) -> Change {
        Change {
            at_unix_ms: self.at,
            hpa: hpa.to_owned(),
            current_replicas: self.current,
            desired_replicas: self.desired,
            ready_pods: self.ready,
            conditions: (*self.conditions).clone(),
        }
    }
}
