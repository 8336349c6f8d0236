//! Certificates of listeners, and CA bundles.
//!
//! ```text
//! files (hot reload) ──┐
//! ca (our own) ────────┴─> reloadable_cert (swapped at run time) -> config -> rustls
//!                          clients (verifiers of client certificates)
//!                          bundle (CA certificates to trust, and nothing else)
//! ```

pub mod bundle;
pub mod ca;
pub mod clients;
pub mod config;
pub mod files;
pub mod reloadable_cert;

pub use ca::CertificateAuthority;
pub use config::Protocols;
pub use reloadable_cert::{ReloadableCert, TlsError};
