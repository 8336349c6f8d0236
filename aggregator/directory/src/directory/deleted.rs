//! Pods that were deleted a moment ago, by uid: so that one which is gone is told from one that the
//! watch has not shown yet.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use crate::directory::Directory;
use aggregator_core::pod::PodKey;

/// Deleted pods that are remembered, about 100 bytes each. Of a pod that was deleted before these
/// it is not known that it ever was.
const DELETED_MAX: usize = 10_000;

/// Whether a pod with a certain uid exists.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PodLife {
    /// It exists. It may be terminating, or have ended.
    Exists,
    /// It existed, and was deleted.
    Deleted,
    /// It was not seen: it is too new, or it was deleted long ago, or it never was.
    Unknown,
}

#[derive(Debug, Default)]
pub(super) struct DeletedPods {
    uids: HashSet<Arc<str>>,
    /// The oldest first. Has every one of `uids`.
    order: VecDeque<Arc<str>>,
}

// === impl Directory ===

impl Directory {
    /// Whether the pod `key` with `uid` exists, which another pod of the same name is not.
    pub fn life_of(&self, key: &PodKey, uid: &str) -> PodLife {
        let cache = self.cache.read();
        let within = cache.namespaces.get(&key.namespace);
        let known = within.and_then(|within| within.uid(&key.name));
        if known.is_some_and(|known| **known == *uid) {
            PodLife::Exists
        } else if cache.deleted.uids.contains(uid) {
            PodLife::Deleted
        } else {
            PodLife::Unknown
        }
    }
}

// === impl DeletedPods ===

impl DeletedPods {
    /// Notes that a pod with `uid` is in the place of one with `former`, which may be the same.
    pub(super) fn replaced(&mut self, former: Option<&Arc<str>>, uid: &str) {
        // A list may leave out a pod that the next event shows.
        if self.uids.remove(uid) {
            self.order.retain(|known| **known != *uid);
        }
        self.removed(former.filter(|former| ***former != *uid).cloned());
    }

    /// Notes that the pod with `uid` is no more.
    pub(super) fn removed(&mut self, uid: Option<Arc<str>>) {
        let Some(uid) = uid.filter(|uid| !uid.is_empty()) else {
            return;
        };
        if !self.uids.insert(Arc::clone(&uid)) {
            return;
        }
        self.order.push_back(uid);
        if self.order.len() > DELETED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.uids.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use aggregator_core::pod::{Labels, PodInfo};
    use proptest::prelude::*;

    use super::PodLife::{Deleted, Exists, Unknown};
    use super::*;

    fn key(name: usize) -> PodKey {
        PodKey::new("prod", &format!("jazz-{name}"))
    }

    fn info(name: usize, uid: &str) -> PodInfo {
        PodInfo::new(key(name), uid.into(), Labels::default())
    }

    /// Of a name that is used again each pod is known apart.
    #[test]
    fn a_name_is_not_a_pod() {
        let directory = Directory::default();
        let lives = || ["u1", "u2", "u3", ""].map(|uid| directory.life_of(&key(1), uid));
        assert_eq!(lives(), [Unknown, Unknown, Unknown, Unknown]);
        directory.upsert(info(1, "u1")).unwrap();
        directory.upsert(info(1, "u1")).unwrap();
        assert_eq!(lives(), [Exists, Unknown, Unknown, Unknown]);
        // Deleted and made again between two lists.
        directory.upsert(info(1, "u2")).unwrap();
        assert_eq!(lives(), [Deleted, Exists, Unknown, Unknown]);
        directory.remove(&key(1));
        assert_eq!(lives(), [Deleted, Deleted, Unknown, Unknown]);
        // One that is there after all.
        directory.upsert(info(1, "u2")).unwrap();
        assert_eq!(lives(), [Deleted, Exists, Unknown, Unknown]);
        // Not its name, so not its pod.
        assert_eq!(directory.life_of(&key(2), "u2"), Unknown);
    }

    /// What is remembered of the deleted is bounded, and the oldest goes first.
    #[test]
    fn deleted_pods_are_bounded() {
        let directory = Directory::default();
        for nth in 0..=DELETED_MAX {
            directory.upsert(info(1, &format!("u{nth}"))).unwrap();
        }
        directory.remove(&key(1));
        let life = |nth: usize| directory.life_of(&key(1), &format!("u{nth}"));
        assert_eq!(life(0), Unknown);
        assert_eq!(life(1), Deleted);
        assert_eq!(life(DELETED_MAX), Deleted);
        let deleted = &directory.cache.read().deleted;
        let sizes = [deleted.uids.len(), deleted.order.len()];
        assert_eq!(sizes, [DELETED_MAX; 2]);
    }

    proptest! {
        /// As a map of what was seen has it.
        #[test]
        fn lives_are_those_of_a_naive_model(
            changes in proptest::collection::vec((0_usize..3, 0_usize..6, any::<bool>()), 0..60),
        ) {
            let directory = Directory::default();
            let mut pods: BTreeMap<usize, usize> = BTreeMap::new();
            let mut seen: BTreeMap<usize, bool> = BTreeMap::new();
            for (name, uid, is_upsert) in changes {
                // A uid is of one name for ever.
                let uid = 10 * name + uid;
                let former = if is_upsert {
                    directory.upsert(info(name, &format!("u{uid}"))).unwrap();
                    pods.insert(name, uid)
                } else {
                    directory.remove(&key(name));
                    pods.remove(&name)
                };
                if let Some(former) = former {
                    seen.insert(former, false);
                }
                if is_upsert {
                    seen.insert(uid, true);
                }
            }
            for uid in 0..30 {
                let expected = match seen.get(&uid) {
                    Some(true) => Exists,
                    Some(false) => Deleted,
                    None => Unknown,
                };
                prop_assert_eq!(directory.life_of(&key(uid / 10), &format!("u{uid}")), expected);
            }
        }
    }
}
