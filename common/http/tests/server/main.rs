//! The server on loopback. Where time matters it is that of the runtime, which runs ahead when
//! nothing else happens.

#![expect(clippy::unwrap_used, reason = "in a test any surprise is a failure")]

mod client;
mod deadlines;
mod head;
mod places;
mod running;
mod security;
