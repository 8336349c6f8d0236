//! What `render` makes of its options.

#![expect(clippy::unwrap_used, reason = "in a test any surprise is a failure")]

mod cases;
mod refusals;
mod snapshots;
mod substance;
