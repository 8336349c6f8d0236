//! Between an Envoy and the control plane of its configuration.
//!
//! ```text
//! Envoy <-> server (aggregated discovery, both forms) <-> session <-> upstream (control plane)
//!                                                          ├ modules (there, and the right ones?)
//!                                                          └ events (about the pod)
//! ```
//!
//! One stream to the control plane for each stream of Envoy. Requests pass unchanged but for the
//! nonces that are ours; of responses only listeners and clusters are changed, and never a version.
//! If Envoy rejects what was changed it gets the original at once. Contents are never logged: keys
//! pass through.

pub mod codec;
pub mod events;
pub mod metrics;
pub mod modules;
pub mod server;
pub mod session;
pub mod upstream;

pub use session::{Limits, MESSAGE_BYTES_MAX};

/// Largest request of an Envoy: names and versions of what it has.
pub const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;
