//! The limits of the ledger on disk.

/// Smallest limit of a folder, in bytes.
pub const BYTES_MIN: u64 = 4 * 1024 * 1024;

/// Files of segments; a process that is restarted again and again begins a new one each time.
pub(crate) const FILES_MAX: usize = 256;

/// Part of a folder's limit that one segment takes: so much history is removed at once.
pub(crate) const SEGMENT_PART: u64 = 16;

/// Bytes of reads and changes that wait for the writer: those of a second by 1,000 autoscalers with
/// 50 pods each are 50 kB.
pub const QUEUE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Reads and changes that wait.
pub(crate) const QUEUE_MAX: usize = 8192;

/// Bytes of the entries in a batch, so that one batch takes little memory.
pub(crate) const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of a body, compressed or not: a batch is closed by the entry that fills it.
pub(crate) const BODY_BYTES_MAX: usize = BATCH_BYTES_MAX + QUEUE_BYTES_MAX;
