//! Objects that pods belong to: services, and owners such as Deployments.

use std::fmt;
use std::sync::Arc;

use aggregator_core::pod::{Labels, Owner};

/// An object within its namespace.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ObjectRef {
    /// API group, "" for the core group.
    pub group: Arc<str>,
    /// Kind, such as `Deployment`.
    pub kind: Arc<str>,
    pub name: Arc<str>,
}

#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ObjectKey {
    pub namespace: Arc<str>,
    /// Which one it is there.
    pub object: ObjectRef,
}

/// What is known of an object that owns pods or owners of pods.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OwnerInfo {
    pub object: ObjectKey,
    /// `metadata.uid`; "" where nobody told.
    pub uid: Arc<str>,
    /// Its own controller: the Deployment of a `ReplicaSet`.
    pub owner: Option<Owner>,
}

/// What is known of a service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceInfo {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    /// `spec.selector`; empty for a service that selects no pods itself.
    pub selector: Labels,
}

// === impl ObjectRef ===

impl ObjectRef {
    /// The object `name` of `kind` in `group`.
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
    /// The object `name` of `kind` in `group`, in `namespace`.
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
