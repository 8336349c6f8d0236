//! The directory of pods, services, owners and autoscalers: pods from `Hello` or a file and
//! autoscalers from a file in standalone mode, all of them from watches in a cluster.
//!
//! Objects are indexed by namespace, and pods by their labels and owners as well. So a query reads
//! one namespace, and every pod of it only if its selector has no equality.

mod autoscalers;
mod deleted;
mod label_index;
mod label_set;
mod members;
mod namespace;
mod object;
mod refusal;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::directory::deleted::DeletedPods;
use crate::directory::label_set::Texts;
use crate::directory::namespace::Namespace;
use aggregator_core::limits::{
    IPS_PER_POD_MAX, LABELS_BYTES_MAX, LABELS_MAX, OWNERS_MAX, PODS_MAX, SERVICES_MAX,
};
use aggregator_core::pod::{Labels, PodInfo, PodKey, Readiness};

pub use autoscalers::{AutoscalerCondition, AutoscalerInfo, AutoscalerStatus};
pub use deleted::PodLife;
pub use label_set::LabelSet;
pub use members::{Member, Page, WorkloadKey};
pub use object::{ObjectKey, ObjectRef, OwnerInfo, ServiceInfo};
pub use refusal::DirectoryRefusal;

#[cfg(test)]
mod tests;

/// Pods, services and owners that exist. Writers and readers share it by reference.
#[derive(Debug, Default)]
pub struct Directory {
    /// Locked for one change or one query.
    cache: RwLock<CachedPods>,
    /// Locked for one change or one query, never while `cache` is.
    autoscalers: RwLock<autoscalers::Autoscalers>,
    /// Changes of `autoscalers` so far.
    autoscaler_changes: AtomicU64,
    /// By position in [`DirectoryRefusal::REASONS`].
    refused: [AtomicU64; DirectoryRefusal::REASONS.len()],
}

#[derive(Debug, Default)]
struct CachedPods {
    namespaces: BTreeMap<Arc<str>, Namespace>,
    texts: Texts,
    sizes: Sizes,
    /// Canonical addresses with their number of pods: those on the host network share one.
    addresses: HashMap<IpAddr, u32>,
    deleted: DeletedPods,
}

/// Numbers of objects in a directory.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sizes {
    /// Including terminating and ended pods.
    pub pods: usize,
    pub services: usize,
    pub owners: usize,
    pub autoscalers: usize,
}

/// The pods of a service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ServicePods {
    /// The service does not exist.
    Unknown,
    /// The service has no selector: its endpoints are managed by hand or by a controller.
    WithoutSelector,
    /// Sorted by name.
    Pods(Vec<PodKey>),
}

// === impl Directory ===

impl Directory {
    /// Adds or replaces a pod. On an error the previous entry stays.
    pub fn upsert(&self, info: PodInfo) -> Result<(), DirectoryRefusal> {
        self.upsert_pod(info)
            .inspect_err(|refusal| self.count(refusal))
    }

    fn upsert_pod(&self, info: PodInfo) -> Result<(), DirectoryRefusal> {
        check_labels(&info.labels, || format!("pod {}", info.key))?;
        if info.ips.len() > IPS_PER_POD_MAX {
            return Err(DirectoryRefusal::Ips(info.key));
        }
        let mut cache = self.cache.write();
        let CachedPods {
            namespaces,
            texts,
            sizes,
            addresses,
            deleted,
        } = &mut *cache;
        let namespace = namespaces.get(&info.key.namespace);
        if !namespace.is_some_and(|namespace| namespace.has_pod(&info.key.name)) {
            if sizes.pods >= PODS_MAX {
                return Err(DirectoryRefusal::Pods(info.key));
            }
            sizes.pods += 1;
        }
        let namespace = namespaces
            .entry(Arc::clone(&info.key.namespace))
            .or_default();
        let name = Arc::clone(&info.key.name);
        // Before the pod is replaced: its old addresses are read from the old entry.
        release(addresses, namespace.addresses(&name));
        deleted.replaced(namespace.uid(&name), &info.uid);
        namespace.upsert_pod(info, texts);
        for address in namespace.addresses(&name) {
            *addresses.entry(address).or_default() += 1;
        }
        Ok(())
    }

    /// True if the pod was there.
    pub fn remove(&self, key: &PodKey) -> bool {
        let mut cache = self.cache.write();
        let (mut addresses, mut uid) = (Vec::new(), None);
        let removed = cache.change(&key.namespace, |namespace, texts| {
            addresses.extend(namespace.addresses(&key.name));
            uid = namespace.uid(&key.name).cloned();
            namespace.remove_pod(&key.name, texts)
        });
        release(&mut cache.addresses, addresses);
        cache.deleted.removed(uid);
        cache.sizes.pods -= usize::from(removed);
        removed
    }

    /// Adds or replaces a service. On an error the previous entry stays.
    pub fn upsert_service(&self, info: ServiceInfo) -> Result<(), DirectoryRefusal> {
        self.try_upsert_service(info)
            .inspect_err(|refusal| self.count(refusal))
    }

    fn try_upsert_service(&self, info: ServiceInfo) -> Result<(), DirectoryRefusal> {
        let ServiceInfo {
            namespace,
            name,
            selector,
        } = info;
        check_labels(&selector, || format!("service {namespace}/{name}"))?;
        let mut cache = self.cache.write();
        let CachedPods {
            namespaces,
            texts,
            sizes,
            ..
        } = &mut *cache;
        if !namespaces
            .get(&namespace)
            .is_some_and(|namespace| namespace.has_service(&name))
        {
            if sizes.services >= SERVICES_MAX {
                return Err(DirectoryRefusal::Services(format!("{namespace}/{name}")));
            }
            sizes.services += 1;
        }
        let selector = LabelSet::new(&selector, texts);
        namespaces
            .entry(namespace)
            .or_default()
            .upsert_service(name, selector, texts);
        Ok(())
    }

    /// True if the service was there.
    pub fn remove_service(&self, namespace: &str, name: &str) -> bool {
        let mut cache = self.cache.write();
        let removed = cache.change(namespace, |namespace, texts| {
            namespace.remove_service(name, texts)
        });
        cache.sizes.services -= usize::from(removed);
        removed
    }

    /// Adds or replaces an owner. On an error the previous entry stays.
    pub fn upsert_owner(&self, info: OwnerInfo) -> Result<(), DirectoryRefusal> {
        let mut cache = self.cache.write();
        let CachedPods {
            namespaces, sizes, ..
        } = &mut *cache;
        let ObjectKey { namespace, object } = &info.object;
        if !namespaces
            .get(namespace)
            .is_some_and(|namespace| namespace.has_owner(object))
        {
            if sizes.owners >= OWNERS_MAX {
                let refusal = DirectoryRefusal::Owners(info.object);
                self.count(&refusal);
                return Err(refusal);
            }
            sizes.owners += 1;
        }
        namespaces
            .entry(Arc::clone(namespace))
            .or_default()
            .upsert_owner(info);
        Ok(())
    }

    /// True if the owner was there. Objects that it owned keep their owner reference.
    pub fn remove_owner(&self, key: &ObjectKey) -> bool {
        let mut cache = self.cache.write();
        let removed = cache.change(&key.namespace, |namespace, _| {
            namespace.remove_owner(&key.object)
        });
        cache.sizes.owners -= usize::from(removed);
        removed
    }

    /// The serving pods of `namespace` whose labels satisfy `matches`, sorted by name. Serving
    /// means neither terminating nor ended.
    pub fn select(&self, namespace: &str, matches: &dyn Fn(&LabelSet) -> bool) -> Vec<PodKey> {
        let cache = self.cache.read();
        let Some((namespace, within)) = cache.namespaces.get_key_value(namespace) else {
            return Vec::new();
        };
        sorted(namespace, within.select(&[], matches))
    }

    /// [`Self::select`] over only the pods with all labels of `equals`, by the index.
    pub fn select_equal(
        &self,
        namespace: &str,
        equals: &[(&str, &str)],
        matches: &dyn Fn(&LabelSet) -> bool,
    ) -> Vec<PodKey> {
        let cache = self.cache.read();
        let Some((namespace, within)) = cache.namespaces.get_key_value(namespace) else {
            return Vec::new();
        };
        sorted(namespace, within.select(equals, matches))
    }

    /// The serving pods that the service `name` selects.
    pub fn pods_of_service(&self, namespace: &str, name: &str) -> ServicePods {
        let cache = self.cache.read();
        let found = cache
            .namespaces
            .get_key_value(namespace)
            .and_then(|(namespace, within)| Some((namespace, within, within.service(name)?)));
        let Some((namespace, within, selector)) = found else {
            return ServicePods::Unknown;
        };
        match within.selected_by(selector) {
            Some(names) => ServicePods::Pods(sorted(namespace, names)),
            None => ServicePods::WithoutSelector,
        }
    }

    /// The serving pods that `owner` controls, directly or through other owners, sorted by name;
    /// `None` if the owner is unknown.
    pub fn pods_of_owner(&self, owner: &ObjectKey) -> Option<Vec<PodKey>> {
        let cache = self.cache.read();
        let (namespace, within) = cache.namespaces.get_key_value(&owner.namespace)?;
        let names = within.owned_by(&owner.object)?;
        Some(sorted(namespace, names))
    }

    /// The owners of a pod: its controller, that one's controller, and so on.
    pub fn owners_of(&self, key: &PodKey) -> Vec<ObjectRef> {
        let cache = self.cache.read();
        let within = cache.namespaces.get(&key.namespace);
        within.map_or_else(Vec::new, |within| within.owners_of(&key.name))
    }

    /// One pod, serving or not.
    pub fn get(&self, key: &PodKey) -> Option<PodInfo> {
        self.cache.read().namespaces.get(&key.namespace)?.pod(key)
    }

    /// Whether the pod gets requests; `None` if the pod is unknown.
    pub fn serving(&self, key: &PodKey) -> Option<Readiness> {
        self.cache
            .read()
            .namespaces
            .get(&key.namespace)?
            .serving(&key.name)
    }

    /// The condition `Ready` of a pod; `None` if the pod or the condition is unknown.
    pub fn is_ready(&self, key: &PodKey) -> Option<bool> {
        let cache = self.cache.read();
        let within = cache.namespaces.get(&key.namespace)?;
        within.is_ready(&key.name)
    }

    /// True if the pod exists and is neither terminating nor ended.
    pub fn is_serving(&self, key: &PodKey) -> bool {
        let cache = self.cache.read();
        let within = cache.namespaces.get(&key.namespace);
        within.is_some_and(|within| within.is_serving(&key.name))
    }

    /// Names of the pods in `namespace` that are accepted, but do not run yet, sorted.
    pub fn pending_pods(&self, namespace: &str) -> Vec<Arc<str>> {
        let cache = self.cache.read();
        let within = cache.namespaces.get(namespace);
        let names = within.into_iter().flat_map(Namespace::pending);
        names.cloned().collect()
    }

    /// True if `address`, in its canonical form, is one of a pod that has not ended.
    pub fn has_address(&self, address: &IpAddr) -> bool {
        self.cache.read().addresses.contains_key(address)
    }

    /// True if any object is in `namespace`.
    pub fn has_namespace(&self, namespace: &str) -> bool {
        self.cache.read().namespaces.contains_key(namespace)
    }

    /// Every pod, sorted.
    pub fn pod_keys(&self) -> Vec<PodKey> {
        let cache = self.cache.read();
        let pods = cache.namespaces.iter().flat_map(|(namespace, within)| {
            within.pod_names().map(|name| PodKey {
                namespace: Arc::clone(namespace),
                name: Arc::clone(name),
            })
        });
        pods.collect()
    }

    /// Pods whose sidecar should report, sorted: injected, running and not terminating.
    pub fn reporters(&self) -> Vec<PodKey> {
        let cache = self.cache.read();
        let pods = cache.namespaces.iter().flat_map(|(namespace, within)| {
            within.reporters().map(|name| PodKey {
                namespace: Arc::clone(namespace),
                name: Arc::clone(name),
            })
        });
        pods.collect()
    }

    /// Namespace and name of every service, sorted.
    pub fn service_keys(&self) -> Vec<(Arc<str>, Arc<str>)> {
        let cache = self.cache.read();
        let services = cache.namespaces.iter().flat_map(|(namespace, within)| {
            let names = within.service_names();
            names.map(|name| (Arc::clone(namespace), Arc::clone(name)))
        });
        services.collect()
    }

    /// Every owner, sorted.
    pub fn owner_keys(&self) -> Vec<ObjectKey> {
        let cache = self.cache.read();
        let owners = cache.namespaces.iter().flat_map(|(namespace, within)| {
            within.owners().map(|object| ObjectKey {
                namespace: Arc::clone(namespace),
                object: object.clone(),
            })
        });
        owners.collect()
    }

    pub fn len(&self) -> usize {
        self.sizes().pods
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn sizes(&self) -> Sizes {
        let autoscalers = self.autoscalers.read().len();
        Sizes {
            autoscalers,
            ..self.cache.read().sizes
        }
    }

    /// Refusals by reason, since the start.
    pub fn refused(&self) -> Vec<(&'static str, u64)> {
        let counts = self
            .refused
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        DirectoryRefusal::REASONS.into_iter().zip(counts).collect()
    }

    fn count(&self, refusal: &DirectoryRefusal) {
        let reason = refusal.reason();
        let position = DirectoryRefusal::REASONS.iter().position(|r| *r == reason);
        if let Some(count) = position.and_then(|position| self.refused.get(position)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

// === impl CachedPods ===

impl CachedPods {
    /// Changes a namespace, if it exists, and removes it once it is empty.
    fn change(
        &mut self,
        namespace: &str,
        change: impl FnOnce(&mut Namespace, &mut Texts) -> bool,
    ) -> bool {
        let Some(within) = self.namespaces.get_mut(namespace) else {
            return false;
        };
        let changed = change(within, &mut self.texts);
        if within.is_empty() {
            self.namespaces.remove(namespace);
        }
        changed
    }
}

/// Counts one pod less for each address.
fn release(counts: &mut HashMap<IpAddr, u32>, addresses: impl IntoIterator<Item = IpAddr>) {
    for address in addresses {
        if let Some(pods) = counts.get_mut(&address) {
            *pods -= 1;
            if *pods == 0 {
                counts.remove(&address);
            }
        }
    }
}

fn check_labels(labels: &Labels, whose: impl Fn() -> String) -> Result<(), DirectoryRefusal> {
    let bytes: usize = labels
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    if labels.len() > LABELS_MAX || bytes > LABELS_BYTES_MAX {
        return Err(DirectoryRefusal::Labels(whose()));
    }
    Ok(())
}

fn sorted(namespace: &Arc<str>, mut names: Vec<Arc<str>>) -> Vec<PodKey> {
    names.sort_unstable();
    let keys = names.into_iter().map(|name| PodKey {
        namespace: Arc::clone(namespace),
        name,
    });
    keys.collect()
}
