//! Labels in the directory, shared between pods: single texts and whole sets.

use std::collections::HashSet;
use std::sync::Arc;

use aggregator_core::pod::Labels;

/// Labels of one or more pods, sorted by key.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct LabelSet {
    labels: Box<[(Arc<str>, Arc<str>)]>,
}

/// Interned texts of all label sets.
#[derive(Debug, Default)]
pub(super) struct Texts {
    texts: HashSet<Arc<str>>,
}

// === impl LabelSet ===

impl LabelSet {
    pub(super) fn new(labels: &Labels, texts: &mut Texts) -> Self {
        let labels = labels
            .iter()
            .map(|(key, value)| (texts.share(key), texts.share(value)));
        Self {
            labels: labels.collect(),
        }
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        let found = self
            .labels
            .binary_search_by(|(known, _)| (**known).cmp(key));
        found.ok().map(|index| &*self.labels[index].1)
    }

    /// True if every label of `selector`, that of a service, is here with the same value.
    pub(super) fn satisfies(&self, selector: &Self) -> bool {
        selector
            .pairs()
            .all(|(key, value)| self.get(key) == Some(value))
    }

    /// Every label, sorted by key.
    pub(super) fn pairs(&self) -> std::slice::Iter<'_, (Arc<str>, Arc<str>)> {
        self.labels.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    pub(super) fn to_labels(&self) -> Labels {
        let owned = |(key, value): &(Arc<str>, Arc<str>)| (key.to_string(), value.to_string());
        self.labels.iter().map(owned).collect()
    }
}

// === impl Texts ===

impl Texts {
    fn share(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let text: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&text));
        text
    }

    /// Drops a set, and those of its texts that no other set uses.
    pub(super) fn release(&mut self, set: Arc<LabelSet>) {
        let Some(set) = Arc::into_inner(set) else {
            return;
        };
        for text in set.labels.into_iter().flat_map(|(key, value)| [key, value]) {
            // One reference here, one in `texts`.
            if Arc::strong_count(&text) == 2 {
                self.texts.remove(&text);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }
}
