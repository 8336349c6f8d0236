//! The limits of the ledger.

use std::time::Duration;

/// How far records and changes reach back.
pub const KEPT: Duration = Duration::from_hours(24);

/// How far back the values of each pod reach. Around changes they stay as long as the records.
pub const DETAILED: Duration = Duration::from_mins(15);

/// Bytes of the ledger for one autoscaler that reads each 15 s: 5,760 records of about 10 bytes,
/// the pods of 80 reads of about 70 bytes with ten pods, and of some 900 reads around changes.
pub const BYTES_PER_AUTOSCALER: usize = 160 * 1024;

/// Smallest ledger: that of 12 autoscalers, for the reads of people and tools.
pub const BYTES_MIN: usize = 2 * 1024 * 1024;

/// Autoscalers for which the ledger is sized by default.
pub const AUTOSCALERS: usize = 100;

/// Sixteenths of the ledger for the reads of autoscalers.
pub(crate) const AUTOSCALERS_SIXTEENTHS: usize = 13;

/// Sixteenths of the ledger for the reads of people and other tools.
pub(crate) const OTHERS_SIXTEENTHS: usize = 2;

/// Sixteenths of the ledger for changes of the status of HPAs.
pub(crate) const CHANGES_SIXTEENTHS: usize = 1;

/// One subject takes at most this part of its room, so that one that reads without pause leaves the
/// history of the others.
pub(crate) const SUBJECT_PART: usize = 8;

/// Bytes at which a block is closed: some 100 records, or the pods of some 15 reads.
pub(crate) const BLOCK_BYTES: usize = 1024;

/// Bytes of a user's name, of a user agent and of a refusal's message; what is longer is cut.
pub(crate) const TEXT_BYTES_MAX: usize = 512;

/// The size of a ledger for `autoscalers` of them, in bytes.
pub const fn bytes_for(autoscalers: usize) -> usize {
    let bytes = autoscalers.saturating_mul(BYTES_PER_AUTOSCALER);
    if bytes > BYTES_MIN { bytes } else { BYTES_MIN }
}
