//! AWS credentials and SigV4 signing.
//!
//! ```text
//! chain (environment, web identity, Pod Identity, instance)
//!   -> credentials (cached, renewed in time) -> signer (SigV4)
//! ```

pub mod chain;
pub mod credentials;
pub mod host;
mod http_client;
pub mod signer;
