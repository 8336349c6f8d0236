//! Serialises sums with the last totals of each pod, for a restart.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use aggregator_core::pod::PodKey;
use aggregator_core::report::InstanceId;
use aggregator_core::series::{Direction, SeriesKey};
use common_time::UnixMillis;
use prost::Message;

use super::{PodTotals, Sum, Sums};
use crate::series::naming::{Id, Owner, Part, SeriesMetadata};

/// First bytes of a checkpoint, version included. A CRC-32 of the rest follows, then the time of
/// the flush and a message.
const MAGIC: [u8; 8] = *b"mmsums\0\x03";

#[derive(Clone, PartialEq, Message)]
struct Checkpoint {
    #[prost(message, repeated, tag = "1")]
    sums: Vec<SavedSum>,
    #[prost(message, repeated, tag = "2")]
    pods: Vec<SavedPod>,
    #[prost(uint64, tag = "3")]
    since: u64,
    /// Names of upstream clusters, each once: many pods call the same ones.
    #[prost(string, repeated, tag = "4")]
    clusters: Vec<String>,
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
    #[prost(uint64, repeated, tag = "6")]
    former: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct SavedTotal {
    /// Index in [`Checkpoint::clusters`].
    #[prost(uint32, tag = "1")]
    cluster: u32,
    #[prost(bool, tag = "2")]
    inbound: bool,
    #[prost(uint32, tag = "3")]
    part: u32,
    #[prost(uint64, tag = "4")]
    total: u64,
}

/// Indexes of upstream clusters in [`Checkpoint::clusters`].
#[derive(Default)]
struct ClusterIndex<'a>(HashMap<&'a str, u32>);

// === impl Places ===

impl<'a> ClusterIndex<'a> {
    fn total(&mut self, key: &'a SeriesKey, part: Part, total: u64) -> SavedTotal {
        let next = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        SavedTotal {
            cluster: *self.0.entry(&key.cluster).or_insert(next),
            inbound: key.direction == Direction::Inbound,
            part: part.number(),
            total,
        }
    }

    fn pod(&mut self, pod: &PodKey, last: &'a PodTotals) -> SavedPod {
        let totals: BTreeMap<_, _> = last.totals.iter().collect();
        let totals = totals.into_iter();
        let totals = totals.map(|((key, part), total)| self.total(key, *part, *total));
        SavedPod {
            namespace: pod.namespace.to_string(),
            name: pod.name.to_string(),
            totals: totals.collect(),
            instances: last.instances.iter().map(|instance| instance.0).collect(),
            former: last.former.iter().map(|instance| instance.0).collect(),
            at: last.at,
        }
    }

    fn names(self) -> Vec<String> {
        let mut names: Vec<_> = self.0.into_iter().collect();
        names.sort_unstable_by_key(|(_, index)| *index);
        names.into_iter().map(|(name, _)| name.to_owned()).collect()
    }
}

// === impl SavedSum ===

impl SavedSum {
    fn restore(self, clusters: &[Arc<str>]) -> Option<(Id, Sum)> {
        let saved = self.total?;
        let (key, part) = saved.key(clusters)?;
        let metadata = SeriesMetadata {
            service: self.service,
            labels: self.labels,
        };
        let namespace = self.namespace;
        let owner = Owner::Group {
            namespace,
            metadata,
        };
        let key = Some(key);
        let sum = Sum {
            total: saved.total,
            at: self.at,
            written: true,
        };
        Some((Id { owner, key, part }, sum))
    }
}

// === impl SavedPod ===

impl SavedPod {
    fn restore(self, clusters: &[Arc<str>]) -> Option<(PodKey, PodTotals)> {
        let totals = self.totals.iter();
        let totals = totals.map(|saved| Some((saved.key(clusters)?, saved.total)));
        let last = PodTotals {
            totals: totals.collect::<Option<_>>()?,
            instances: self.instances.into_iter().map(InstanceId).collect(),
            former: self.former.into_iter().map(InstanceId).collect(),
            at: self.at,
        };
        let key = PodKey::new(self.namespace.as_str(), self.name.as_str());
        Some((key, last))
    }
}

// === impl SavedTotal ===

impl SavedTotal {
    fn key(&self, clusters: &[Arc<str>]) -> Option<(SeriesKey, Part)> {
        let direction = if self.inbound {
            Direction::Inbound
        } else {
            Direction::Outbound
        };
        let cluster = Arc::clone(clusters.get(usize::try_from(self.cluster).ok()?)?);
        let part = Part::from_number(self.part)?;
        Some((SeriesKey { direction, cluster }, part))
    }
}

// === impl Sums ===

impl Sums {
    /// `None` before the first flush.
    pub(in crate::series) fn checkpoint(&self) -> Option<Vec<u8>> {
        let at = self.at?;
        let mut clusters_index = ClusterIndex::default();
        let mut saved = Checkpoint {
            since: self.since.0,
            ..Checkpoint::default()
        };
        for (id, sum) in &self.totals {
            if let (
                Owner::Group {
                    namespace,
                    metadata,
                },
                Some(key),
            ) = (&id.owner, &id.key)
            {
                saved.sums.push(SavedSum {
                    namespace: namespace.clone(),
                    service: metadata.service.clone(),
                    labels: metadata.labels.clone(),
                    total: Some(clusters_index.total(key, id.part, sum.total)),
                    at: sum.at,
                });
            }
        }
        // Sorted: equal sums give equal bytes.
        let pods: BTreeMap<_, _> = self.pods.iter().collect();
        let pods = pods.into_iter();
        saved.pods = pods
            .map(|(pod, last)| clusters_index.pod(pod, last))
            .collect();
        saved.clusters = clusters_index.names();
        let mut body = at.to_le_bytes().to_vec();
        saved.encode(&mut body).ok()?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend(crc32fast::hash(&body).to_le_bytes());
        bytes.extend(body);
        Some(bytes)
    }

    /// Time of the flush and message of a checkpoint; `None` if it is damaged or of another
    /// version.
    fn verify(bytes: &[u8]) -> Option<(i64, &[u8])> {
        let (crc, body) = bytes.strip_prefix(&MAGIC)?.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*crc) != crc32fast::hash(body) {
            return None;
        }
        let (at, message) = body.split_first_chunk::<8>()?;
        Some((i64::from_le_bytes(*at), message))
    }

    /// `None` if the checkpoint is damaged or of another version.
    pub(in crate::series) fn restore(bytes: &[u8]) -> Option<Self> {
        let (at, message) = Self::verify(bytes)?;
        let saved = Checkpoint::decode(message).ok()?;
        let clusters: Vec<Arc<str>> = saved
            .clusters
            .iter()
            .map(|name| Arc::from(&**name))
            .collect();
        let totals = saved.sums.into_iter().map(|sum| sum.restore(&clusters));
        let pods = saved.pods.into_iter().map(|pod| pod.restore(&clusters));
        Some(Self {
            totals: totals.collect::<Option<_>>()?,
            pods: pods.collect::<Option<_>>()?,
            since: UnixMillis(saved.since),
            at: Some(at),
        })
    }
}
