//! Service account tokens, verified by the keys of the cluster that issued them. Pure: no clock, no
//! I/O.
//!
//! ```text
//! discovery document, key set ──> issuer::Issuer ── verify(token, audience, now) ──> who, and
//!                                  └ keys::KeySet                                    which pod
//!                                  └ compact (the parts of a token), claims
//! ```
//!
//! What kube-apiserver would refuse is refused here. What cannot be decided by these keys alone is
//! [`Unverified::Undecided`]: only kube-apiserver knows.

mod claims;
mod compact;
pub mod issuer;
pub mod keys;
mod rejection;

pub use claims::{BoundPod, ServiceAccount};
pub use issuer::Issuer;
pub use keys::{KeySet, KeySetError};
pub use rejection::{Rejection, RejectionReason, Undecided, Unverified};
