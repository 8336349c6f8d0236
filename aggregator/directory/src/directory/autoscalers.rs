//! `HorizontalPodAutoscalers` in the directory: what each scales, its specification, and its
//! status. They have a lock of their own, since reads of metrics never need them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use autoscaler::Hpa;

use crate::directory::{Directory, DirectoryRefusal, ObjectKey};
use aggregator_core::limits::{AUTOSCALER_BYTES_MAX, AUTOSCALERS_BYTES_MAX, AUTOSCALERS_MAX};
use aggregator_core::pod::PodKey;

/// A `HorizontalPodAutoscaler`.
#[derive(Clone, Debug, PartialEq)]
pub struct AutoscalerInfo {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    /// `spec.scaleTargetRef`
    pub target: ObjectKey,
    /// `apiVersion` of the target.
    pub target_api_version: Arc<str>,
    /// `spec.minReplicas`
    pub min_replicas: u32,
    /// `spec.maxReplicas`
    pub max_replicas: u32,
    /// For the arithmetic; the error says why it cannot be done.
    pub spec: Result<Hpa, String>,
    /// About the bytes of the specification.
    pub spec_bytes: usize,
    /// `None` before the autoscaler has written one.
    pub status: Option<AutoscalerStatus>,
}

/// `status` of a `HorizontalPodAutoscaler`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AutoscalerStatus {
    pub current_replicas: u32,
    pub desired_replicas: u32,
    /// Time (RFC 3339) at which it last scaled; "" if it never did.
    pub last_scale_time: String,
    /// By type.
    pub conditions: BTreeMap<String, AutoscalerCondition>,
}

/// One of `status.conditions`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AutoscalerCondition {
    /// `True`, `False` or `Unknown`.
    pub status: String,
    pub reason: String,
    pub message: String,
}

/// All of them, by namespace and name.
#[derive(Debug, Default)]
pub(super) struct Autoscalers {
    namespaces: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Arc<AutoscalerInfo>>>,
    count: usize,
    bytes: usize,
}

// === impl Directory ===

impl Directory {
    /// Adds or replaces an autoscaler. On an error the previous entry stays.
    pub fn upsert_autoscaler(&self, info: AutoscalerInfo) -> Result<(), DirectoryRefusal> {
        let changed = self.autoscalers.write().upsert(info);
        match changed {
            Ok(true) => {
                self.autoscaler_changes.fetch_add(1, Ordering::Release);
                Ok(())
            }
            Ok(false) => Ok(()),
            Err(refusal) => {
                self.count(&refusal);
                Err(refusal)
            }
        }
    }

    /// True if the autoscaler was there.
    pub fn remove_autoscaler(&self, namespace: &str, name: &str) -> bool {
        let removed = self.autoscalers.write().remove(namespace, name);
        if removed {
            self.autoscaler_changes.fetch_add(1, Ordering::Release);
        }
        removed
    }

    pub fn autoscaler(&self, namespace: &str, name: &str) -> Option<Arc<AutoscalerInfo>> {
        let autoscalers = self.autoscalers.read();
        autoscalers.namespaces.get(namespace)?.get(name).cloned()
    }

    /// The autoscalers of `namespace`, sorted by name.
    pub fn autoscalers_of(&self, namespace: &str) -> Vec<Arc<AutoscalerInfo>> {
        let autoscalers = self.autoscalers.read();
        let within = autoscalers.namespaces.get(namespace);
        within
            .into_iter()
            .flat_map(BTreeMap::values)
            .cloned()
            .collect()
    }

    /// The autoscalers of `namespace` that `fit`, at most `max` of them, sorted by name.
    pub fn fitting_autoscalers(
        &self,
        namespace: &str,
        max: usize,
        fit: impl Fn(&AutoscalerInfo) -> bool,
    ) -> Vec<Arc<AutoscalerInfo>> {
        let autoscalers = self.autoscalers.read();
        let within = autoscalers.namespaces.get(namespace);
        let all = within.into_iter().flat_map(BTreeMap::values);
        all.filter(|info| fit(info)).take(max).cloned().collect()
    }

    /// The autoscalers that scale `target`, sorted by name: more than one is a mistake, which is
    /// shown.
    pub fn autoscalers_for(&self, target: &ObjectKey) -> Vec<Arc<AutoscalerInfo>> {
        let mut found = self.autoscalers_of(&target.namespace);
        found.retain(|info| info.target == *target);
        found
    }

    /// Every autoscaler, sorted by namespace and name.
    pub fn autoscalers(&self) -> Vec<Arc<AutoscalerInfo>> {
        let autoscalers = self.autoscalers.read();
        let all = autoscalers.namespaces.values();
        all.flat_map(BTreeMap::values).cloned().collect()
    }

    /// The serving pods of what the autoscaler scales, sorted by name; `None` if the directory does
    /// not know it.
    pub fn pods_of_autoscaler(&self, info: &AutoscalerInfo) -> Option<Vec<PodKey>> {
        self.pods_of_owner(&info.target)
    }

    /// Ready pods of what the autoscaler scales; `None` if they are not known.
    pub fn ready_pods_of(&self, info: &AutoscalerInfo) -> Option<u32> {
        let pods = self.pods_of_autoscaler(info)?;
        let ready = pods.iter().filter(|pod| self.is_ready(pod) == Some(true));
        u32::try_from(ready.count()).ok()
    }

    /// A number that rises with every change of an autoscaler.
    pub fn autoscaler_changes(&self) -> u64 {
        self.autoscaler_changes.load(Ordering::Acquire)
    }
}

// === impl Autoscalers ===

impl Autoscalers {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// True if it is new or another than before.
    fn upsert(&mut self, info: AutoscalerInfo) -> Result<bool, DirectoryRefusal> {
        let name = format!("{}/{}", info.namespace, info.name);
        let bytes = info.bytes();
        if bytes > AUTOSCALER_BYTES_MAX {
            return Err(DirectoryRefusal::AutoscalerSize { name, bytes });
        }
        let known = self
            .namespaces
            .get(&info.namespace)
            .and_then(|within| within.get(&info.name));
        if known.is_some_and(|known| **known == info) {
            return Ok(false);
        }
        let before = known.map(|known| known.bytes());
        let total = self.bytes - before.unwrap_or_default() + bytes;
        let full = before.is_none() && self.count >= AUTOSCALERS_MAX;
        if full || total > AUTOSCALERS_BYTES_MAX {
            return Err(DirectoryRefusal::Autoscalers(name));
        }
        self.bytes = total;
        self.count += usize::from(before.is_none());
        self.namespaces
            .entry(Arc::clone(&info.namespace))
            .or_default()
            .insert(Arc::clone(&info.name), Arc::new(info));
        Ok(true)
    }

    fn remove(&mut self, namespace: &str, name: &str) -> bool {
        let Some(within) = self.namespaces.get_mut(namespace) else {
            return false;
        };
        let Some(info) = within.remove(name) else {
            return false;
        };
        if within.is_empty() {
            self.namespaces.remove(namespace);
        }
        self.count -= 1;
        self.bytes -= info.bytes();
        true
    }
}

// === impl AutoscalerInfo ===

impl AutoscalerInfo {
    /// About the bytes that it takes.
    fn bytes(&self) -> usize {
        let status = self.status.iter().flat_map(|status| &status.conditions);
        let conditions = status.map(|(kind, condition)| {
            let AutoscalerCondition {
                status,
                reason,
                message,
            } = condition;
            kind.len() + status.len() + reason.len() + message.len()
        });
        self.spec_bytes + conditions.sum::<usize>()
    }
}
