//! How sums pass from the replica that writes to the next one: those that stand by fetch a copy of each flush's
//! checkpoint before the flush is sent.
//!
//! ```text
//! writer: flush -> checkpoint -> published -> every standby has it (or is late) -> Lease tells the flush -> sent
//! standby: copy, asks for the next one, which says that it has this one
//! ```
//!
//! Whoever takes over goes on with its copy if that is as new as the flush that the Lease tells: then it holds all that
//! may have been sent, and running totals that hold it count nothing twice.

mod copies;
mod standbys;

pub use copies::{Copies, CopyError};
pub use standbys::Standbys;

#[cfg(test)]
mod tests;

/// Where a writer is asked for the copy of its checkpoint.
pub const PATH: &str = "/remote-write/checkpoint";

/// Parameters: the name of the replica that asks, and the flush that its copy is of.
const STANDBY: &str = "standby";
const HAS: &str = "has";

/// How long a writer lets a standby wait for something new.
const NEWS_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);
