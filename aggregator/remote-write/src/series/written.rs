//! Which pods and series were written, so that a series that never was begins at 0 and one that was
//! does not: over restarts too.
//!
//! It is kept beside the queue and made durable before the flush that it is of. What is new in that
//! flush is marked: if the process dies before the flush itself is durable, that was not written.

use std::collections::{HashMap, HashSet};

use aggregator_core::pod::PodKey;
use aggregator_core::report::InstanceId;
use prost::Message;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::naming::{Id, Owner};

/// How long it is remembered that a pod or a series was written, in milliseconds. A pod that began
/// longer ago than this is not taken for a new one.
pub(super) const REMEMBERED_MS: i64 = 10 * 60 * 1000;

/// First bytes of what is kept, its version among them. A CRC-32 of the rest follows, and the rest:
/// a message.
const MAGIC: [u8; 8] = *b"mmwrote\x01";

/// What was last written of a pod.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct WrittenPod {
    /// A hash of its instances.
    pub(super) instances: u64,
    /// Timestamp of the first flush that it was in since it is remembered, in Unix milliseconds.
    pub(super) since: i64,
    /// Timestamp of the last one.
    pub(super) at: i64,
}

/// Pods, by a hash of their name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct WrittenPods(HashMap<u64, WrittenPod>);

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Before {
    /// Of the flush that is known to be durable; `None` without one.
    pub(super) at: Option<i64>,
    pub(super) pods: WrittenPods,
    series: HashSet<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct Saved {
    /// The flush that it is of.
    #[prost(int64, tag = "1")]
    at: i64,
    #[prost(fixed64, repeated, tag = "2")]
    series: Vec<u64>,
    /// Series that this flush writes for the first time.
    #[prost(fixed64, repeated, tag = "3")]
    fresh: Vec<u64>,
    #[prost(message, repeated, tag = "4")]
    pods: Vec<SavedPod>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct SavedPod {
    #[prost(fixed64, tag = "1")]
    pod: u64,
    #[prost(fixed64, tag = "2")]
    instances: u64,
    #[prost(int64, tag = "3")]
    since: i64,
    #[prost(int64, tag = "4")]
    at: i64,
}

// === impl WrittenPods ===

impl WrittenPods {
    pub(super) fn get(&self, pod: &PodKey) -> Option<&WrittenPod> {
        self.0.get(&hash_of_pod(pod))
    }

    /// The pod is in the flush of `at`; true if that is news: a pod that was not in the flush of
    /// `last`, or other instances.
    pub(super) fn note(
        &mut self,
        pod: &PodKey,
        instances: &[InstanceId],
        at: i64,
        last: Option<i64>,
    ) -> bool {
        let instances = hash_of_instances(instances);
        let known = self.0.entry(hash_of_pod(pod)).or_insert(WrittenPod {
            instances,
            since: at,
            at,
        });
        let news = known.since == at || known.instances != instances || Some(known.at) != last;
        (known.instances, known.at) = (instances, at);
        news
    }

    /// Forgets what was not in a flush for [`REMEMBERED_MS`].
    pub(super) fn forget(&mut self, at: i64) {
        self.0.retain(|_, pod| at - pod.at < REMEMBERED_MS);
    }
}

// === impl Before ===

impl Before {
    /// True if the series was written by the other process.
    pub(super) fn wrote(&self, id: &Id) -> bool {
        !self.series.is_empty() && self.series.contains(&hash_of_series(id))
    }

    /// Forgets all of it once it is older than [`REMEMBERED_MS`].
    pub(super) fn forget(&mut self, at: i64) {
        if self.at.is_some_and(|before| at - before >= REMEMBERED_MS) {
            self.series = HashSet::new();
        }
    }

    /// What [`save`] kept; `durable` is the newest flush that is known to be whole. `None` if it is
    /// damaged.
    pub(super) fn open(bytes: &[u8], durable: i64) -> Option<Self> {
        let (crc, body) = bytes.strip_prefix(&MAGIC)?.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*crc) != crc32fast::hash(body) {
            return None;
        }
        let saved = Saved::decode(body).ok()?;
        let whole = saved.at <= durable;
        let pods = saved.pods.into_iter();
        // It is kept when it changes: a pod of the last one was in each flush since.
        let pods = pods.filter(|pod| whole || pod.since < saved.at).map(|pod| {
            let at = if pod.at == saved.at { durable } else { pod.at };
            let written = WrittenPod {
                instances: pod.instances,
                since: pod.since,
                at,
            };
            (pod.pod, written)
        });
        let fresh = saved.fresh.into_iter().filter(|_| whole);
        Some(Self {
            at: Some(durable),
            pods: WrittenPods(pods.collect()),
            series: saved.series.into_iter().chain(fresh).collect(),
        })
    }
}

/// What is kept of the flush of `at`: all pods, and each series with the first flush that it was
/// in.
pub(super) fn save<'a>(
    at: i64,
    pods: &WrittenPods,
    before: &Before,
    series: impl Iterator<Item = (&'a Id, i64)>,
) -> Vec<u8> {
    let mut saved = Saved {
        at,
        series: before.series.iter().copied().collect(),
        ..Saved::default()
    };
    for (id, since) in series {
        let known = if since == at {
            &mut saved.fresh
        } else {
            &mut saved.series
        };
        known.push(hash_of_series(id));
    }
    let pods = pods.0.iter().map(|(pod, written)| SavedPod {
        pod: *pod,
        instances: written.instances,
        since: written.since,
        at: written.at,
    });
    saved.pods = pods.collect();
    let body = saved.encode_to_vec();
    let mut bytes = MAGIC.to_vec();
    bytes.extend(crc32fast::hash(&body).to_le_bytes());
    bytes.extend(body);
    bytes
}

fn hash_of_pod(pod: &PodKey) -> u64 {
    // A name of Kubernetes has no slash.
    xxh3_64(format!("{}/{}", pod.namespace, pod.name).as_bytes())
}

pub(super) fn hash_of_instances(instances: &[InstanceId]) -> u64 {
    let mut hash = Xxh3::new();
    for instance in instances {
        hash.update(&instance.0.to_le_bytes());
    }
    hash.digest()
}

/// The same for the same series under whatever labels: a setting that adds one begins no counter.
fn hash_of_series(id: &Id) -> u64 {
    let mut hash = Xxh3::new();
    if let Owner::Pod(pod) = &id.owner {
        hash.update(&hash_of_pod(pod).to_le_bytes());
    }
    if let Some(key) = &id.key {
        hash.update(key.direction.as_str().as_bytes());
        hash.update(key.cluster.as_bytes());
    }
    hash.update(&id.part.number().to_le_bytes());
    hash.digest()
}
