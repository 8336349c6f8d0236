//! Who asks: front proxy, client certificate or bearer token, in this order, as Kubernetes API
//! servers do it.
//!
//! ```text
//! trust        which CA says what (watched, swapped at run time)
//! certificate  the client certificate of a connection, judged against each CA separately
//! headers      the user that a front proxy names
//! ```
//!
//! The handshake accepts any certificate, as in Go (`tls.RequestClientCert`), since only afterwards
//! one can tell which CA it belongs to. A certificate of the client CA can never set the headers of
//! a front proxy, and whoever sends such headers without being one is refused, whatever else they
//! show.

pub(crate) mod certificate;
mod headers;
mod trust;

pub use trust::{Trust, TrustCell, TrustError};
