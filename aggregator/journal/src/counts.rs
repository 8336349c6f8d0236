//! What became of what was to be written.

use std::sync::atomic::{AtomicU64, Ordering};

common_names::named! {
    /// Why reads or changes are not on disk.
    pub enum LossReason {
        /// The queue to the writer was full.
        Queue = "queue",
        /// The disk took them not.
        Disk = "disk",
        /// They are in a batch that is damaged.
        Damaged = "damaged",
    }
}

/// Counts since the start, shared by sender and writer.
#[derive(Debug, Default)]
pub struct Counts {
    written: AtomicU64,
    restored: AtomicU64,
    lost: [AtomicU64; LossReason::ALL.len()],
    bytes: AtomicU64,
}

// === impl Counts ===

impl Counts {
    /// Reads and changes written.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Reads and changes of earlier processes, given back to the ledger at the start.
    pub fn restored(&self) -> u64 {
        self.restored.load(Ordering::Relaxed)
    }

    /// Reads and changes that are not on disk, by reason. Of damage it is the number of batches.
    pub fn lost(&self) -> [(LossReason, u64); LossReason::ALL.len()] {
        LossReason::ALL.map(|reason| (reason, self.of(reason).load(Ordering::Relaxed)))
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn add_written(&self, entries: u64) {
        self.written.fetch_add(entries, Ordering::Relaxed);
    }

    pub(crate) fn add_restored(&self, entries: u64) {
        self.restored.fetch_add(entries, Ordering::Relaxed);
    }

    pub(crate) fn lose(&self, reason: LossReason, entries: u64) {
        self.of(reason).fetch_add(entries, Ordering::Relaxed);
    }

    pub(crate) fn set_bytes(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    fn of(&self, reason: LossReason) -> &AtomicU64 {
        match reason {
            LossReason::Queue => &self.lost[0],
            LossReason::Disk => &self.lost[1],
            LossReason::Damaged => &self.lost[2],
        }
    }
}
