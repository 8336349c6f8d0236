//! Certificates of the aggregator's listeners.
//!
//! ```text
//! files (hot reload) ──┐
//! CA (our CA) ──┴─> serving (one certificate, swapped at run time) -> config -> rustls
//!                          clients (which client certificates the handshake takes)
//! ```

pub mod ca;
pub mod clients;
pub mod config;
pub mod files;
pub mod serving;

pub use ca::CertificateAuthority;
pub use config::Protocols;
pub use serving::{Serving, TlsError};
