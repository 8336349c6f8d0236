//! Injects the filter into Envoy listeners, whichever control plane sends them.
//!
//! ```text
//! discovery (a response) -> listener (HTTP connection managers) -> wire (fields as bytes)
//!                        -> added clusters                      <- injection (configuration)
//! ```
//!
//! Only what is changed is decoded: unknown fields, field order and encoding stay as they are, and
//! removal after injection restores the input byte for byte. What cannot be parsed that way passes
//! unchanged.

pub mod discovery;
pub mod envoy_version;
pub mod injection;
pub mod listener;
pub mod wire;
