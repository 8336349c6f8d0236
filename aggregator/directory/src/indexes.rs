//! Adapters from watches to the directory, for pods, services and owners.

use std::collections::HashSet;
use std::sync::Arc;

use aggregator_core::pod::PodKey;
use common_kubernetes::index::{Index, METADATA, METADATA_LIST};
use common_kubernetes::objects::MetadataOnly;
use common_kubernetes::{Scope, Watches};

use crate::directory::{Directory, DirectoryRefusal, ObjectKey};
use crate::objects::autoscaler::Autoscaler;
use crate::objects::{Pod, Service, owner_info, owner_key};

/// Starts watches that keep `directory` up to date.
pub fn follow(watches: &mut Watches, directory: &Arc<Directory>, scopes: &[Scope]) {
    for scope in scopes {
        watches.follow(Pods(Arc::clone(directory)), scope.clone());
        watches.follow(Services(Arc::clone(directory)), scope.clone());
        for kind in OwnerKind::ALL {
            let directory = Arc::clone(directory);
            watches.follow(Owners { directory, kind }, scope.clone());
        }
    }
}

/// Starts watches of `HorizontalPodAutoscalers`. Without the permission, or where the API server
/// does not serve them, there are none; that is no fault of the aggregator's.
pub fn follow_autoscalers(watches: &mut Watches, directory: &Arc<Directory>, scopes: &[Scope]) {
    for scope in scopes {
        watches.follow(Autoscalers(Arc::clone(directory)), scope.clone());
    }
}

/// Name of the watch of pods in metrics, checks and logs.
pub const PODS_WATCH: &str = "pods";

/// Name of the watch of autoscalers in metrics, checks and logs.
pub const AUTOSCALERS_WATCH: &str = "horizontalpodautoscalers";

#[derive(Debug)]
struct Autoscalers(Arc<Directory>);

#[derive(Debug)]
struct Pods(Arc<Directory>);

#[derive(Debug)]
struct Services(Arc<Directory>);

/// Owners of one kind, metadata only.
#[derive(Debug)]
struct Owners {
    directory: Arc<Directory>,
    kind: OwnerKind,
}

common_names::named! {
    /// Kinds of owners, all of the group `apps`.
    enum OwnerKind {
        Deployment = "Deployment",
        ReplicaSet = "ReplicaSet",
        StatefulSet = "StatefulSet",
    }
}

/// API group of all [`OwnerKind`]s.
const APPS: &str = "apps";

// === impl OwnerKind ===

impl OwnerKind {
    fn resource(self) -> &'static str {
        match self {
            Self::Deployment => "deployments",
            Self::ReplicaSet => "replicasets",
            Self::StatefulSet => "statefulsets",
        }
    }
}

// === impl Index ===

impl Index for Pods {
    type Object = Pod;

    fn name(&self) -> &'static str {
        PODS_WATCH
    }

    fn resource(&self) -> &'static str {
        "pods"
    }

    fn apply(&self, pod: Pod) {
        log_refusal(self.0.upsert(pod.info()));
    }

    fn delete(&self, pod: &Pod) {
        self.0.remove(&pod.key());
    }

    fn reset(&self, scope: &Scope, listed: &HashSet<(String, String)>) {
        for key in self.0.pod_keys() {
            let PodKey { namespace, name } = &key;
            if scope.lacks(listed, namespace, name) {
                self.0.remove(&key);
            }
        }
    }
}

impl Index for Services {
    type Object = Service;

    fn name(&self) -> &'static str {
        "services"
    }

    fn resource(&self) -> &'static str {
        "services"
    }

    fn apply(&self, service: Service) {
        log_refusal(self.0.upsert_service(service.info()));
    }

    fn delete(&self, service: &Service) {
        let (namespace, name) = service.key();
        self.0.remove_service(&namespace, &name);
    }

    fn reset(&self, scope: &Scope, listed: &HashSet<(String, String)>) {
        for (namespace, name) in self.0.service_keys() {
            if scope.lacks(listed, &namespace, &name) {
                self.0.remove_service(&namespace, &name);
            }
        }
    }
}

impl Index for Owners {
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
        log_refusal(
            self.directory
                .upsert_owner(owner_info(&owner, APPS, self.kind.as_str())),
        );
    }

    fn delete(&self, owner: &MetadataOnly) {
        self.directory
            .remove_owner(&owner_key(owner, APPS, self.kind.as_str()));
    }

    fn reset(&self, scope: &Scope, listed: &HashSet<(String, String)>) {
        for key in self.directory.owner_keys() {
            let ObjectKey { namespace, object } = &key;
            let ours = &*object.group == APPS && &*object.kind == self.kind.as_str();
            if ours && scope.lacks(listed, namespace, &object.name) {
                self.directory.remove_owner(&key);
            }
        }
    }
}

impl Index for Autoscalers {
    type Object = Autoscaler;

    fn name(&self) -> &'static str {
        AUTOSCALERS_WATCH
    }

    fn group_path(&self) -> &'static str {
        "/apis/autoscaling/v2"
    }

    fn resource(&self) -> &'static str {
        "horizontalpodautoscalers"
    }

    fn is_needed(&self) -> bool {
        false
    }

    fn apply(&self, autoscaler: Autoscaler) {
        log_refusal(self.0.upsert_autoscaler(autoscaler.info()));
    }

    fn delete(&self, autoscaler: &Autoscaler) {
        let (namespace, name) = autoscaler.key();
        self.0.remove_autoscaler(namespace, name);
    }

    fn reset(&self, scope: &Scope, listed: &HashSet<(String, String)>) {
        for known in self.0.autoscalers() {
            if scope.lacks(listed, &known.namespace, &known.name) {
                self.0.remove_autoscaler(&known.namespace, &known.name);
            }
        }
    }
}

/// Logs the object of a refusal; the directory has counted it.
fn log_refusal(outcome: Result<(), DirectoryRefusal>) {
    if let Err(refusal) = outcome {
        tracing::warn!(error = %refusal, "Kubernetes object ignored");
    }
}
