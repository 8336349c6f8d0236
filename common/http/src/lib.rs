//! The server behind every listener of our programs.
//!
//! ```text
//! accept -> slot (limits, eviction) -> first byte, TLS -> HTTP/1.1 or HTTP/2 -> handler ->
//! response
//!            |                           |                  |                     |
//!            refused, counted            deadlines: handshake, head, body, slow reader, idle, age
//! ```
//!
//! A program passes [`Settings`] and a handler to [`Server::serve`]; this crate defends the
//! listener against peers that would keep others out. When all slots are taken, the connection that
//! has been idle for the longest is evicted, first one of the address with the most connections. So
//! a probe always gets a response.

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

/// The error type of bodies.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
