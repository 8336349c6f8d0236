//! Which pods exist, and their labels: from `Hello` and a file in standalone mode, from a watch in a cluster.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use thiserror::Error;

use crate::limits::PODS_MAX;
use crate::pod::{Labels, PodInfo, PodKey};

#[cfg(test)]
mod tests;

/// Pods that exist, at most [`PODS_MAX`]. Writers and readers share it by reference.
#[derive(Debug, Default)]
pub struct Directory {
    /// Guards nothing but itself; held for one lookup or one scan of a namespace.
    pods: RwLock<BTreeMap<PodKey, PodInfo>>,
}

/// A pod was refused since the directory is full.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("pod {pod}: the directory holds {PODS_MAX} pods already")]
pub struct DirectoryFull {
    /// Which pod.
    pub pod: PodKey,
}

impl Directory {
    /// Adds a pod or replaces what was known of it. What cannot be added is refused.
    pub fn upsert(&self, info: PodInfo) -> Result<(), DirectoryFull> {
        let mut pods = self.write();
        if pods.len() >= PODS_MAX && !pods.contains_key(&info.key) {
            return Err(DirectoryFull { pod: info.key });
        }
        pods.insert(info.key.clone(), info);
        Ok(())
    }

    /// Takes a pod out; true if it was there.
    pub fn remove(&self, key: &PodKey) -> bool {
        self.write().remove(key).is_some()
    }

    /// The pods of `namespace` whose labels satisfy `matches`, sorted by name.
    pub fn select(&self, namespace: &str, matches: &dyn Fn(&Labels) -> bool) -> Vec<PodKey> {
        self.read()
            .range(PodKey::new(namespace, "")..)
            .take_while(|(key, _)| *key.namespace == *namespace)
            .filter(|(_, info)| matches(&info.labels))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// What is known of one pod.
    pub fn get(&self, key: &PodKey) -> Option<PodInfo> {
        self.read().get(key).cloned()
    }

    /// How many pods exist.
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// True if no pod exists.
    pub fn is_empty(&self) -> bool {
        self.read().is_empty()
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<PodKey, PodInfo>> {
        self.pods.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<PodKey, PodInfo>> {
        self.pods.write().unwrap_or_else(PoisonError::into_inner)
    }
}
