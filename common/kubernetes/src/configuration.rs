//! How clients of an aggregated API are authenticated: the config map
//! `extension-apiserver-authentication`.

use std::collections::{BTreeMap, HashSet};

use tokio::sync::watch;

use crate::index::Index;
use crate::objects::ConfigMap;
use crate::scope::Scope;

/// The namespace of [`CONFIG_MAP`].
pub const NAMESPACE: &str = "kube-system";
/// The config map that kube-apiserver writes.
pub const CONFIG_MAP: &str = "extension-apiserver-authentication";

/// The current data of the config map; `None` until it is read, and if it does not exist.
pub type AuthenticationConfig = watch::Receiver<Option<BTreeMap<String, String>>>;

/// Index of that one config map.
#[derive(Debug)]
pub(crate) struct ConfigIndex(watch::Sender<Option<BTreeMap<String, String>>>);

// === impl ConfigIndex ===

impl ConfigIndex {
    pub(crate) fn new() -> (Self, AuthenticationConfig) {
        let (sender, receiver) = watch::channel(None);
        (Self(sender), receiver)
    }

    pub(crate) fn scope() -> Scope {
        Scope::Namespace(NAMESPACE.to_owned())
    }

    fn set(&self, data: Option<BTreeMap<String, String>>) {
        self.0.send_if_modified(|current| {
            let changed = *current != data;
            *current = data;
            changed
        });
    }
}

impl Index for ConfigIndex {
    type Object = ConfigMap;

    fn name(&self) -> &'static str {
        "authentication"
    }

    fn resource(&self) -> &'static str {
        "configmaps"
    }

    fn field_selector(&self) -> Option<&str> {
        Some("metadata.name=extension-apiserver-authentication")
    }

    fn apply(&self, map: ConfigMap) {
        if map.metadata.name == CONFIG_MAP {
            self.set(Some(map.data));
        }
    }

    fn delete(&self, map: &ConfigMap) {
        if map.metadata.name == CONFIG_MAP {
            self.set(None);
        }
    }

    fn reset(&self, scope: &Scope, listed: &HashSet<(String, String)>) {
        if scope.lacks(listed, NAMESPACE, CONFIG_MAP) {
            self.set(None);
        }
    }
}
