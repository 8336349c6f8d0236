//! Pods with what people know them by, page by page, and groups of them: workloads and namespaces.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::directory::label_set::LabelSet;
use crate::directory::namespace::Namespace;
use crate::directory::{Directory, ObjectKey};
use aggregator_core::pod::{Labels, Phase, PodKey};

/// A serving pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    pub key: PodKey,
    pub labels: Labels,
    /// The highest owner: the Deployment, not the `ReplicaSet`.
    pub workload: Option<ObjectKey>,
    /// The condition `Ready`; `None` if it is unknown.
    pub ready: Option<bool>,
    pub phase: Phase,
    /// True if the injector added the filter to it.
    pub injected: bool,
}

/// A page of a list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Items after this page.
    pub remaining: usize,
}

/// Where a page begins: after this namespace and name.
pub(super) type After<'a> = Option<(&'a str, &'a str)>;

// === impl Directory ===

impl Directory {
    /// The serving pods of `namespace`, or of all, whose labels satisfy `matches`, sorted: at most
    /// `limit` of those `after`.
    pub fn members(
        &self,
        namespace: Option<&str>,
        after: After<'_>,
        limit: usize,
        matches: &dyn Fn(&LabelSet) -> bool,
    ) -> Page<Member> {
        let cache = self.cache.read();
        let mut items = Vec::new();
        let mut remaining = 0;
        let within = cache.namespaces.iter();
        for (name, within) in
            within.filter(|(name, _)| namespace.is_none_or(|only| *only == ***name))
        {
            if after.is_some_and(|(after, _)| &**name < after) {
                continue;
            }
            let after = after.filter(|(after, _)| *after == &**name);
            for pod in within.serving_pods(matches) {
                if after.is_some_and(|(_, after)| &**pod <= after) {
                    continue;
                }
                if items.len() < limit {
                    items.extend(within.member(name, pod));
                } else {
                    remaining += 1;
                }
            }
        }
        Page { items, remaining }
    }

    /// A pod that is known.
    pub fn member(&self, pod: &PodKey) -> Option<Member> {
        let cache = self.cache.read();
        let (namespace, within) = cache.namespaces.get_key_value(&pod.namespace)?;
        within.member(namespace, &pod.name)
    }

    /// The serving pods of a workload of any API group, in the order of their names. A pod without
    /// a workload is its own, of the kind `Pod`.
    pub fn pods_of_workload(&self, namespace: &str, kind: &str, name: &str) -> Vec<PodKey> {
        let cache = self.cache.read();
        let Some((namespace, within)) = cache.namespaces.get_key_value(namespace) else {
            return Vec::new();
        };
        let pods = within.serving_pods(&|_| true);
        let pods = pods.filter(|pod| match within.workload_of(pod) {
            Some(owner) => *owner.kind == *kind && *owner.name == *name,
            None => kind == "Pod" && ***pod == *name,
        });
        let pods = pods.map(|pod| PodKey {
            namespace: Arc::clone(namespace),
            name: Arc::clone(pod),
        });
        pods.collect()
    }

    /// The serving pods of `namespace`, or of all, by workload; pods without one are under their
    /// own name, of the kind `Pod`.
    pub fn by_workload(&self, namespace: Option<&str>) -> BTreeMap<WorkloadKey, Vec<PodKey>> {
        let cache = self.cache.read();
        let mut groups: BTreeMap<WorkloadKey, Vec<PodKey>> = BTreeMap::new();
        for (name, within) in &cache.namespaces {
            if namespace.is_some_and(|only| *only != **name) {
                continue;
            }
            for pod in within.serving_pods(&|_| true) {
                let workload = within.workload_of(pod);
                let (group, kind, workload) = match workload {
                    Some(owner) => (owner.group, owner.kind, owner.name),
                    None => ("".into(), "Pod".into(), Arc::clone(pod)),
                };
                let key = WorkloadKey {
                    namespace: Arc::clone(name),
                    name: workload,
                    kind,
                    group,
                };
                groups.entry(key).or_default().push(PodKey {
                    namespace: Arc::clone(name),
                    name: Arc::clone(pod),
                });
            }
        }
        groups
    }

    /// Namespaces that have serving pods, with those, sorted.
    pub fn by_namespace(&self, namespace: Option<&str>) -> BTreeMap<Arc<str>, Vec<PodKey>> {
        let cache = self.cache.read();
        let wanted = cache.namespaces.iter();
        let wanted = wanted.filter(|(name, _)| namespace.is_none_or(|only| *only == ***name));
        let groups = wanted.map(|(name, within)| {
            let pods = within.serving_pods(&|_| true);
            let pods = pods.map(|pod| PodKey {
                namespace: Arc::clone(name),
                name: Arc::clone(pod),
            });
            (Arc::clone(name), pods.collect::<Vec<_>>())
        });
        groups.filter(|(_, pods)| !pods.is_empty()).collect()
    }

    /// The highest owner of a pod; `None` if it has none, or is unknown.
    pub fn workload_of(&self, pod: &PodKey) -> Option<ObjectKey> {
        let cache = self.cache.read();
        let within = cache.namespaces.get(&pod.namespace)?;
        let object = within.workload_of(&pod.name)?;
        Some(ObjectKey {
            namespace: Arc::clone(&pod.namespace),
            object,
        })
    }
}

/// A workload, in the order of lists: by namespace, name and kind.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct WorkloadKey {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    pub kind: Arc<str>,
    /// API group.
    pub group: Arc<str>,
}

// === impl Namespace ===

impl Namespace {
    fn member(&self, namespace: &Arc<str>, name: &Arc<str>) -> Option<Member> {
        let key = PodKey {
            namespace: Arc::clone(namespace),
            name: Arc::clone(name),
        };
        let info = self.pod(&key)?;
        let workload = self.workload_of(name).map(|object| ObjectKey {
            namespace: Arc::clone(namespace),
            object,
        });
        Some(Member {
            key,
            labels: info.labels,
            workload,
            ready: info.ready,
            phase: info.phase,
            injected: info.injected,
        })
    }
}
