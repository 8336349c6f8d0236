//! Authenticates by front proxy, client certificate or bearer token, in this order, as Kubernetes
//! API servers do.
//!
//! ```text
//! trust        trust anchors and their roles (watched, swapped at run time)
//! certificate  the client certificate of a connection, verified against each CA separately
//! headers      the user that a front proxy names
//! ```
//!
//! The handshake accepts any certificate, as in Go (`tls.RequestClientCert`): its CA is found only
//! afterwards. A certificate of the client CA never authorises the headers of a front proxy, and a
//! client that sends such headers without being one is refused, whatever other credentials it has.

pub(crate) mod certificate;
mod headers;
mod trust;

pub use trust::{Trust, TrustCell, TrustError};
