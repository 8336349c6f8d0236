//! A batch: one request's worth of samples, encoded and compressed, with what the queue must know
//! of it.

use bytes::Bytes;

/// Shards of a large flush, by the hash of the series: at 60 ms a request this is some 130,000
/// samples a second.
pub const SHARDS: u16 = 4;

/// The shard of a small flush, whole.
pub const SINGLE: u16 = SHARDS;

/// What a batch holds, as far as dropping it matters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Running totals and gauges: a later batch of the same series tells no less, only less often.
    Plain,
    /// First samples and staleness markers: what they say is said once.
    Marks,
}

/// One request's worth of samples. At most one sample of each series, so that sending it twice is
/// harmless.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Batch {
    /// The shard whose series it holds.
    pub shard: u16,
    pub kind: Kind,
    pub samples: u32,
    /// The flush it belongs to: its timestamp, in Unix milliseconds.
    pub timestamp: i64,
    /// The body of the request: a Remote-Write 1.0 `WriteRequest` in Snappy's block format.
    pub body: Bytes,
}
