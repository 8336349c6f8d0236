//! Kinds of workloads whose metrics are sums over their pods.

use aggregator_directory::ObjectKey;

common_names::named! {
    /// A kind of object that owns pods, directly or through others. The name is used in messages,
    /// selectors of external metrics and `--cluster-destination`.
    pub(crate) enum Workload {
        /// `deployments.apps`
        Deployment = "deployment",
        /// `replicasets.apps`
        ReplicaSet = "replicaset",
        /// `statefulsets.apps`
        StatefulSet = "statefulset",
        /// `daemonsets.apps`
        DaemonSet = "daemonset",
        /// `jobs.batch`
        Job = "job",
    }
}

// === impl Workload ===

impl Workload {
    /// The resource with its group, as in paths.
    pub(crate) fn resource(self) -> &'static str {
        match self {
            Self::Deployment => "deployments.apps",
            Self::ReplicaSet => "replicasets.apps",
            Self::StatefulSet => "statefulsets.apps",
            Self::DaemonSet => "daemonsets.apps",
            Self::Job => "jobs.batch",
        }
    }

    /// `kind` in `describedObject`.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::ReplicaSet => "ReplicaSet",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::Job => "Job",
        }
    }

    /// `apiVersion` in `describedObject`.
    pub(crate) fn api_version(self) -> &'static str {
        match self {
            Self::Job => "batch/v1",
            _ => "apps/v1",
        }
    }

    pub(crate) fn key(self, namespace: &str, name: &str) -> ObjectKey {
        let group = match self {
            Self::Job => "batch",
            _ => "apps",
        };
        ObjectKey::new(namespace, group, self.kind(), name)
    }

    pub(crate) fn from_resource(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.resource() == text)
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
            assert_eq!(Workload::parse(kind.as_str()), Some(kind));
            let key = kind.key("prod", "a");
            let (resource, group) = kind.resource().split_once('.').unwrap();
            assert_eq!(*key.object.group, *group);
            assert_eq!(resource, key.object.kind.to_lowercase() + "s");
            assert!(kind.api_version().starts_with(group));
        }
        assert_eq!(Workload::from_resource("deployments"), None);
    }
}
