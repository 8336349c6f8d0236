//! Kinds of workloads whose metrics are sums over their pods.

use aggregator_directory::ObjectKey;

/// A kind of object that owns pods, itself or through others.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Workload {
    /// `deployments.apps`
    Deployment,
    /// `replicasets.apps`
    ReplicaSet,
    /// `statefulsets.apps`
    StatefulSet,
    /// `daemonsets.apps`
    DaemonSet,
    /// `jobs.batch`
    Job,
}

// === impl Workload ===

impl Workload {
    pub(crate) const ALL: [Self; 5] = [
        Self::Deployment,
        Self::ReplicaSet,
        Self::StatefulSet,
        Self::DaemonSet,
        Self::Job,
    ];

    /// The resource with its group, as paths name it.
    pub(crate) fn resource(self) -> &'static str {
        match self {
            Self::Deployment => "deployments.apps",
            Self::ReplicaSet => "replicasets.apps",
            Self::StatefulSet => "statefulsets.apps",
            Self::DaemonSet => "daemonsets.apps",
            Self::Job => "jobs.batch",
        }
    }

    /// The kind, as `describedObject` names it.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::ReplicaSet => "ReplicaSet",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::Job => "Job",
        }
    }

    /// The name in sentences, selectors of external metrics and the list of where clusters lead.
    pub(crate) fn singular(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::ReplicaSet => "replicaset",
            Self::StatefulSet => "statefulset",
            Self::DaemonSet => "daemonset",
            Self::Job => "job",
        }
    }

    /// Group and version, as `describedObject` names them.
    pub(crate) fn api_version(self) -> &'static str {
        match self {
            Self::Job => "batch/v1",
            _ => "apps/v1",
        }
    }

    /// The object of this kind called `name`.
    pub(crate) fn key(self, namespace: &str, name: &str) -> ObjectKey {
        let group = match self {
            Self::Job => "batch",
            _ => "apps",
        };
        ObjectKey::new(namespace, group, self.kind(), name)
    }

    /// The kind whose resource is `text`.
    pub(crate) fn from_resource(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.resource() == text)
    }

    /// The kind whose singular is `text`.
    pub(crate) fn from_singular(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.singular() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each kind is found by both its names, and no two share one.
    #[test]
    fn has_distinct_names() {
        for kind in Workload::ALL {
            assert_eq!(Workload::from_resource(kind.resource()), Some(kind));
            assert_eq!(Workload::from_singular(kind.singular()), Some(kind));
            let key = kind.key("prod", "a");
            let (resource, group) = kind.resource().split_once('.').unwrap();
            assert_eq!(*key.object.group, *group);
            assert_eq!(resource, key.object.kind.to_lowercase() + "s");
            assert!(kind.api_version().starts_with(group));
        }
        assert_eq!(Workload::from_resource("deployments"), None);
    }
}
