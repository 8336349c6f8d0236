//! Where watched objects go: each kind of them into its part of the directory.

use std::collections::HashSet;
use std::sync::Arc;

use aggregator_core::directory::{Directory, DirectoryRefusal, ObjectKey};
use aggregator_core::pod::PodKey;
use serde::de::DeserializeOwned;

use crate::objects::{MetadataOnly, Named, Pod, Service};
use crate::watches::Scope;

/// The form in which whole objects are asked for.
pub(crate) const JSON: &str = "application/json";

/// The form in which a list of nothing but metadata is sent.
pub const METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
/// The form in which a watch of nothing but metadata is sent.
pub const METADATA: &str =
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";

/// Something that holds what a watch tells.
pub trait Table: Send + Sync + 'static {
    /// An object as it is sent.
    type Object: Clone + DeserializeOwned + Named + Send + Sync + 'static;

    /// Name of the watch in metrics, checks and logs; one of a fixed set.
    fn name(&self) -> &'static str;
    /// Path of the collection before `namespaces/`.
    fn group_path(&self) -> &'static str;
    /// Last segment of the path of the collection.
    fn resource(&self) -> &'static str;
    /// Media types of a list and of a watch.
    fn accepts(&self) -> (&'static str, &'static str) {
        (JSON, JSON)
    }
    /// `fieldSelector` of the collection.
    fn field_selector(&self) -> Option<&'static str> {
        None
    }
    /// True of a kind that a cluster may do without: while the API server does not know it, there is none of it.
    fn optional(&self) -> bool {
        false
    }
    /// The object exists in this form.
    fn apply(&self, object: Self::Object);
    /// The object is gone.
    fn delete(&self, object: &Self::Object);
    /// Of `scope` nothing exists but the `listed` (namespace, name).
    fn keep_only(&self, scope: &Scope, listed: &HashSet<(String, String)>);
}

/// Pods.
#[derive(Debug)]
pub(crate) struct Pods(pub(crate) Arc<Directory>);

/// Services.
#[derive(Debug)]
pub(crate) struct Services(pub(crate) Arc<Directory>);

/// Owners of one kind, metadata only.
#[derive(Debug)]
pub(crate) struct Owners {
    pub(crate) directory: Arc<Directory>,
    pub(crate) kind: OwnerKind,
}

/// Kinds of owners, all of the group `apps`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum OwnerKind {
    Deployment,
    ReplicaSet,
    StatefulSet,
}

/// API group of all [`OwnerKind`]s.
const APPS: &str = "apps";

// === impl OwnerKind ===

impl OwnerKind {
    pub(crate) const ALL: [Self; 3] = [Self::Deployment, Self::ReplicaSet, Self::StatefulSet];

    fn kind(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::ReplicaSet => "ReplicaSet",
            Self::StatefulSet => "StatefulSet",
        }
    }

    fn resource(self) -> &'static str {
        match self {
            Self::Deployment => "deployments",
            Self::ReplicaSet => "replicasets",
            Self::StatefulSet => "statefulsets",
        }
    }
}

// === impl Table ===

impl Table for Pods {
    type Object = Pod;

    fn name(&self) -> &'static str {
        "pods"
    }

    fn group_path(&self) -> &'static str {
        "/api/v1"
    }

    fn resource(&self) -> &'static str {
        "pods"
    }

    fn apply(&self, pod: Pod) {
        told(self.0.upsert(pod.info()));
    }

    fn delete(&self, pod: &Pod) {
        self.0.remove(&pod.key());
    }

    fn keep_only(&self, scope: &Scope, listed: &HashSet<(String, String)>) {
        for key in self.0.pod_keys() {
            let PodKey { namespace, name } = &key;
            if scope.lacks(listed, namespace, name) {
                self.0.remove(&key);
            }
        }
    }
}

impl Table for Services {
    type Object = Service;

    fn name(&self) -> &'static str {
        "services"
    }

    fn group_path(&self) -> &'static str {
        "/api/v1"
    }

    fn resource(&self) -> &'static str {
        "services"
    }

    fn apply(&self, service: Service) {
        told(self.0.upsert_service(service.info()));
    }

    fn delete(&self, service: &Service) {
        let (namespace, name) = service.key();
        self.0.remove_service(&namespace, &name);
    }

    fn keep_only(&self, scope: &Scope, listed: &HashSet<(String, String)>) {
        for (namespace, name) in self.0.service_keys() {
            if scope.lacks(listed, &namespace, &name) {
                self.0.remove_service(&namespace, &name);
            }
        }
    }
}

impl Table for Owners {
    type Object = MetadataOnly;

    fn name(&self) -> &'static str {
        self.kind.resource()
    }

    fn group_path(&self) -> &'static str {
        "/apis/apps/v1"
    }

    fn resource(&self) -> &'static str {
        self.kind.resource()
    }

    fn accepts(&self) -> (&'static str, &'static str) {
        (METADATA_LIST, METADATA)
    }

    fn apply(&self, owner: MetadataOnly) {
        told(
            self.directory
                .upsert_owner(owner.info(APPS, self.kind.kind())),
        );
    }

    fn delete(&self, owner: &MetadataOnly) {
        self.directory
            .remove_owner(&owner.key(APPS, self.kind.kind()));
    }

    fn keep_only(&self, scope: &Scope, listed: &HashSet<(String, String)>) {
        for key in self.directory.owner_keys() {
            let ObjectKey { namespace, object } = &key;
            let ours = &*object.group == APPS && &*object.kind == self.kind.kind();
            if ours && scope.lacks(listed, namespace, &object.name) {
                self.directory.remove_owner(&key);
            }
        }
    }
}

/// A refusal is counted by the directory; here it only shows which object it was.
fn told(outcome: Result<(), DirectoryRefusal>) {
    if let Err(refusal) = outcome {
        tracing::warn!(error = %refusal, "object of the cluster not taken");
    }
}
