//! The ledger on disk: what it is given outlives the process.
//!
//! ```text
//! Ledger ─> Sender ─(bounded queue)─> Writer, once a second ─> Disk: segments of batches
//!                                                              └ at the start ─> Ledger::restore
//! ```
//!
//! A request never waits for the disk: what the queue has no room for is lost for the disk only,
//! and counted. So is what a failing disk does not take. A batch that is damaged is left out; all
//! others are restored.

mod batch;
mod counts;
mod disk;
mod limits;
mod writer;

pub use counts::{Counts, LossReason};
pub use disk::Disk;
pub use limits::{BYTES_MIN, QUEUE_BYTES_MAX};
pub use writer::{Sender, Writer};
