//! Injects the filter into Envoy listeners, whichever control plane sends them.
//!
//! ```text
//! discovery (a response) -> listener (HTTP connection managers) -> wire (fields as bytes)
//!                        -> clusters of ours                    <- injection (what goes in)
//! ```
//!
//! Nothing is decoded that is not changed: unknown fields, their order and their encoding stay as
//! they are, and taking out what was put in gives the input back, byte for byte. What cannot be
//! read like that is passed through untouched.

pub mod discovery;
pub mod injection;
pub mod listener;
pub mod wire;
