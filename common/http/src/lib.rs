//! The server behind every listener of our programs.
//!
//! ```text
//! accept -> place (limits, eviction) -> first byte, TLS -> HTTP/1.1 or HTTP/2 -> handler -> answer
//!             |                           |                  |                     |
//!             refused, counted            deadlines: handshake, head, body, slow reader, idle, age
//! ```
//!
//! Whoever listens says so by [`Settings`] and gives a handler to [`Server::serve`]; everything
//! that a peer could do to keep others out is answered here. When all places are taken, the
//! connection that has been without a request for the longest makes room, first one of the address
//! that holds the most. So a probe is always answered.

pub mod descriptors;
pub mod health;
pub mod pages;

mod activity;
mod body;
mod clock;
mod connection;
mod connection_slots;
mod handshake;
mod listener;
mod metrics;
mod server;
mod settings;
mod tally;
mod watched;

pub use body::{BodyTimeout, RequestBody, ResponseBody};
pub use handshake::Security;
pub use listener::{Listener, Peer};
pub use metrics::Metrics;
pub use server::Server;
pub use settings::{Deadlines, Http2, Limits, Protocol, Settings};

/// Any error, as bodies have it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
