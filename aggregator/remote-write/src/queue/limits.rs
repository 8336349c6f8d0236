//! What a queue holds at most, and what went through it.

use std::collections::BTreeMap;
use std::time::Duration;

/// Bytes of a file of the log before the next one is begun.
pub const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

/// Default of [`Limits::bytes`] on disk.
pub const DISK_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// Default of [`Limits::bytes`] in memory, and of [`Limits::memory_bytes`].
pub const MEMORY_BYTES: u64 = 64 * 1024 * 1024;

/// AMP refuses samples older than an hour; what is older than this would not arrive in time.
pub const AMP_AGE_MAX: Duration = Duration::from_mins(55);

/// What the queue holds at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of pending batches with their headers.
    pub bytes: u64,
    /// Of these, bytes held in memory while the disk does not take them.
    pub memory_bytes: u64,
    /// Age of a pending batch; `None` for no limit.
    pub age: Option<Duration>,
    /// Bytes of a file before the next one is begun.
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
        /// The disk gave back other bytes than were written, or could not be read.
        Corrupt = "corrupt",
        /// The batch is longer than any request may be.
        TooLarge = "too_large",
        /// Another replica writes: it tells the same totals.
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
    /// Bytes on disk that were no records when the queue was opened.
    pub damaged_bytes: u64,
    /// Writes that the disk did not take; their batches were held in memory.
    pub write_errors: u64,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Waiting {
    pub samples: u64,
    pub batches: usize,
    /// Bytes of the batches with their headers.
    pub bytes: u64,
    /// Timestamp of the oldest, in Unix milliseconds.
    pub oldest: Option<i64>,
    /// Timestamp of what has waited longest: an older one than the oldest where the clock was set
    /// back.
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
