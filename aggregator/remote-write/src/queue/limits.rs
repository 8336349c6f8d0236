//! Limits and totals of a queue.

use std::collections::BTreeMap;
use std::time::Duration;

/// Bytes of a segment before the next one is begun.
pub const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

/// Default of [`Limits::bytes`] on disk.
pub const DISK_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// Default of [`Limits::bytes`] in memory, and of [`Limits::memory_bytes`].
pub const MEMORY_BYTES: u64 = 64 * 1024 * 1024;

/// AMP refuses samples older than an hour; older ones than this might not arrive in time.
pub const AMP_AGE_MAX: Duration = Duration::from_mins(55);

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of pending batches with their headers.
    pub bytes: u64,
    /// Of these, bytes held in memory while the disk fails.
    pub memory_bytes: u64,
    /// Age of a pending batch; `None` for no limit.
    pub age: Option<Duration>,
    /// Bytes of a segment before the next one is begun.
    pub segment_bytes: u64,
}

common_names::named! {
    /// Why samples were dropped unsent.
    pub enum DropReason {
        /// The queue was full, and a later sample of the same running total remains.
        Thinned = "thinned",
        Full = "queue_full",
        /// Older than [`Limits::age`].
        TooOld = "too_old",
        /// The record's checksum is wrong, or the disk cannot be read.
        Corrupt = "corrupt",
        /// The batch is larger than any request may be.
        TooLarge = "too_large",
        /// Another replica writes the same totals.
        OtherWriter = "other_writer",
    }
}

/// Samples that went through the queue since it was opened.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Totals {
    /// Found on disk when the queue was opened.
    pub recovered: u64,
    pub pushed: u64,
    pub acknowledged: u64,
    pub dropped: BTreeMap<DropReason, u64>,
    /// Bytes on disk that held no records when the queue was opened.
    pub damaged_bytes: u64,
    /// Failed writes to disk; their batches were held in memory.
    pub write_errors: u64,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Waiting {
    pub samples: u64,
    pub batches: usize,
    /// Bytes of the batches with their headers.
    pub bytes: u64,
    /// Oldest timestamp, in Unix milliseconds.
    pub oldest: Option<i64>,
    /// Timestamp of the batch that was pushed first; it is not the oldest if the clock was set back
    /// since.
    pub first: Option<i64>,
}

// === impl Limits ===

impl Limits {
    /// For a queue on disk, with AMP's limit of age.
    pub const DISK: Self = Self {
        bytes: DISK_BYTES,
        memory_bytes: MEMORY_BYTES,
        age: Some(AMP_AGE_MAX),
        segment_bytes: SEGMENT_BYTES,
    };

    /// For a queue in memory, with AMP's limit of age.
    pub const MEMORY: Self = Self {
        bytes: MEMORY_BYTES,
        ..Self::DISK
    };
}

// === impl Totals ===

impl Totals {
    pub fn dropped(&self) -> u64 {
        self.dropped.values().sum()
    }
}
