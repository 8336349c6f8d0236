//! Pods: their keys, metadata and phases.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Labels of a pod, sorted by key.
pub type Labels = BTreeMap<String, String>;

/// Namespace and name of a pod. Cheap to clone.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PodKey {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

/// A pod as Kubernetes describes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PodInfo {
    pub key: PodKey,
    /// `metadata.uid`; "" if unknown.
    pub uid: Arc<str>,
    /// `metadata.labels`.
    pub labels: Labels,
    /// The owner reference with `controller: true`. The directory finds the owners above it.
    pub owner: Option<Owner>,
    /// True once `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// `status.phase`
    pub phase: Phase,
    /// The condition `Ready` of `status.conditions`; `Unknown` is false, `None` if it is absent.
    pub ready: Option<bool>,
    /// `status.podIPs`
    pub ips: Vec<IpAddr>,
    /// True if the injector added the filter to it.
    pub injected: bool,
}

/// The controller of a pod or of another owner, as `metadata.ownerReferences` names it.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Owner {
    /// API group, "" for the core group: the part of `apiVersion` before the slash.
    pub group: Arc<str>,
    /// Such as `ReplicaSet`.
    pub kind: Arc<str>,
    /// In the namespace of the object it owns.
    pub name: Arc<str>,
    /// "" if unknown.
    pub uid: Arc<str>,
}

/// Whether services send requests to a pod, according to Kubernetes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Readiness {
    /// Running and not reported unready.
    Yes,
    /// Not running yet, not ready, terminating or ended.
    No,
    Unknown,
}

/// `status.phase`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Phase {
    /// Absent, or the node is unreachable.
    #[default]
    Unknown,
    /// Accepted, not running yet.
    Pending,
    /// At least one container runs.
    Running,
    /// Every container ended well; none will be started again.
    Succeeded,
    /// Every container ended, at least one badly; none will be started again.
    Failed,
}

// === impl PodInfo ===

impl PodInfo {
    /// A pod with name, uid and labels only.
    pub fn new(key: PodKey, uid: Arc<str>, labels: Labels) -> Self {
        Self {
            key,
            uid,
            labels,
            owner: None,
            deleting: false,
            phase: Phase::default(),
            ready: None,
            ips: Vec::new(),
            injected: false,
        }
    }

    /// True if the pod serves or may serve later: neither terminating nor ended.
    pub fn is_serving(&self) -> bool {
        !self.deleting && !matches!(self.phase, Phase::Succeeded | Phase::Failed)
    }
}

// === impl PodKey ===

impl PodKey {
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
