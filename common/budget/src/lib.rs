//! The memory budget of a program.
//!
//! ```text
//! limit (cgroup, or a flag) -> division (parts: least, most, weight)
//!   -> room (bytes of messages in flight)
//! ```
//!
//! A part's size becomes a limit of something that can be counted: pods, connections, bytes. What
//! goes beyond is refused by name by whoever holds the part.

pub mod division;
pub mod limit;
pub mod messages;
pub mod room;
pub mod size;

pub use division::{Part, TooSmall, divide};
pub use limit::Limit;
pub use messages::{Bounds, Messages};
pub use room::{Full, Room, Sender};
pub use size::Size;
