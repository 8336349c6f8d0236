//! One namespace: its pods, services and owners, and the indexes between them.
//!
//! Invariants: `serving` has exactly the serving pods, by their labels; `children` has exactly the
//! pods and owners of each controller, whether that controller itself is known or not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::directory::label_index::LabelIndex;
use crate::directory::label_set::{LabelSet, Texts};
use crate::directory::object::{ObjectRef, OwnerInfo};
use aggregator_core::limits::OWNER_DEPTH_MAX;
use aggregator_core::pod::{Owner, Phase, PodInfo, PodKey, Readiness};

#[derive(Debug, Default)]
pub(super) struct Namespace {
    pods: BTreeMap<Arc<str>, StoredPod>,
    /// Serving pods that do not run yet.
    pending: BTreeSet<Arc<str>>,
    serving: LabelIndex,
    services: BTreeMap<Arc<str>, Arc<LabelSet>>,
    owners: BTreeMap<ObjectRef, StoredOwner>,
    children: BTreeMap<ObjectRef, Children>,
}

#[derive(Debug)]
struct StoredPod {
    uid: Arc<str>,
    labels: Arc<LabelSet>,
    owner: Option<Arc<Owner>>,
    deleting: bool,
    phase: Phase,
    ready: Option<bool>,
    ips: Box<[IpAddr]>,
    injected: bool,
}

#[derive(Debug)]
struct StoredOwner {
    uid: Arc<str>,
    owner: Option<Arc<Owner>>,
}

#[derive(Debug, Default)]
struct Children {
    /// As in the newest child's owner reference; children share it.
    owner: Option<Arc<Owner>>,
    pods: BTreeSet<Arc<str>>,
    owners: BTreeSet<ObjectRef>,
}

// === impl Namespace ===

impl Namespace {
    pub(super) fn is_empty(&self) -> bool {
        self.pods.is_empty() && self.services.is_empty() && self.owners.is_empty()
    }

    pub(super) fn has_pod(&self, name: &str) -> bool {
        self.pods.contains_key(name)
    }

    pub(super) fn uid(&self, name: &str) -> Option<&Arc<str>> {
        self.pods.get(name).map(|pod| &pod.uid)
    }

    pub(super) fn has_service(&self, name: &str) -> bool {
        self.services.contains_key(name)
    }

    pub(super) fn has_owner(&self, owner: &ObjectRef) -> bool {
        self.owners.contains_key(owner)
    }

    pub(super) fn upsert_pod(&mut self, info: PodInfo, texts: &mut Texts) {
        self.remove_pod(&info.key.name, texts);
        let serving = info.is_serving();
        let name = info.key.name;
        let labels = self.serving.share(LabelSet::new(&info.labels, texts));
        let owner = info.owner.map(|owner| {
            let children = self.children_of(&owner);
            children.pods.insert(Arc::clone(&name));
            children.share(owner)
        });
        if serving && info.phase == Phase::Pending {
            self.pending.insert(Arc::clone(&name));
        }
        if serving {
            self.serving.add(&labels, Arc::clone(&name));
        }
        let stored = StoredPod {
            uid: info.uid,
            labels,
            owner,
            deleting: info.deleting,
            phase: info.phase,
            ready: info.ready,
            ips: info.ips.into(),
            injected: info.injected,
        };
        self.pods.insert(name, stored);
    }

    pub(super) fn remove_pod(&mut self, name: &str, texts: &mut Texts) -> bool {
        let Some(pod) = self.pods.remove(name) else {
            return false;
        };
        self.pending.remove(name);
        self.serving.remove(&pod.labels, name);
        if let Some(owner) = &pod.owner {
            self.disown(owner, |children| {
                children.pods.remove(name);
            });
        }
        texts.release(pod.labels);
        true
    }

    pub(super) fn pod(&self, key: &PodKey) -> Option<PodInfo> {
        self.pods.get(&key.name).map(|pod| PodInfo {
            key: key.clone(),
            uid: Arc::clone(&pod.uid),
            labels: pod.labels.to_labels(),
            owner: pod.owner.as_deref().cloned(),
            deleting: pod.deleting,
            phase: pod.phase,
            ready: pod.ready,
            ips: pod.ips.to_vec(),
            injected: pod.injected,
        })
    }

    /// The canonical addresses of a pod; none once it has ended, since another pod may have them.
    pub(super) fn addresses(&self, name: &str) -> BTreeSet<IpAddr> {
        let ended = |pod: &&StoredPod| matches!(pod.phase, Phase::Succeeded | Phase::Failed);
        let pod = self.pods.get(name).filter(|pod| !ended(pod));
        let ips = pod.iter().flat_map(|pod| pod.ips.iter());
        ips.map(IpAddr::to_canonical).collect()
    }

    pub(super) fn serving(&self, name: &str) -> Option<Readiness> {
        self.pods.get(name).map(StoredPod::serving)
    }

    pub(super) fn is_ready(&self, name: &str) -> Option<bool> {
        self.pods.get(name)?.ready
    }

    pub(super) fn is_serving(&self, name: &str) -> bool {
        self.pods.get(name).is_some_and(StoredPod::is_serving)
    }

    /// Names of serving pods whose labels satisfy `matches`, sorted.
    pub(super) fn serving_pods<'a>(
        &'a self,
        matches: &'a dyn Fn(&LabelSet) -> bool,
    ) -> impl Iterator<Item = &'a Arc<str>> {
        let pods = self.pods.iter();
        let pods = pods.filter(move |(_, pod)| pod.is_serving() && matches(&pod.labels));
        pods.map(|(name, _)| name)
    }

    /// The highest known owner of a pod.
    pub(super) fn workload_of(&self, pod: &str) -> Option<ObjectRef> {
        let mut owner = self.pods.get(pod)?.owner.as_ref()?;
        for _ in 0..OWNER_DEPTH_MAX {
            let stored = self.owners.get(&ObjectRef::from(&**owner));
            match stored.and_then(|stored| stored.owner.as_ref()) {
                Some(above) => owner = above,
                None => break,
            }
        }
        Some(ObjectRef::from(&**owner))
    }

    /// Names of injected running pods.
    pub(super) fn reporters(&self) -> impl Iterator<Item = &Arc<str>> {
        let pods = self
            .pods
            .iter()
            .filter(|(_, pod)| pod.injected && !pod.deleting && pod.phase == Phase::Running);
        pods.map(|(name, _)| name)
    }

    pub(super) fn pending(&self) -> impl Iterator<Item = &Arc<str>> {
        self.pending.iter()
    }

    pub(super) fn pod_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.pods.keys()
    }

    /// Names of serving pods that have every label of `equals` and whose labels satisfy `matches`,
    /// unsorted. Calls `matches` once per distinct set of labels.
    pub(super) fn select(
        &self,
        equals: &[(&str, &str)],
        matches: &dyn Fn(&LabelSet) -> bool,
    ) -> Vec<Arc<str>> {
        self.serving.select(equals.iter().copied(), matches)
    }

    /// Names of the serving pods that a service's `selector` selects, unsorted; `None` if it is
    /// empty.
    pub(super) fn selected_by(&self, selector: &LabelSet) -> Option<Vec<Arc<str>>> {
        let equals = selector.pairs().map(|(key, value)| (&**key, &**value));
        (!selector.is_empty()).then(|| {
            self.serving
                .select(equals, |labels| labels.satisfies(selector))
        })
    }

    pub(super) fn upsert_service(&mut self, name: Arc<str>, selector: LabelSet, texts: &mut Texts) {
        self.remove_service(&name, texts);
        self.services.insert(name, Arc::new(selector));
    }

    pub(super) fn remove_service(&mut self, name: &str, texts: &mut Texts) -> bool {
        let removed = self.services.remove(name);
        removed.map(|selector| texts.release(selector)).is_some()
    }

    pub(super) fn service(&self, name: &str) -> Option<&LabelSet> {
        self.services.get(name).map(|selector| &**selector)
    }

    pub(super) fn service_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.services.keys()
    }

    pub(super) fn upsert_owner(&mut self, info: OwnerInfo) {
        let key = info.object.object;
        self.remove_owner(&key);
        let owner = info.owner.map(|owner| {
            let children = self.children_of(&owner);
            children.owners.insert(key.clone());
            children.share(owner)
        });
        let uid = info.uid;
        self.owners.insert(key, StoredOwner { uid, owner });
    }

    pub(super) fn remove_owner(&mut self, key: &ObjectRef) -> bool {
        let Some(stored) = self.owners.remove(key) else {
            return false;
        };
        if let Some(owner) = &stored.owner {
            self.disown(owner, |children| {
                children.owners.remove(key);
            });
        }
        true
    }

    pub(super) fn owners(&self) -> impl Iterator<Item = &ObjectRef> {
        self.owners.keys()
    }

    /// Names of the serving pods that `owner` controls, directly or through other owners, unsorted;
    /// `None` if the owner is unknown.
    pub(super) fn owned_by(&self, owner: &ObjectRef) -> Option<Vec<Arc<str>>> {
        if !self.owners.contains_key(owner) && !self.children.contains_key(owner) {
            return None;
        }
        let mut names = Vec::new();
        self.collect_owned(owner, OWNER_DEPTH_MAX, &mut names);
        Some(names)
    }

    /// The owners of a pod, the nearest first.
    pub(super) fn owners_of(&self, name: &str) -> Vec<ObjectRef> {
        let mut owner = self.pods.get(name).and_then(|pod| pod.owner.as_deref());
        let mut owners = Vec::new();
        while let Some(found) = owner.filter(|_| owners.len() <= OWNER_DEPTH_MAX) {
            let object = ObjectRef::from(found);
            let stored = self.owners.get(&object);
            owner = stored.and_then(|stored| stored.owner.as_deref());
            owners.push(object);
        }
        owners
    }

    fn collect_owned(&self, owner: &ObjectRef, depth: usize, names: &mut Vec<Arc<str>>) {
        let Some(children) = self.children.get(owner) else {
            return;
        };
        // A child of a deleted object with this name does not count; without a uid the name
        // decides.
        let uid = self.owners.get(owner).map_or("", |stored| &*stored.uid);
        let is_same_owner = |owner: Option<&Arc<Owner>>| {
            owner.is_some_and(|owner| uid.is_empty() || owner.uid.is_empty() || *owner.uid == *uid)
        };
        for name in &children.pods {
            let pod = self.pods.get(name);
            if pod.is_some_and(|pod| pod.is_serving() && is_same_owner(pod.owner.as_ref())) {
                names.push(Arc::clone(name));
            }
        }
        let Some(depth) = depth.checked_sub(1) else {
            return;
        };
        for child in &children.owners {
            let stored = self.owners.get(child);
            if stored.is_some_and(|stored| is_same_owner(stored.owner.as_ref())) {
                self.collect_owned(child, depth, names);
            }
        }
    }

    fn children_of(&mut self, owner: &Owner) -> &mut Children {
        self.children.entry(ObjectRef::from(owner)).or_default()
    }

    fn disown(&mut self, owner: &Owner, remove: impl Fn(&mut Children)) {
        let key = ObjectRef::from(owner);
        if let Some(children) = self.children.get_mut(&key) {
            remove(children);
            if children.pods.is_empty() && children.owners.is_empty() {
                self.children.remove(&key);
            }
        }
    }
}

// === impl StoredPod ===

impl StoredPod {
    fn is_serving(&self) -> bool {
        !self.deleting && !matches!(self.phase, Phase::Succeeded | Phase::Failed)
    }

    fn serving(&self) -> Readiness {
        match self.phase {
            _ if self.deleting || self.ready == Some(false) => Readiness::No,
            Phase::Pending | Phase::Succeeded | Phase::Failed => Readiness::No,
            Phase::Running => Readiness::Yes,
            Phase::Unknown => Readiness::Unknown,
        }
    }
}

// === impl Children ===

impl Children {
    fn share(&mut self, owner: Owner) -> Arc<Owner> {
        match &self.owner {
            Some(known) if **known == owner => Arc::clone(known),
            _ => {
                let owner = Arc::new(owner);
                self.owner = Some(Arc::clone(&owner));
                owner
            }
        }
    }
}
