//! The xDS proxy between an Envoy and its control plane.
//!
//! ```text
//! Envoy <-> server (aggregated discovery, both forms) <-> session <-> upstream (control plane)
//!                                                          ├ modules (present and valid?)
//!                                                          └ events (about the pod)
//! ```
//!
//! Each stream of Envoy has its own stream to the control plane. Requests pass unchanged except for
//! nonces that this proxy made; in responses only listeners and clusters are changed, never a
//! version. If Envoy rejects a change it gets the original at once. Contents are never logged: they
//! may hold private keys.

pub mod codec;
pub mod events;
pub mod metrics;
pub mod modules;
pub mod server;
pub mod session;
pub mod upstream;

pub use session::{Limits, MESSAGE_BYTES_MAX};

/// Largest request of an Envoy, in bytes: it lists names and versions of resources, not contents.
pub const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;
