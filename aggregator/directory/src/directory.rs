//! Which pods, services and owners exist: pods from `Hello` and a file in standalone mode, all from
//! watches in a cluster.
//!
//! Everything is held by namespace, and pods by their labels and by their owners, so that no
//! question looks at more than one namespace, and none at every pod of it but one whose selector
//! has no equality.

mod label_index;
mod label_set;
mod namespace;
mod object;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use thiserror::Error;

use crate::directory::label_set::Texts;
use crate::directory::namespace::Namespace;
use aggregator_core::limits::{
    IPS_PER_POD_MAX, LABELS_BYTES_MAX, LABELS_MAX, OWNERS_MAX, PODS_MAX, SERVICES_MAX,
};
use aggregator_core::pod::{Labels, PodInfo, PodKey, Readiness};

pub use label_set::LabelSet;
pub use object::{ObjectKey, ObjectRef, OwnerInfo, ServiceInfo};

#[cfg(test)]
mod tests;

/// Pods, services and owners that exist. Writers and readers share it by reference.
#[derive(Debug, Default)]
pub struct Directory {
    /// Guards everything but the counters; held for one change or one question.
    known: RwLock<CachedPods>,
    /// By position in [`DirectoryRefusal::REASONS`].
    refused: [AtomicU64; DirectoryRefusal::REASONS.len()],
}

#[derive(Debug, Default)]
struct CachedPods {
    namespaces: BTreeMap<Arc<str>, Namespace>,
    texts: Texts,
    sizes: Sizes,
    /// In their canonical form, with how many pods have each: those of the host network share
    /// theirs.
    addresses: HashMap<IpAddr, u32>,
}

/// How much a directory holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sizes {
    /// Pods, those that ended and those that are terminating included.
    pub pods: usize,
    pub services: usize,
    pub owners: usize,
}

/// The pods of a service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ServicePods {
    /// There is no such service.
    Unknown,
    /// The service has no selector: its endpoints are made by someone else.
    WithoutSelector,
    /// Those that it selects, sorted by name.
    Pods(Vec<PodKey>),
}

/// Why something was not taken into the directory.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum DirectoryRefusal {
    #[error("pod {0}: the directory holds {PODS_MAX} pods already")]
    Pods(PodKey),
    /// Too many labels, or too long ones, on a pod or in the selector of a service.
    #[error("{0}: at most {LABELS_MAX} labels of together {LABELS_BYTES_MAX} bytes are taken")]
    Labels(String),
    #[error("pod {0}: at most {IPS_PER_POD_MAX} addresses are taken")]
    Ips(PodKey),
    #[error("service {0}: the directory holds {SERVICES_MAX} services already")]
    Services(String),
    #[error("{0}: the directory holds {OWNERS_MAX} owners already")]
    Owners(ObjectKey),
}

// === impl Directory ===

impl Directory {
    /// Adds a pod or replaces what was known of it. What cannot be added is refused, and what was
    /// known stays.
    pub fn upsert(&self, info: PodInfo) -> Result<(), DirectoryRefusal> {
        self.upsert_pod(info)
            .inspect_err(|refusal| self.count(refusal))
    }

    fn upsert_pod(&self, info: PodInfo) -> Result<(), DirectoryRefusal> {
        check_labels(&info.labels, || format!("pod {}", info.key))?;
        if info.ips.len() > IPS_PER_POD_MAX {
            return Err(DirectoryRefusal::Ips(info.key));
        }
        let mut known = self.known.write();
        let CachedPods {
            namespaces,
            texts,
            sizes,
            addresses,
        } = &mut *known;
        let namespace = namespaces.get(&info.key.namespace);
        if !namespace.is_some_and(|known| known.has_pod(&info.key.name)) {
            if sizes.pods >= PODS_MAX {
                return Err(DirectoryRefusal::Pods(info.key));
            }
            sizes.pods += 1;
        }
        let namespace = namespaces
            .entry(Arc::clone(&info.key.namespace))
            .or_default();
        let name = Arc::clone(&info.key.name);
        release(addresses, namespace.addresses(&name));
        namespace.upsert_pod(info, texts);
        for address in namespace.addresses(&name) {
            *addresses.entry(address).or_default() += 1;
        }
        Ok(())
    }

    /// Takes a pod out; true if it was there.
    pub fn remove(&self, key: &PodKey) -> bool {
        let mut known = self.known.write();
        let mut addresses = Vec::new();
        let removed = known.change(&key.namespace, |namespace, texts| {
            addresses.extend(namespace.addresses(&key.name));
            namespace.remove_pod(&key.name, texts)
        });
        release(&mut known.addresses, addresses);
        known.sizes.pods -= usize::from(removed);
        removed
    }

    /// Adds a service or replaces what was known of it.
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
        let mut known = self.known.write();
        let CachedPods {
            namespaces,
            texts,
            sizes,
            ..
        } = &mut *known;
        if !namespaces
            .get(&namespace)
            .is_some_and(|known| known.has_service(&name))
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

    /// Takes a service out; true if it was there.
    pub fn remove_service(&self, namespace: &str, name: &str) -> bool {
        let mut known = self.known.write();
        let removed = known.change(namespace, |namespace, texts| {
            namespace.remove_service(name, texts)
        });
        known.sizes.services -= usize::from(removed);
        removed
    }

    /// Adds an owner or replaces what was known of it.
    pub fn upsert_owner(&self, info: OwnerInfo) -> Result<(), DirectoryRefusal> {
        let mut known = self.known.write();
        let CachedPods {
            namespaces, sizes, ..
        } = &mut *known;
        let ObjectKey { namespace, object } = &info.object;
        if !namespaces
            .get(namespace)
            .is_some_and(|known| known.has_owner(object))
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

    /// Takes an owner out; true if it was there. What it owned keeps naming it.
    pub fn remove_owner(&self, key: &ObjectKey) -> bool {
        let mut known = self.known.write();
        let removed = known.change(&key.namespace, |namespace, _| {
            namespace.remove_owner(&key.object)
        });
        known.sizes.owners -= usize::from(removed);
        removed
    }

    /// The serving pods of `namespace` whose labels satisfy `matches`, sorted by name: those that
    /// exist, are not terminating and have not ended.
    pub fn select(&self, namespace: &str, matches: &dyn Fn(&LabelSet) -> bool) -> Vec<PodKey> {
        let known = self.known.read();
        let Some((namespace, within)) = known.namespaces.get_key_value(namespace) else {
            return Vec::new();
        };
        sorted(namespace, within.select(&[], matches))
    }

    /// As [`Self::select`], where `matches` holds only for pods that have all labels of `equals`:
    /// others are not even looked at.
    pub fn select_equal(
        &self,
        namespace: &str,
        equals: &[(&str, &str)],
        matches: &dyn Fn(&LabelSet) -> bool,
    ) -> Vec<PodKey> {
        let known = self.known.read();
        let Some((namespace, within)) = known.namespaces.get_key_value(namespace) else {
            return Vec::new();
        };
        sorted(namespace, within.select(equals, matches))
    }

    /// The serving pods that the service `name` selects.
    pub fn pods_of_service(&self, namespace: &str, name: &str) -> ServicePods {
        let known = self.known.read();
        let found = known
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

    /// The serving pods that `owner` controls, itself or through owners of its own, sorted by name;
    /// `None` if nothing is known of it.
    pub fn pods_of_owner(&self, owner: &ObjectKey) -> Option<Vec<PodKey>> {
        let known = self.known.read();
        let (namespace, within) = known.namespaces.get_key_value(&owner.namespace)?;
        let names = within.owned_by(&owner.object)?;
        Some(sorted(namespace, names))
    }

    /// What is known of one pod, serving or not.
    pub fn get(&self, key: &PodKey) -> Option<PodInfo> {
        self.known.read().namespaces.get(&key.namespace)?.pod(key)
    }

    /// Whether the pod gets requests; `None` if it is unknown.
    pub fn serving(&self, key: &PodKey) -> Option<Readiness> {
        self.known
            .read()
            .namespaces
            .get(&key.namespace)?
            .serving(&key.name)
    }

    /// True if the pod may serve, now or soon: known, not terminating, not ended.
    pub fn is_serving(&self, key: &PodKey) -> bool {
        let known = self.known.read();
        let within = known.namespaces.get(&key.namespace);
        within.is_some_and(|within| within.is_serving(&key.name))
    }

    /// True if `address`, in its canonical form, is one of a pod that has not ended.
    pub fn has_address(&self, address: &IpAddr) -> bool {
        self.known.read().addresses.contains_key(address)
    }

    /// True if something is known to be in `namespace`.
    pub fn has_namespace(&self, namespace: &str) -> bool {
        self.known.read().namespaces.contains_key(namespace)
    }

    /// Every pod, sorted: for someone who has a new list of all and wants to remove what is not in
    /// it.
    pub fn pod_keys(&self) -> Vec<PodKey> {
        let known = self.known.read();
        let pods = known.namespaces.iter().flat_map(|(namespace, within)| {
            within.pod_names().map(|name| PodKey {
                namespace: Arc::clone(namespace),
                name: Arc::clone(name),
            })
        });
        pods.collect()
    }

    /// Every pod that is injected, runs and is not terminating, sorted: whose sidecar should
    /// report.
    pub fn reporters(&self) -> Vec<PodKey> {
        let known = self.known.read();
        let pods = known.namespaces.iter().flat_map(|(namespace, within)| {
            within.reporters().map(|name| PodKey {
                namespace: Arc::clone(namespace),
                name: Arc::clone(name),
            })
        });
        pods.collect()
    }

    /// Namespace and name of every service, sorted.
    pub fn service_keys(&self) -> Vec<(Arc<str>, Arc<str>)> {
        let known = self.known.read();
        let services = known.namespaces.iter().flat_map(|(namespace, within)| {
            let names = within.service_names();
            names.map(|name| (Arc::clone(namespace), Arc::clone(name)))
        });
        services.collect()
    }

    /// Every owner, sorted.
    pub fn owner_keys(&self) -> Vec<ObjectKey> {
        let known = self.known.read();
        let owners = known.namespaces.iter().flat_map(|(namespace, within)| {
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

    /// True if no pod exists.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How much of everything there is.
    pub fn sizes(&self) -> Sizes {
        self.known.read().sizes
    }

    /// What was refused, by reason, since the directory was made.
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
    /// Changes a namespace, if it is known, and forgets it once it is empty.
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

// === impl DirectoryRefusal ===

impl DirectoryRefusal {
    /// Every value of the label `reason`.
    pub const REASONS: [&'static str; 5] = ["pods", "labels", "ips", "services", "owners"];

    /// The value of the label `reason`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Pods(_) => "pods",
            Self::Labels(_) => "labels",
            Self::Ips(_) => "ips",
            Self::Services(_) => "services",
            Self::Owners(_) => "owners",
        }
    }
}

/// One pod less has these.
fn release(held: &mut HashMap<IpAddr, u32>, addresses: impl IntoIterator<Item = IpAddr>) {
    for address in addresses {
        if let Some(pods) = held.get_mut(&address) {
            *pods -= 1;
            if *pods == 0 {
                held.remove(&address);
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
