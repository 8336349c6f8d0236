//! Pods: what identifies them and what is known of them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Labels of a pod, sorted by key.
pub type Labels = BTreeMap<String, String>;

/// A pod by name. Cheap to clone.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PodKey {
    pub namespace: Arc<str>,
    /// Name of the pod within its namespace.
    pub name: Arc<str>,
}

/// What is known of a pod that exists.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PodInfo {
    pub key: PodKey,
    /// `metadata.uid`; "" where nobody told.
    pub uid: Arc<str>,
    /// `metadata.labels`.
    pub labels: Labels,
    /// The owner reference with `controller: true`. What owns that in turn, the directory knows
    /// from the owners it was told.
    pub owner: Option<Owner>,
    /// True once `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// `status.phase`
    pub phase: Phase,
    /// True or false as the condition `Ready` of `status.conditions` says, false where it says that
    /// nobody knows; `None` where nobody told of it.
    pub ready: Option<bool>,
    /// `status.podIPs`
    pub ips: Vec<IpAddr>,
    /// True if the injector gave it what it needs to report.
    pub injected: bool,
}

/// The controller of a pod or of another owner, as `metadata.ownerReferences` names it.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Owner {
    /// API group, "" for the core group: the part of `apiVersion` before the slash.
    pub group: Arc<str>,
    /// Kind, such as `ReplicaSet`.
    pub kind: Arc<str>,
    /// Name, in the namespace of what it owns.
    pub name: Arc<str>,
    /// `uid`; "" where nobody told.
    pub uid: Arc<str>,
}

/// Whether a pod gets requests, as far as Kubernetes tells.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Readiness {
    /// It runs and is not said to be unready: services lead to it.
    Yes,
    /// It does not run yet, is not ready, is terminating or has ended: services do not lead to it.
    No,
    Unknown,
}

/// Where a pod is in its life.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Phase {
    /// Nobody told, or the kubelet lost it.
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
    /// A pod of which nothing but name, uid and labels is known.
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

    /// True if the pod may serve, now or soon: not terminating, not ended.
    pub fn is_serving(&self) -> bool {
        !self.deleting && !matches!(self.phase, Phase::Succeeded | Phase::Failed)
    }
}

// === impl PodKey ===

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
