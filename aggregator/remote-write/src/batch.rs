//! A batch: the samples of one request, encoded and compressed, with metadata for the queue.

use bytes::Bytes;

/// Shards of a large flush, by the hash of the series: at 60 ms per request, some 130,000 samples
/// per second.
pub const SHARDS: u16 = 4;

/// The shard of a small flush, which is not split.
pub const SINGLE: u16 = SHARDS;

/// Whether a batch may be dropped without losing information.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Running totals and gauges: dropping one costs resolution, not increments.
    Plain,
    /// First samples and staleness markers: never repeated.
    Marks,
}

/// The samples of one request. At most one sample of each series, so that sending it twice is
/// harmless.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Batch {
    pub shard: u16,
    pub kind: Kind,
    pub samples: u32,
    /// Timestamp of its flush, in Unix milliseconds.
    pub timestamp: i64,
    /// The body of the request: a Remote-Write 1.0 `WriteRequest` in Snappy's block format.
    pub body: Bytes,
}
