//! The namespaces, and the `ConfigMap` of the bundle's name in each.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use common_kubernetes::Scope;
use common_kubernetes::index::{Index, METADATA, METADATA_LIST};
use common_kubernetes::objects::{Metadata, MetadataOnly, Named};
use mesh_injector::ca_bundles::{Data, ExistingConfigMap, Labels, Namespace};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::sync::Notify;

/// Namespaces, and `ConfigMap`s, at most, about 500 bytes each: more than Kubernetes is tested
/// with. Further ones are counted and ignored.
const NAMESPACES_MAX: usize = 10_000;

#[derive(Debug)]
pub(super) struct Cache {
    installed_in: String,
    /// Reported by the watches; locked for one lookup or update.
    state: Mutex<State>,
    pub(super) changed: Notify,
    over_limit: Counter,
}

#[derive(Debug, Default)]
struct State {
    namespaces: BTreeMap<String, Namespace>,
    config_maps: BTreeMap<String, Arc<ExistingConfigMap>>,
}

pub(super) struct Namespaces(pub(super) Arc<Cache>);

/// Watches the `ConfigMap`s of one name.
pub(super) struct ConfigMaps {
    cache: Arc<Cache>,
    selector: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConfigMap {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    data: BTreeMap<String, String>,
    #[serde(default)]
    binary_data: Option<IgnoredAny>,
    #[serde(default)]
    immutable: Option<bool>,
}

// === impl Cache ===

impl Cache {
    pub(super) fn new(installed_in: &str, over_limit: Counter) -> Self {
        Self {
            installed_in: installed_in.to_owned(),
            state: Mutex::default(),
            changed: Notify::new(),
            over_limit,
        }
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.state.lock().namespaces.keys().cloned().collect()
    }

    pub(super) fn of(
        &self,
        namespace: &str,
    ) -> (Option<Namespace>, Option<Arc<ExistingConfigMap>>) {
        let state = self.state.lock();
        let config_map = state.config_maps.get(namespace).cloned();
        (state.namespaces.get(namespace).copied(), config_map)
    }

    /// Inserts `value` unless the map is full; true if that changes it.
    fn put<T: PartialEq>(&self, map: &mut BTreeMap<String, T>, name: &str, value: T) -> bool {
        if !map.contains_key(name) && map.len() >= NAMESPACES_MAX {
            self.over_limit.inc();
            tracing::warn!(
                namespace = name,
                "too many namespaces: this one gets no CA ConfigMap"
            );
            return false;
        }
        let changes = map.get(name) != Some(&value);
        if changes {
            map.insert(name.to_owned(), value);
        }
        changes
    }

    /// Applies `change`, which returns whether it changed anything.
    fn update(&self, change: impl FnOnce(&mut State) -> bool) {
        if change(&mut self.state.lock()) {
            self.changed.notify_one();
        }
    }
}

// === impl ConfigMaps ===

impl ConfigMaps {
    pub(super) fn new(cache: Arc<Cache>, name: &str) -> Self {
        Self {
            cache,
            // kube-apiserver authorizes this selector by a role's `resourceNames`, so the injector
            // may read no other ConfigMap.
            selector: format!("metadata.name={name}"),
        }
    }
}

// === impl ConfigMap ===

impl ConfigMap {
    fn into_existing(self) -> ExistingConfigMap {
        ExistingConfigMap {
            terminating: self.metadata.deletion_timestamp.is_some(),
            uid: self.metadata.uid,
            version: self.metadata.resource_version,
            labels: Labels::of(&self.metadata.labels),
            data: Data::of(&self.data).filter(|_| self.binary_data.is_none()),
            immutable: self.immutable == Some(true),
        }
    }
}

impl Named for ConfigMap {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

// === impl Index ===

impl Index for Namespaces {
    type Object = MetadataOnly;

    fn name(&self) -> &'static str {
        "ca_namespaces"
    }

    fn resource(&self) -> &'static str {
        "namespaces"
    }

    fn accepts(&self) -> (&'static str, &'static str) {
        (METADATA_LIST, METADATA)
    }

    fn apply(&self, object: MetadataOnly) {
        let Metadata { name, labels, .. } = &object.metadata;
        let terminating = object.metadata.deletion_timestamp.is_some();
        let namespace = Namespace::of(name, labels, terminating, &self.0.installed_in);
        self.0
            .update(|state| self.0.put(&mut state.namespaces, name, namespace));
    }

    fn delete(&self, object: &MetadataOnly) {
        let name = &object.metadata.name;
        self.0
            .update(|state| state.namespaces.remove(name).is_some());
    }

    fn reset(&self, scope: &Scope, listed: &HashSet<(String, String)>) {
        self.0.update(|state| {
            let before = state.namespaces.len();
            state
                .namespaces
                .retain(|name, _| !scope.lacks(listed, "", name));
            before != state.namespaces.len()
        });
    }
}

impl Index for ConfigMaps {
    type Object = ConfigMap;

    fn name(&self) -> &'static str {
        "ca_configmaps"
    }

    fn resource(&self) -> &'static str {
        "configmaps"
    }

    fn field_selector(&self) -> Option<&str> {
        Some(&self.selector)
    }

    fn apply(&self, object: ConfigMap) {
        let namespace = object.metadata.namespace.clone();
        let existing = Arc::new(object.into_existing());
        self.cache
            .update(|state| self.cache.put(&mut state.config_maps, &namespace, existing));
    }

    fn delete(&self, object: &ConfigMap) {
        let namespace = &object.metadata.namespace;
        self.cache
            .update(|state| state.config_maps.remove(namespace).is_some());
    }

    fn reset(&self, _: &Scope, listed: &HashSet<(String, String)>) {
        let listed = listed.iter().map(|(namespace, _)| namespace.as_str());
        let namespaces: HashSet<&str> = listed.collect();
        self.cache.update(|state| {
            let before = state.config_maps.len();
            state
                .config_maps
                .retain(|namespace, _| namespaces.contains(namespace.as_str()));
            before != state.config_maps.len()
        });
    }
}
