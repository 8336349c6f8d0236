//! The newest version of every watched object, bounded.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use common_kubernetes::Scope;
use common_kubernetes::index::{Index, METADATA, METADATA_LIST};
use common_kubernetes::objects::{Metadata, MetadataOnly};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::objects::{Custom, Pod, Service, Slice, Status, key};
use crate::mesh::Key;
use crate::metrics::{Limit, Metrics};
use crate::resources::{API_VERSION, Kind, OBJECTS_MAX};

/// Path of the custom resources; ends with [`API_VERSION`].
const GROUP_PATH: &str = "/apis/appmesh.k8s.aws/v1beta2";

/// Namespaces at most: more than Kubernetes is tested with.
const NAMESPACES_MAX: usize = 10_000;

/// Services at most, as many as Kubernetes is tested with; about 500 bytes each.
const SERVICES_MAX: usize = 20_000;

/// Slices at most. Kubernetes puts up to 100 endpoints into one, about 200 bytes each.
const SLICES_MAX: usize = 20_000;

/// Pods at most, about 600 bytes each.
const PODS_MAX: usize = 50_000;

/// Endpoints of one slice at most, as in the API.
const SLICE_ENDPOINTS_MAX: usize = 1_000;

/// Bytes of all custom resources at most, as JSON: a mesh of 1,000 workloads has 1 MB.
const CUSTOM_BYTES_MAX: usize = 64 * 1024 * 1024;

#[derive(Debug)]
pub(crate) struct ResourceCache {
    /// Locked to copy or replace pointers, never during computation.
    state: Mutex<State>,
    /// Notified of changes that may change the served resources.
    pub(crate) changed: Notify,
    /// Notified of changes of custom resources, their status included.
    pub(crate) status_changed: Notify,
    metrics: Metrics,
}

/// A copy of the cache's pointers at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) custom: BTreeMap<(Kind, Key), Arc<Entry>>,
    pub(crate) namespaces: BTreeMap<String, Arc<Value>>,
    pub(crate) services: BTreeMap<Key, Arc<Service>>,
    pub(crate) slices: BTreeMap<Key, Arc<Slice>>,
    pub(crate) pods: BTreeMap<Key, Arc<Pod>>,
    custom_bytes: usize,
    /// Incremented by changes of custom resources and namespaces, not of services and slices.
    pub(crate) revision: u64,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) metadata: Metadata,
    pub(crate) document: Value,
    pub(crate) status: Status,
    bytes: usize,
}

// === impl ResourceCache ===

impl ResourceCache {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self {
            state: Mutex::default(),
            changed: Notify::new(),
            status_changed: Notify::new(),
            metrics,
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state.lock().clone()
    }

    /// A custom resource as it is now.
    pub(crate) fn custom(&self, id: &(Kind, Key)) -> Option<Arc<Entry>> {
        self.state.lock().custom.get(id).map(Arc::clone)
    }

    fn apply_custom(&self, kind: Kind, object: Custom) {
        let key = key(&object);
        let document = object.document(kind);
        let bytes = document.to_string().len();
        let mut state = self.state.lock();
        let id = (kind, key);
        let old = state.custom.get(&id).map(Arc::clone);
        // An object over a limit keeps its previous version, if it has one.
        let rest = state.custom_bytes - old.as_ref().map_or(0, |old| old.bytes);
        let too_many = old.is_none() && state.custom.len() >= OBJECTS_MAX;
        if too_many || rest + bytes > CUSTOM_BYTES_MAX {
            drop(state);
            let limit = if too_many {
                Limit::CustomResources
            } else {
                Limit::CustomResourceBytes
            };
            self.refuse(limit, &object.metadata);
            return;
        }
        // Our own status update comes back through the watch: it must not lead to a rebuild.
        let changed = old.is_none_or(|old| old.document != document);
        let entry = Entry {
            metadata: object.metadata,
            document,
            status: object.status,
            bytes,
        };
        state.custom.insert(id, Arc::new(entry));
        state.custom_bytes = rest + bytes;
        state.revision += u64::from(changed);
        drop(state);
        if changed {
            self.changed.notify_one();
        }
        self.status_changed.notify_one();
    }

    fn remove_custom(&self, id: &(Kind, Key)) {
        let mut state = self.state.lock();
        if let Some(old) = state.custom.remove(id) {
            state.custom_bytes -= old.bytes;
            state.revision += 1;
            drop(state);
            self.changed.notify_one();
        }
    }

    fn refuse(&self, limit: Limit, metadata: &Metadata) {
        self.metrics.over_limit(limit);
        tracing::warn!(
            limit = limit.as_str(),
            namespace = metadata.namespace,
            name = metadata.name,
            "Kubernetes object ignored: too many, or too large"
        );
    }
}

/// Inserts an object unless there are `max` others; true if inserted.
fn insert<K: Ord, T>(of_kind: &mut BTreeMap<K, Arc<T>>, key: K, object: T, max: usize) -> bool {
    let has_room = of_kind.len() < max || of_kind.contains_key(&key);
    if has_room {
        of_kind.insert(key, Arc::new(object));
    }
    has_room
}

/// Keys within `scope` that are not listed any more.
fn unlisted<'a>(
    scope: &Scope,
    listed: &HashSet<(String, String)>,
    keys: impl Iterator<Item = &'a Key>,
) -> Vec<Key> {
    keys.filter(|key| scope.lacks(listed, &key.namespace, &key.name))
        .cloned()
        .collect()
}

#[derive(Debug)]
pub(crate) struct CustomTable {
    pub(crate) kind: Kind,
    pub(crate) cache: Arc<ResourceCache>,
}

#[derive(Debug)]
pub(crate) struct Namespaces(pub(crate) Arc<ResourceCache>);

#[derive(Debug)]
pub(crate) struct Services(pub(crate) Arc<ResourceCache>);

/// `EndpointSlices`.
#[derive(Debug)]
pub(crate) struct Slices(pub(crate) Arc<ResourceCache>);

/// Pods that run.
#[derive(Debug)]
pub(crate) struct Pods(pub(crate) Arc<ResourceCache>);

// === impl Index ===

impl Index for CustomTable {
    type Object = Custom;

    fn name(&self) -> &'static str {
        self.kind.plural()
    }

    fn group_path(&self) -> &'static str {
        debug_assert!(GROUP_PATH.ends_with(API_VERSION));
        GROUP_PATH
    }

    fn resource(&self) -> &'static str {
        self.kind.plural()
    }

    /// Gateways and backend groups are rare: their CRDs need not be installed.
    fn optional(&self) -> bool {
        matches!(
            self.kind,
            Kind::VirtualGateway | Kind::GatewayRoute | Kind::BackendGroup
        )
    }

    fn apply(&self, object: Custom) {
        self.cache.apply_custom(self.kind, object);
    }

    fn delete(&self, object: &Custom) {
        self.cache.remove_custom(&(self.kind, key(object)));
    }

    fn reset(&self, scope: &Scope, listed: &HashSet<(String, String)>) {
        let state = self.cache.state();
        let of_kind = state.custom.keys().filter(|(kind, _)| *kind == self.kind);
        for key in unlisted(scope, listed, of_kind.map(|(_, key)| key)) {
            self.cache.remove_custom(&(self.kind, key));
        }
    }
}

impl Index for Namespaces {
    type Object = MetadataOnly;

    fn name(&self) -> &'static str {
        "namespaces"
    }

    fn resource(&self) -> &'static str {
        "namespaces"
    }

    fn accepts(&self) -> (&'static str, &'static str) {
        (METADATA_LIST, METADATA)
    }

    fn apply(&self, object: MetadataOnly) {
        let Metadata { name, labels, .. } = &object.metadata;
        let metadata = json!({"name": name, "labels": labels});
        let document = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
        let mut state = self.0.state.lock();
        if state
            .namespaces
            .get(name)
            .is_some_and(|old| **old == document)
        {
            return;
        }
        if insert(
            &mut state.namespaces,
            name.clone(),
            document,
            NAMESPACES_MAX,
        ) {
            state.revision += 1;
            drop(state);
            self.0.changed.notify_one();
        } else {
            drop(state);
            self.0.refuse(Limit::Namespaces, &object.metadata);
        }
    }

    fn delete(&self, object: &MetadataOnly) {
        let mut state = self.0.state.lock();
        state.namespaces.remove(&object.metadata.name);
        state.revision += 1;
        drop(state);
        self.0.changed.notify_one();
    }

    fn reset(&self, _: &Scope, listed: &HashSet<(String, String)>) {
        let mut state = self.0.state.lock();
        state
            .namespaces
            .retain(|name, _| listed.contains(&(String::new(), name.clone())));
        state.revision += 1;
        drop(state);
        self.0.changed.notify_one();
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

    fn apply(&self, object: Service) {
        let metadata = object.metadata.clone();
        if insert(
            &mut self.0.state.lock().services,
            key(&object),
            object,
            SERVICES_MAX,
        ) {
            self.0.changed.notify_one();
        } else {
            self.0.refuse(Limit::Services, &metadata);
        }
    }

    fn delete(&self, object: &Service) {
        self.0.state.lock().services.remove(&key(object));
        self.0.changed.notify_one();
    }

    fn reset(&self, scope: &Scope, listed: &HashSet<(String, String)>) {
        let mut state = self.0.state.lock();
        for key in unlisted(scope, listed, state.services.keys()) {
            state.services.remove(&key);
        }
        drop(state);
        self.0.changed.notify_one();
    }
}

impl Index for Slices {
    type Object = Slice;

    fn name(&self) -> &'static str {
        "endpointslices"
    }

    fn group_path(&self) -> &'static str {
        "/apis/discovery.k8s.io/v1"
    }

    fn resource(&self) -> &'static str {
        "endpointslices"
    }

    fn apply(&self, mut object: Slice) {
        let metadata = object.metadata.clone();
        if object.endpoints.len() > SLICE_ENDPOINTS_MAX {
            object.endpoints.truncate(SLICE_ENDPOINTS_MAX);
            self.0.refuse(Limit::SliceEndpoints, &metadata);
        }
        if insert(
            &mut self.0.state.lock().slices,
            key(&object),
            object,
            SLICES_MAX,
        ) {
            self.0.changed.notify_one();
        } else {
            self.0.refuse(Limit::Slices, &metadata);
        }
    }

    fn delete(&self, object: &Slice) {
        self.0.state.lock().slices.remove(&key(object));
        self.0.changed.notify_one();
    }

    fn reset(&self, scope: &Scope, listed: &HashSet<(String, String)>) {
        let mut state = self.0.state.lock();
        for key in unlisted(scope, listed, state.slices.keys()) {
            state.slices.remove(&key);
        }
        drop(state);
        self.0.changed.notify_one();
    }
}

impl Index for Pods {
    type Object = Pod;

    fn name(&self) -> &'static str {
        "pods"
    }

    fn resource(&self) -> &'static str {
        "pods"
    }

    fn field_selector(&self) -> Option<&str> {
        Some("status.phase=Running")
    }

    fn apply(&self, mut object: Pod) {
        object.trim();
        let metadata = object.metadata.clone();
        let key = key(&object);
        let mut state = self.0.state.lock();
        // A pod's status changes far more often than its addresses.
        if state.pods.get(&key).is_some_and(|old| old.is_like(&object)) {
            return;
        }
        let has_room = insert(&mut state.pods, key, object, PODS_MAX);
        drop(state);
        if has_room {
            self.0.changed.notify_one();
        } else {
            self.0.refuse(Limit::Pods, &metadata);
        }
    }

    fn delete(&self, object: &Pod) {
        self.0.state.lock().pods.remove(&key(object));
        self.0.changed.notify_one();
    }

    fn reset(&self, scope: &Scope, listed: &HashSet<(String, String)>) {
        let mut state = self.0.state.lock();
        for key in unlisted(scope, listed, state.pods.keys()) {
            state.pods.remove(&key);
        }
        drop(state);
        self.0.changed.notify_one();
    }
}
