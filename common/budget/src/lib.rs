//! The memory budget of a program.
//!
//! ```text
//! limit (cgroup, or a flag) -> division (parts: least, most, weight)
//!   -> room (bytes of messages in flight)
//! ```
//!
//! A part's size becomes a limit of something countable: pods, connections, bytes. The part's owner
//! refuses whatever exceeds it.

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
