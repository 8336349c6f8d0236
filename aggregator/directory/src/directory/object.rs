//! Objects that pods belong to: services, and owners such as Deployments.

use std::fmt;
use std::sync::Arc;

use aggregator_core::pod::{Labels, Owner};

/// An object within its namespace.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ObjectRef {
    /// API group, "" for the core group.
    pub group: Arc<str>,
    /// Such as `Deployment`.
    pub kind: Arc<str>,
    pub name: Arc<str>,
}

#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ObjectKey {
    pub namespace: Arc<str>,
    pub object: ObjectRef,
}

/// An object that owns pods or other owners.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OwnerInfo {
    pub object: ObjectKey,
    /// `metadata.uid`; "" if unknown.
    pub uid: Arc<str>,
    /// Its own controller: the Deployment of a `ReplicaSet`.
    pub owner: Option<Owner>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceInfo {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    /// `spec.selector`; empty for a service that selects no pods itself.
    pub selector: Labels,
}

// === impl ObjectRef ===

impl ObjectRef {
    pub fn new(group: &str, kind: &str, name: &str) -> Self {
        Self {
            group: group.into(),
            kind: kind.into(),
            name: name.into(),
        }
    }
}

impl From<&Owner> for ObjectRef {
    fn from(owner: &Owner) -> Self {
        Self {
            group: Arc::clone(&owner.group),
            kind: Arc::clone(&owner.kind),
            name: Arc::clone(&owner.name),
        }
    }
}

// === impl ObjectKey ===

impl ObjectKey {
    pub fn new(namespace: &str, group: &str, kind: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            object: ObjectRef::new(group, kind, name),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ObjectRef { group, kind, name } = &self.object;
        let dot = if group.is_empty() { "" } else { "." };
        write!(f, "{kind}{dot}{group} {}/{name}", self.namespace)
    }
}
