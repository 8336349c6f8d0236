//! Certificates of the aggregator's listeners.
//!
//! ```text
//! files (hot reload) ──┐
//! authority (our CA) ──┴─> serving (one certificate, swapped at run time) -> config -> rustls
//!                          clients (which client certificates the handshake takes)
//! ```

pub mod authority;
pub mod clients;
pub mod config;
pub mod files;
pub mod serving;

pub use authority::Authority;
pub use config::Protocols;
pub use serving::{Serving, TlsError};
