//! Why a token is not verified.

use thiserror::Error;

common_names::named! {
    /// Why a token is refused; a label of metrics.
    pub enum RejectionReason {
        /// It is not a token as kube-apiserver writes them.
        Malformed = "malformed",
        /// Its algorithm is not that of its key.
        Algorithm = "algorithm",
        /// The cluster has no such key.
        UnknownKey = "unknown_key",
        /// Its signature is wrong.
        Signature = "signature",
        /// It is for somebody else.
        Audience = "audience",
        /// Its time is over.
        Expired = "expired",
        /// Its time has not come.
        NotYetValid = "not_yet_valid",
        /// What it says of its service account does not agree.
        Subject = "subject",
        /// Its pod was deleted.
        DeletedPod = "deleted_pod",
    }
}

common_names::named! {
    /// Why these keys cannot decide about a token; a label of metrics.
    pub enum Undecided {
        /// The key is of a kind that only kube-apiserver verifies.
        UnsupportedKey = "unsupported_key",
        /// Signed by the cluster in another issuer's name, as while the issuer is being changed.
        OtherIssuer = "other_issuer",
    }
}

/// Why a token is refused, in a sentence for its sender.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{sentence}")]
pub struct Rejection {
    pub reason: RejectionReason,
    sentence: String,
}

/// Why a token is not verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unverified {
    Rejected(Rejection),
    Undecided(Undecided),
}

// === impl Rejection ===

impl Rejection {
    pub fn new(reason: RejectionReason, sentence: impl Into<String>) -> Self {
        let sentence = sentence.into();
        Self { reason, sentence }
    }
}

impl From<Rejection> for Unverified {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}
