//! The `ConfigMap` that each namespace labelled for injection has, with the CAs that its sidecars
//! trust: what is to be done about it, and when.
//!
//! ```text
//! namespace (labelled?) + ConfigMap (owner? content?) -> step -> create, change, remove, refuse
//! ```
//!
//! What is not ours is never written over, and never removed. Ours is what says so by two labels:
//! by whom it is kept, and in which namespace that is installed, so that two installations do not
//! write over each other for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::annotations::INJECT;

/// Key of the certificates, as Kubernetes itself calls it in `kube-root-ca.crt`.
pub const CA_KEY: &str = "ca.crt";

/// Label that says by whom an object is kept, and what it says of ours. All of ours are found, and
/// removed, by it.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// See [`MANAGED_BY`].
pub const MANAGER: &str = "meshmeter-injector";
/// Label that says in which namespace the injector is installed that keeps it.
pub const INSTALLED_IN: &str = "meshmeter.io/installed-in";
/// What the label [`INJECT`] says of a namespace whose pods are injected, as the webhook selects
/// it.
const ASKS: &str = "enabled";
/// A namespace that is never injected, as the one that the injector is in.
const SYSTEM: &str = "kube-system";

/// Keys that are looked at, of at most 253 bytes each.
const KEYS_MAX: usize = 8;

/// Until a namespace is written to again: doubled from the first to the last while that goes on, be
/// it that it fails or that somebody else writes over it.
const AGAIN_MIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_mins(5);
/// After so long without a write the first is enough again.
const CALM_AFTER: Duration = Duration::from_mins(10);

/// What each namespace is to have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CaBundle {
    /// Name of the `ConfigMap`.
    name: String,
    /// The namespace that the injector is in.
    installed_in: String,
    /// PEM.
    certificates: String,
    /// What a `ConfigMap` with just these certificates holds.
    data: Data,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Namespace {
    /// Its pods are to be injected.
    pub asks: bool,
    /// It is being deleted: nothing can be made in it.
    pub ends: bool,
}

/// A `ConfigMap` of the name, in some hundred bytes: there are many, and anybody may fill one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ExistingConfigMap {
    /// Which of all that ever had the name.
    pub uid: String,
    pub version: String,
    /// See [`Labels`].
    pub labels: Labels,
    /// See [`Data`]; `None` of what is no text, or too much to be looked at.
    pub data: Option<Data>,
    /// It cannot be changed, only made anew.
    pub immutable: bool,
    pub ends: bool,
}

/// What the labels say of whose it is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Labels {
    managed_by: Option<String>,
    installed_in: Option<String>,
}

/// Keys, and a digest of what each holds.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Data(BTreeMap<String, u64>);

/// What is to be done in a namespace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// All is as it should be, or nobody's business here.
    Nothing,
    Create,
    /// Put the certificates in it, and take out everything else.
    Change,
    /// Remove it: nobody asks for it any more, or it has to be made anew.
    Remove,
    /// Somebody else has one of the name.
    Refuse,
}

/// When which namespace may be written to. Time is any that never steps.
#[derive(Debug, Default)]
pub struct Backoff(BTreeMap<String, Tried>);

#[derive(Clone, Copy, Debug)]
struct Tried {
    at: Duration,
    wait: Duration,
}

// === impl Namespace ===

impl Namespace {
    /// The namespace of this name and these labels, of an installation in `installed_in`.
    pub fn of(
        name: &str,
        labels: &BTreeMap<String, String>,
        ends: bool,
        installed_in: &str,
    ) -> Self {
        let asks = labels.get(INJECT).is_some_and(|value| value == ASKS);
        Self {
            asks: asks && ![SYSTEM, installed_in].contains(&name),
            ends,
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

    /// What is to be done in a namespace that has `held`. Of a namespace that is not known nothing
    /// is.
    pub fn step(&self, namespace: Option<&Namespace>, held: Option<&ExistingConfigMap>) -> Step {
        let Some(namespace) = namespace.filter(|namespace| !namespace.ends) else {
            return Step::Nothing;
        };
        match (namespace.asks, held) {
            (false, None) => Step::Nothing,
            (true, None) => Step::Create,
            (asks, Some(held)) if !self.is_ours(held) => {
                if asks {
                    Step::Refuse
                } else {
                    Step::Nothing
                }
            }
            (_, Some(held)) if held.ends => Step::Nothing,
            (false, Some(_)) => Step::Remove,
            (true, Some(held)) if self.is_in(held) => Step::Nothing,
            (true, Some(held)) if held.immutable || held.data.is_none() => Step::Remove,
            (true, Some(_)) => Step::Change,
        }
    }

    /// True if `held` is one of ours, with the certificates.
    pub fn is_kept(&self, held: &ExistingConfigMap) -> bool {
        self.is_ours(held) && self.is_in(held)
    }

    fn is_ours(&self, held: &ExistingConfigMap) -> bool {
        let Labels {
            managed_by,
            installed_in,
        } = &held.labels;
        managed_by.as_deref() == Some(MANAGER)
            && installed_in.as_deref() == Some(self.installed_in.as_str())
    }

    fn is_in(&self, held: &ExistingConfigMap) -> bool {
        held.data.as_ref() == Some(&self.data)
    }

    /// The object that [`Step::Create`] makes.
    pub fn object(&self, namespace: &str) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "namespace": namespace,
                "name": self.name,
                "labels": {MANAGED_BY: MANAGER, INSTALLED_IN: self.installed_in},
            },
            "data": {CA_KEY: self.certificates},
        })
    }

    /// The merge patch (RFC 7386) that [`Step::Change`] is: taken only if it is still as it is
    /// known. Labels and annotations that others put on it stay.
    pub fn change(&self, held: &ExistingConfigMap) -> Value {
        let others = held.data.iter().flat_map(|data| data.0.keys());
        let mut data: Map<_, _> = others.map(|key| (key.clone(), Value::Null)).collect();
        data.insert(CA_KEY.to_owned(), self.certificates.clone().into());
        json!({"metadata": {"resourceVersion": held.version}, "data": data})
    }

    /// What [`Step::Remove`] asks for: only if it is still as it is known.
    pub fn removal(held: &ExistingConfigMap) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": held.uid, "resourceVersion": held.version},
        })
    }
}

// === impl Labels ===

impl Labels {
    /// Of all labels of an object.
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
    /// Of an object's data, unless there are more keys than ours would have if somebody added some.
    pub fn of(data: &BTreeMap<String, String>) -> Option<Self> {
        let digests = data.iter().map(|(key, value)| (key.clone(), digest(value)));
        (data.len() <= KEYS_MAX).then(|| Self(digests.collect()))
    }
}

/// Keyed anew by each process: nobody can prepare another text of the same digest.
fn digest(text: &str) -> u64 {
    static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    KEYS.hash_one(text)
}

// === impl Backoff ===

impl Backoff {
    /// True if `namespace` may be written to at `now`.
    pub fn is_due(&self, namespace: &str, now: Duration) -> bool {
        self.remaining(namespace, now).is_zero()
    }

    /// How long that is not so.
    pub fn remaining(&self, namespace: &str, now: Duration) -> Duration {
        let due = self.0.get(namespace).map(|tried| tried.at + tried.wait);
        due.unwrap_or_default().saturating_sub(now)
    }

    /// It was written to, whatever came of it.
    pub fn tried(&mut self, namespace: &str, now: Duration) {
        let before = self.0.get(namespace);
        let before = before.filter(|tried| now < tried.at + tried.wait + CALM_AFTER);
        let wait = before.map_or(AGAIN_MIN, |tried| (2 * tried.wait).min(AGAIN_MAX));
        self.0.insert(namespace.to_owned(), Tried { at: now, wait });
    }

    /// What is written is something else from now on: nobody waits for it.
    pub fn reset(&mut self) {
        self.0.clear();
    }

    /// Forgets all namespaces but these.
    pub fn retain(&mut self, namespaces: &BTreeSet<String>) {
        self.0.retain(|namespace, _| namespaces.contains(namespace));
    }
}

#[cfg(test)]
mod tests;
