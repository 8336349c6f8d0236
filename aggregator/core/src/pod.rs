//! Pods: what identifies them and what is known of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Labels of a pod, sorted by key.
pub type Labels = BTreeMap<String, String>;

/// A pod by name. Cheap to clone.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PodKey {
    /// Namespace of the pod.
    pub namespace: Arc<str>,
    /// Name of the pod within its namespace.
    pub name: Arc<str>,
}

/// What is known of a pod that exists.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PodInfo {
    /// Which pod.
    pub key: PodKey,
    /// `metadata.uid`; "" where nobody told.
    pub uid: Arc<str>,
    /// `metadata.labels`.
    pub labels: Labels,
}

impl PodKey {
    /// The pod `name` in `namespace`.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
