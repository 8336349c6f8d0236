//! Pods and series written, so that only a series that was never written begins at 0, also after a
//! restart.
//!
//! The list is saved beside the queue, durable before its flush. Series that are new in that flush
//! are marked: if the process dies before the flush itself is durable, they were not written.

use std::collections::{HashMap, HashSet};

use aggregator_core::pod::PodKey;
use aggregator_core::report::InstanceId;
use prost::Message;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::naming::{Id, Owner};

/// How long pods and series are kept after their last flush, in milliseconds. A pod that began
/// longer ago does not count as new.
pub(super) const REMEMBERED_MS: i64 = 10 * 60 * 1000;

/// First bytes of the list, version included. A CRC-32 of the rest follows, then a message.
const MAGIC: [u8; 8] = *b"mmwrote\x01";

/// The last flushes with a pod.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct WrittenPod {
    /// Hash of its instances.
    pub(super) instances: u64,
    /// Timestamp of the first flush with it, in Unix milliseconds.
    pub(super) since: i64,
    /// Timestamp of the last flush with it.
    pub(super) at: i64,
}

/// By a hash of the pod's name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct WrittenPods(HashMap<u64, WrittenPod>);

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PreviousRun {
    /// Timestamp of the last durable flush; `None` without one.
    pub(super) at: Option<i64>,
    pub(super) pods: WrittenPods,
    series: HashSet<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct Saved {
    /// Timestamp of its flush.
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

    /// Records that the pod is in the flush at `at`; true if the list has to be saved again: the
    /// pod was not in the flush at `last`, or had other instances.
    pub(super) fn update(
        &mut self,
        pod: &PodKey,
        instances: &[InstanceId],
        at: i64,
        last: Option<i64>,
    ) -> bool {
        let instances = hash_of_instances(instances);
        let entry = self.0.entry(hash_of_pod(pod)).or_insert(WrittenPod {
            instances,
            since: at,
            at,
        });
        let news = entry.since == at || entry.instances != instances || Some(entry.at) != last;
        (entry.instances, entry.at) = (instances, at);
        news
    }

    /// Removes pods without a flush for [`REMEMBERED_MS`].
    pub(super) fn forget(&mut self, at: i64) {
        self.0.retain(|_, pod| at - pod.at < REMEMBERED_MS);
    }
}

// === impl PreviousRun ===

impl PreviousRun {
    /// True if the previous process wrote the series.
    pub(super) fn wrote(&self, id: &Id) -> bool {
        !self.series.is_empty() && self.series.contains(&hash_of_series(id))
    }

    /// Removes all series once the previous process ended [`REMEMBERED_MS`] ago.
    pub(super) fn forget(&mut self, at: i64) {
        if self.at.is_some_and(|before| at - before >= REMEMBERED_MS) {
            self.series = HashSet::new();
        }
    }

    /// Decodes the output of [`save`]; `durable` is the newest durable flush. `None` if it is
    /// damaged.
    pub(super) fn open(bytes: &[u8], durable: i64) -> Option<Self> {
        let (crc, body) = bytes.strip_prefix(&MAGIC)?.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*crc) != crc32fast::hash(body) {
            return None;
        }
        let saved = Saved::decode(body).ok()?;
        let whole = saved.at <= durable;
        let pods = saved.pods.into_iter();
        // The list is saved only when it changes, so its pods were in each flush since.
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

/// Encodes the list for the flush at `at`; `series` come with the timestamp of their first flush.
pub(super) fn save<'a>(
    at: i64,
    pods: &WrittenPods,
    before: &PreviousRun,
    series: impl Iterator<Item = (&'a Id, i64)>,
) -> Vec<u8> {
    let mut saved = Saved {
        at,
        series: before.series.iter().copied().collect(),
        ..Saved::default()
    };
    for (id, since) in series {
        let entry = if since == at {
            &mut saved.fresh
        } else {
            &mut saved.series
        };
        entry.push(hash_of_series(id));
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
    // Names of Kubernetes have no slash, so this is unambiguous.
    xxh3_64(format!("{}/{}", pod.namespace, pod.name).as_bytes())
}

pub(super) fn hash_of_instances(instances: &[InstanceId]) -> u64 {
    let mut hash = Xxh3::new();
    for instance in instances {
        hash.update(&instance.0.to_le_bytes());
    }
    hash.digest()
}

/// Independent of labels: a setting that adds one must not begin a counter at 0.
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
