//! Index of the pods that call each upstream cluster: finds the demand for a service without pods.
//!
//! A pod's entries are replaced when it reports a new series and removed when it is forgotten. So
//! an entry may outlive its series, but every series has one unless a limit was reached, which is
//! counted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::RwLock;

use crate::limits::{CALLED_CLUSTERS_MAX, CALLERS_MAX};
use crate::pod::PodKey;
use crate::series::Direction;
use crate::store::pod_record::PodRecord;

#[derive(Debug, Default)]
pub(super) struct Callers {
    /// Locked for one change or one copy.
    index: RwLock<Index>,
}

#[derive(Debug, Default)]
struct Index {
    callers: BTreeMap<Arc<str>, BTreeSet<PodKey>>,
    called: HashMap<PodKey, Vec<Arc<str>>>,
    pairs: usize,
}

// === impl PodRecord ===

impl PodRecord {
    pub(super) fn called_clusters(&self) -> Vec<Arc<str>> {
        let series = self.instances.iter().flat_map(|i| &i.series);
        let called = series.filter(|(key, _)| key.direction == Direction::Outbound);
        called.map(|(key, _)| Arc::clone(&key.cluster)).collect()
    }
}

// === impl Callers ===

impl Callers {
    /// Replaces the clusters that `pod` calls; returns how many exceeded a limit.
    pub(super) fn set(&self, pod: &PodKey, clusters: &[Arc<str>]) -> usize {
        let mut index = self.index.write();
        for cluster in index.called.remove(pod).unwrap_or_default() {
            index.remove(pod, &cluster);
        }
        let mut taken = Vec::with_capacity(clusters.len());
        for cluster in clusters {
            if index.add(pod, cluster) {
                taken.push(Arc::clone(cluster));
            }
        }
        let refused = clusters.len() - taken.len();
        if !taken.is_empty() {
            index.called.insert(pod.clone(), taken);
        }
        refused
    }

    pub(super) fn clusters(&self) -> Vec<Arc<str>> {
        let index = self.index.read();
        index.callers.keys().cloned().collect()
    }

    pub(super) fn of(&self, cluster: &str) -> Vec<PodKey> {
        let index = self.index.read();
        let callers = index.callers.get(cluster);
        callers.into_iter().flatten().cloned().collect()
    }
}

// === impl Index ===

impl Index {
    fn add(&mut self, pod: &PodKey, cluster: &Arc<str>) -> bool {
        let known = self.callers.get_mut(cluster);
        if known.as_ref().is_some_and(|pods| pods.contains(pod)) {
            return true;
        }
        let full = self.pairs >= CALLERS_MAX
            || known.is_none() && self.callers.len() >= CALLED_CLUSTERS_MAX;
        if full {
            return false;
        }
        let callers = self.callers.entry(Arc::clone(cluster)).or_default();
        callers.insert(pod.clone());
        self.pairs += 1;
        true
    }

    fn remove(&mut self, pod: &PodKey, cluster: &Arc<str>) {
        let Some(pods) = self.callers.get_mut(cluster) else {
            return;
        };
        self.pairs -= usize::from(pods.remove(pod));
        if pods.is_empty() {
            self.callers.remove(cluster);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clusters(names: &[&str]) -> Vec<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    /// Callers come sorted and once; a cluster without callers is forgotten.
    #[test]
    fn knows_callers() {
        let callers = Callers::default();
        let (dj, bard) = (PodKey::new("prod", "dj"), PodKey::new("prod", "bard"));
        assert_eq!(callers.set(&dj, &clusters(&["jazz", "metal", "jazz"])), 0);
        assert_eq!(callers.set(&bard, &clusters(&["jazz"])), 0);
        assert_eq!(callers.of("jazz"), [bard.clone(), dj.clone()]);
        assert_eq!(callers.of("folk"), []);
        callers.set(&dj, &clusters(&["folk"]));
        assert_eq!(callers.of("jazz"), std::slice::from_ref(&bard));
        assert_eq!(callers.clusters(), clusters(&["folk", "jazz"]));
        callers.set(&dj, &[]);
        callers.set(&bard, &[]);
        let index = callers.index.read();
        assert_eq!((index.pairs, index.called.len()), (0, 0));
    }

    /// Beyond the limit of clusters nothing is added, and the number refused is returned.
    #[test]
    fn is_bounded() {
        let callers = Callers::default();
        let many: Vec<Arc<str>> = (0..CALLED_CLUSTERS_MAX + 3)
            .map(|n| n.to_string().into())
            .collect();
        assert_eq!(callers.set(&PodKey::new("prod", "dj"), &many), 3);
        assert_eq!(callers.clusters().len(), CALLED_CLUSTERS_MAX);
        assert_eq!(
            callers.set(&PodKey::new("prod", "bard"), &many[..2]),
            0,
            "known clusters still take callers"
        );
    }
}
