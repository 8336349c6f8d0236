//! The ledger of metric reads: what each autoscaler read, when, from which pods; and how the status
//! of each HPA changed.
//!
//! ```text
//! record ──> room of autoscalers ─┐  a room: subjects, each with records of 24 h and details
//!        └─> room of others ──────┼─> reads
//! changed ─> changes ─────────────┴─> changes
//! ```
//!
//! Pure: time comes in as an argument, and reads that outlive the process are written by a
//! [`Journal`] of the caller's. Everything is bounded in bytes: [`Ledger::new`] is given the limit,
//! and what gives way is counted by [`DropReason`].

mod blocks;
mod changes;
mod detail;
mod entry;
mod ledger;
pub mod limits;
mod query;
mod read;
mod record;
mod room;
mod subject;
mod varint;

pub use aggregator_view::documents::ReadSource;
pub use entry::EntryError;
pub use ledger::{DropReason, Journal, Ledger, Sizes};
pub use query::{Query, Reads};
pub use read::{Answer, Each, Object, PodState, PodValue, Read, Reader};

#[cfg(test)]
mod tests;
