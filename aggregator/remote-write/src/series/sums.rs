//! Running totals of all pods of a service: what they counted while we looked, added up.
//!
//! A pod that leaves takes nothing with it, and one that is seen for the first time brings only what it counted since we
//! look: so a sum never falls, and never leaps by what was counted before. While another replica writes, the increments
//! are kept by flush, so that on taking over those that it did not send any more are ours to count.

use std::collections::{BTreeMap, HashMap};

use aggregator_core::pod::PodKey;
use aggregator_core::report::InstanceId;
use aggregator_core::series::{Direction, SeriesKey};
use aggregator_core::time::UnixMillis;
use prost::Message;

use super::naming::{About, Id, Owner, Part};

#[cfg(test)]
mod tests;

/// How long a sum and what a pod had last are remembered, in milliseconds.
const REMEMBERED_MS: i64 = 60 * 60 * 1000;

/// Flushes whose increments are kept apart while another replica writes.
const FOLLOWED_MAX: usize = 256;

/// First bytes of a checkpoint, its version among them; a CRC-32 of the rest follows.
const MAGIC: [u8; 8] = *b"mmsums\0\x01";

/// What was added up.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sums {
    totals: BTreeMap<Id, Sum>,
    pods: HashMap<PodKey, Last>,
    /// Increments by the flush they were seen in, while another replica writes.
    followed: Option<BTreeMap<i64, BTreeMap<Id, u64>>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sum {
    total: u64,
    /// The last flush that something was added in, if only 0.
    at: i64,
    /// False until it is in a flush of ours.
    written: bool,
}

/// What a pod had last.
#[derive(Clone, Debug, Default, PartialEq)]
struct Last {
    instances: Vec<InstanceId>,
    totals: HashMap<(SeriesKey, Part), u64>,
    at: i64,
}

// === impl Sum ===

impl Sum {
    fn add(&mut self, at: i64, increment: u64) {
        self.total += increment;
        self.at = at;
    }
}

// === impl Sums ===

impl Sums {
    /// Adds what the pod counted since it was last seen; for one that was not, since `since`, if it began later than
    /// that, or nothing. `group` is the owner of its sums.
    pub(super) fn add(
        &mut self,
        at: i64,
        since: UnixMillis,
        pod: &super::PodStatus,
        group: &Owner,
        totals: impl Iterator<Item = (SeriesKey, Part, u64)>,
    ) {
        if pod.instances.is_empty() {
            return;
        }
        let known = self.pods.contains_key(&pod.key);
        let counts = known || pod.started_at.is_some_and(|began| began > since);
        let last = self.pods.entry(pod.key.clone()).or_default();
        last.at = at;
        // Another pod of the name: its totals began at 0, even if they are more than those of the one before.
        if last
            .instances
            .iter()
            .all(|instance| !pod.instances.contains(instance))
        {
            last.totals.clear();
        }
        last.instances.clone_from(&pod.instances);
        for (key, part, total) in totals {
            let before = last.totals.insert((key.clone(), part), total);
            let increment = match before {
                // Without another instance totals do not fall; if one does, it began again.
                Some(before) => total.checked_sub(before).unwrap_or(total),
                None if counts => total,
                None => 0,
            };
            let owner = group.clone();
            let key = Some(key);
            let id = Id { owner, key, part };
            if let Some(followed) = &mut self.followed {
                let flush = followed.entry(at).or_default();
                *flush.entry(id).or_default() += increment;
            } else {
                self.totals.entry(id).or_default().add(at, increment);
            }
        }
    }

    /// The sums that something was added to at `at`, if only 0, and whether they are told for the first time.
    pub(super) fn of_flush(&mut self, at: i64) -> impl Iterator<Item = (&Id, u64, bool)> {
        let current = self.totals.iter_mut().filter(move |(_, sum)| sum.at == at);
        current.map(|(id, sum)| (id, sum.total, !std::mem::replace(&mut sum.written, true)))
    }

    /// Forgets what was not seen for [`REMEMBERED_MS`].
    pub(super) fn forget(&mut self, at: i64) {
        self.totals.retain(|_, sum| at - sum.at < REMEMBERED_MS);
        self.pods.retain(|_, last| at - last.at < REMEMBERED_MS);
    }

    /// Another replica writes, and has sent everything up to the flush `sent`.
    pub(super) fn follow(&mut self, sent: i64) {
        self.totals.clear();
        let followed = self.followed.get_or_insert_default();
        *followed = followed.split_off(&(sent.saturating_add(1)));
        while followed.len() > FOLLOWED_MAX {
            // Kept, with the next one: no longer told apart from it.
            let Some((_, oldest)) = followed.pop_first() else {
                break;
            };
            let Some(mut next) = followed.first_entry() else {
                break;
            };
            for (id, increment) in oldest {
                *next.get_mut().entry(id).or_default() += increment;
            }
        }
    }

    /// We write from now on: beginning with the increments that the replica before us did not send.
    pub(super) fn lead(&mut self) {
        for (at, increments) in self.followed.take().unwrap_or_default() {
            for (id, increment) in increments {
                self.totals.entry(id).or_default().add(at, increment);
            }
        }
    }
}

// === Checkpoint ===

#[derive(Clone, PartialEq, Message)]
struct Checkpoint {
    #[prost(message, repeated, tag = "1")]
    sums: Vec<SavedSum>,
    #[prost(message, repeated, tag = "2")]
    pods: Vec<SavedPod>,
}

#[derive(Clone, PartialEq, Message)]
struct SavedSum {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, tag = "2")]
    service: String,
    #[prost(string, repeated, tag = "3")]
    labels: Vec<String>,
    #[prost(message, optional, tag = "4")]
    total: Option<SavedTotal>,
    #[prost(int64, tag = "5")]
    at: i64,
}

#[derive(Clone, PartialEq, Message)]
struct SavedPod {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(uint64, repeated, tag = "3")]
    instances: Vec<u64>,
    #[prost(message, repeated, tag = "4")]
    totals: Vec<SavedTotal>,
    #[prost(int64, tag = "5")]
    at: i64,
}

#[derive(Clone, PartialEq, Message)]
struct SavedTotal {
    #[prost(string, tag = "1")]
    cluster: String,
    #[prost(bool, tag = "2")]
    inbound: bool,
    #[prost(uint32, tag = "3")]
    part: u32,
    #[prost(uint64, tag = "4")]
    total: u64,
}

// === impl SavedTotal ===

impl SavedTotal {
    fn new(key: &SeriesKey, part: Part, total: u64) -> Self {
        Self {
            cluster: key.cluster.to_string(),
            inbound: key.direction == Direction::Inbound,
            part: part.number(),
            total,
        }
    }

    fn key(&self) -> Option<(SeriesKey, Part)> {
        let direction = if self.inbound {
            Direction::Inbound
        } else {
            Direction::Outbound
        };
        let cluster = self.cluster.as_str().into();
        let part = Part::from_number(self.part)?;
        Some((SeriesKey { direction, cluster }, part))
    }
}

impl Sums {
    /// All of it, to go on with after a restart. Empty while another replica writes: it is that one's to go on with.
    pub(super) fn checkpoint(&self) -> Vec<u8> {
        let mut saved = Checkpoint::default();
        for (id, sum) in &self.totals {
            if let (Owner::Group { namespace, about }, Some(key)) = (&id.owner, &id.key) {
                saved.sums.push(SavedSum {
                    namespace: namespace.clone(),
                    service: about.service.clone(),
                    labels: about.labels.clone(),
                    total: Some(SavedTotal::new(key, id.part, sum.total)),
                    at: sum.at,
                });
            }
        }
        let pods: BTreeMap<_, _> = self.pods.iter().collect();
        for (pod, last) in pods {
            let totals: BTreeMap<_, _> = last.totals.iter().collect();
            let totals = totals.into_iter();
            let totals = totals.map(|((key, part), total)| SavedTotal::new(key, *part, *total));
            saved.pods.push(SavedPod {
                namespace: pod.namespace.to_string(),
                name: pod.name.to_string(),
                instances: last.instances.iter().map(|instance| instance.0).collect(),
                totals: totals.collect(),
                at: last.at,
            });
        }
        let body = saved.encode_to_vec();
        let mut bytes = MAGIC.to_vec();
        bytes.extend(crc32fast::hash(&body).to_le_bytes());
        bytes.extend(body);
        bytes
    }

    /// What a checkpoint holds; `None` if it is not whole, or of another version.
    pub(super) fn restore(bytes: &[u8]) -> Option<Self> {
        let (crc, body) = bytes.strip_prefix(&MAGIC)?.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*crc) != crc32fast::hash(body) {
            return None;
        }
        let saved = Checkpoint::decode(body).ok()?;
        let mut sums = Self::default();
        for sum in saved.sums {
            let (key, part) = sum.total.as_ref()?.key()?;
            let about = About {
                service: sum.service,
                labels: sum.labels,
            };
            let namespace = sum.namespace;
            let owner = Owner::Group { namespace, about };
            let key = Some(key);
            let total = sum.total.map_or(0, |total| total.total);
            let (id, at) = (Id { owner, key, part }, sum.at);
            let written = true;
            sums.totals.insert(id, Sum { total, at, written });
        }
        for pod in saved.pods {
            let totals = pod.totals.iter();
            let totals = totals.map(|total| Some((total.key()?, total.total)));
            let last = Last {
                instances: pod.instances.into_iter().map(InstanceId).collect(),
                totals: totals.collect::<Option<_>>()?,
                at: pod.at,
            };
            let key = PodKey::new(pod.namespace.as_str(), pod.name.as_str());
            sums.pods.insert(key, last);
        }
        Some(sums)
    }
}
