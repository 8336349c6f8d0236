//! The `ConfigMap` with the CAs that sidecars trust, in each namespace labelled for injection:
//! decides what to write, and when.
//!
//! ```text
//! namespace (labelled?) + ConfigMap (owner? content?) -> action: create, update, delete, conflict
//! ```
//!
//! Only own `ConfigMap`s are changed or deleted. Two labels mark them: the manager, and the
//! namespace it is installed in, so that two installations do not overwrite each other for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::annotations::INJECT;

/// Key of the certificates, the same as in Kubernetes' `kube-root-ca.crt`.
pub const CA_KEY: &str = "ca.crt";

/// Label whose value is [`MANAGER`] on own objects. Uninstalling selects them by it.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
pub const MANAGER: &str = "meshmeter-injector";
/// Label with the namespace of the injector that manages the object.
pub const INSTALLED_IN: &str = "meshmeter.io/installed-in";
/// Value of the label [`INJECT`] on a namespace whose pods are injected, as in the webhook's
/// `namespaceSelector`.
const ENABLED: &str = "enabled";
/// Kubernetes' own namespaces: never injected, like the injector's.
const SYSTEM: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// Keys of a `ConfigMap` that are kept, of at most 253 bytes each.
const KEYS_MAX: usize = 8;

/// Wait between writes to a namespace: doubled from first to last while writes fail or another
/// client overwrites them.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_mins(5);
/// After this time without a write the wait starts at [`RETRY_MIN`] again.
const RESET_AFTER: Duration = Duration::from_mins(10);

/// The desired `ConfigMap` of each injected namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CaBundle {
    /// Name of the `ConfigMap`.
    name: String,
    /// Namespace of the injector.
    installed_in: String,
    /// PEM.
    certificates: String,
    /// Digests of a `ConfigMap` that holds just these certificates.
    data: Data,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Namespace {
    /// Labelled for injection.
    pub is_injected: bool,
    /// Being deleted: kube-apiserver rejects new objects in it.
    pub terminating: bool,
}

/// The `MutatingWebhookConfiguration` that injects the pods. Kubernetes deletes the `ConfigMap`s
/// with it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Owner {
    pub name: String,
    pub uid: String,
}

/// A `ConfigMap` of the bundle's name, in a few hundred bytes whatever its size.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ExistingConfigMap {
    pub uid: String,
    pub version: String,
    pub labels: Labels,
    /// `None` if it has binary data or more than `KEYS_MAX` keys.
    pub data: Option<Data>,
    /// Kubernetes only allows deleting it.
    pub immutable: bool,
    pub terminating: bool,
}

/// The labels that show who manages an object.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Labels {
    managed_by: Option<String>,
    installed_in: Option<String>,
}

/// Digests of the values by key.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Data(BTreeMap<String, u64>);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    Nothing,
    Create,
    /// Write the certificates and remove all other keys.
    Update,
    /// The namespace is no longer labelled, or the `ConfigMap` has to be created anew.
    Delete,
    /// The name is taken by a `ConfigMap` of another owner.
    Conflict,
}

/// Exponential backoff per namespace. `now` is monotonic.
#[derive(Debug, Default)]
pub struct Backoff(BTreeMap<String, Attempt>);

#[derive(Clone, Copy, Debug)]
struct Attempt {
    at: Duration,
    wait: Duration,
}

// === impl Namespace ===

impl Namespace {
    pub fn of(
        name: &str,
        labels: &BTreeMap<String, String>,
        terminating: bool,
        installed_in: &str,
    ) -> Self {
        let labelled = labels.get(INJECT).is_some_and(|value| value == ENABLED);
        Self {
            is_injected: labelled && !SYSTEM.contains(&name) && name != installed_in,
            terminating,
        }
    }
}

// === impl CaBundle ===

impl CaBundle {
    pub fn new(name: &str, installed_in: &str, certificates: String) -> Self {
        let data = Data(BTreeMap::from([(CA_KEY.to_owned(), digest(&certificates))]));
        Self {
            name: name.to_owned(),
            installed_in: installed_in.to_owned(),
            certificates,
            data,
        }
    }

    pub fn certificates(&self) -> &str {
        &self.certificates
    }

    /// What to do in a namespace with the `ConfigMap` `existing`.
    pub fn action(
        &self,
        namespace: Option<&Namespace>,
        existing: Option<&ExistingConfigMap>,
    ) -> Action {
        let Some(namespace) = namespace.filter(|namespace| !namespace.terminating) else {
            return Action::Nothing;
        };
        match (namespace.is_injected, existing) {
            (false, None) => Action::Nothing,
            (true, None) => Action::Create,
            (true, Some(existing)) if !self.is_ours(existing) => Action::Conflict,
            (false, Some(existing)) if !self.is_ours(existing) => Action::Nothing,
            // Its deletion event leads to the next action.
            (_, Some(existing)) if existing.terminating => Action::Nothing,
            (false, Some(_)) => Action::Delete,
            (true, Some(existing)) if self.has_content(existing) => Action::Nothing,
            // The update is a merge patch that removes foreign keys by name: it needs all names,
            // and kube-apiserver rejects it on an immutable ConfigMap.
            (true, Some(existing)) if existing.immutable || existing.data.is_none() => {
                Action::Delete
            }
            (true, Some(_)) => Action::Update,
        }
    }

    /// True if `existing` is ours and holds just the certificates.
    pub fn is_current(&self, existing: &ExistingConfigMap) -> bool {
        self.is_ours(existing) && self.has_content(existing)
    }

    fn is_ours(&self, existing: &ExistingConfigMap) -> bool {
        let Labels {
            managed_by,
            installed_in,
        } = &existing.labels;
        managed_by.as_deref() == Some(MANAGER)
            && installed_in.as_deref() == Some(self.installed_in.as_str())
    }

    fn has_content(&self, existing: &ExistingConfigMap) -> bool {
        existing.data.as_ref() == Some(&self.data)
    }

    /// The object for [`Action::Create`].
    pub fn object(&self, namespace: &str, owner: Option<&Owner>) -> Value {
        let mut object = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "namespace": namespace,
                "name": self.name,
                "labels": {MANAGED_BY: MANAGER, INSTALLED_IN: self.installed_in},
            },
            "data": {CA_KEY: self.certificates},
        });
        if let Some(Owner { name, uid }) = owner {
            object["metadata"]["ownerReferences"] = json!([{
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "MutatingWebhookConfiguration",
                "name": name,
                "uid": uid,
            }]);
        }
        object
    }

    /// The merge patch (RFC 7386) for [`Action::Update`]. Foreign labels and annotations stay.
    pub fn patch(&self, existing: &ExistingConfigMap) -> Value {
        let others = existing.data.iter().flat_map(|data| data.0.keys());
        let mut data: Map<_, _> = others.map(|key| (key.clone(), Value::Null)).collect();
        data.insert(CA_KEY.to_owned(), self.certificates.clone().into());
        // With a resourceVersion kube-apiserver answers 409 if it changed since it was read.
        json!({"metadata": {"resourceVersion": existing.version}, "data": data})
    }

    /// The body for [`Action::Delete`], which fails if the object changed since it was read.
    pub fn delete_options(existing: &ExistingConfigMap) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": existing.uid, "resourceVersion": existing.version},
        })
    }
}

// === impl Labels ===

impl Labels {
    pub fn of(labels: &BTreeMap<String, String>) -> Self {
        let [managed_by, installed_in] =
            [MANAGED_BY, INSTALLED_IN].map(|label| labels.get(label).cloned());
        Self {
            managed_by,
            installed_in,
        }
    }
}

// === impl Data ===

impl Data {
    /// `None` for more than `KEYS_MAX` keys.
    pub fn of(data: &BTreeMap<String, String>) -> Option<Self> {
        let digests = data.iter().map(|(key, value)| (key.clone(), digest(value)));
        (data.len() <= KEYS_MAX).then(|| Self(digests.collect()))
    }
}

/// Keyed at random per process, so that nobody can construct another text with the same digest.
fn digest(text: &str) -> u64 {
    static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    KEYS.hash_one(text)
}

// === impl Backoff ===

impl Backoff {
    pub fn is_due(&self, namespace: &str, now: Duration) -> bool {
        self.remaining(namespace, now).is_zero()
    }

    /// Time until `namespace` may be written to.
    pub fn remaining(&self, namespace: &str, now: Duration) -> Duration {
        let due = self
            .0
            .get(namespace)
            .map(|attempt| attempt.at + attempt.wait);
        due.unwrap_or_default().saturating_sub(now)
    }

    /// Records a write, successful or not: two clients that overwrite each other slow down too.
    pub fn record(&mut self, namespace: &str, now: Duration) {
        let last = self.0.get(namespace);
        let last = last.filter(|last| now < last.at + last.wait + RESET_AFTER);
        let wait = last.map_or(RETRY_MIN, |last| (2 * last.wait).min(RETRY_MAX));
        self.0
            .insert(namespace.to_owned(), Attempt { at: now, wait });
    }

    /// New certificates are written without waiting.
    pub fn reset(&mut self) {
        self.0.clear();
    }

    pub fn retain(&mut self, namespaces: &BTreeSet<String>) {
        self.0.retain(|namespace, _| namespaces.contains(namespace));
    }
}

#[cfg(test)]
mod tests;
