//! An issuer of tokens: its name and its keys.

use common_time::UnixMillis;
use serde::Deserialize;
use thiserror::Error;

use crate::claims::{Claims, ServiceAccount};
use crate::compact::Compact;
use crate::keys::{Key, KeySet, KeySetError};
use crate::rejection::{Rejection, RejectionReason, Undecided, Unverified};

#[cfg(test)]
mod tests;

/// Bytes of a discovery document, which has less than one KiB.
pub const DISCOVERY_BYTES_MAX: usize = 64 * 1024;

/// Algorithms by which Kubernetes signs tokens. One of a key that is not known yet may have any of
/// them.
const OF_KUBERNETES: [&str; 4] = ["RS256", "ES256", "ES384", "ES512"];

/// The issuer of a cluster's tokens.
#[derive(Debug)]
pub struct Issuer {
    name: String,
    keys: KeySet,
}

/// Why the issuer's documents cannot be used.
#[derive(Debug, Error)]
pub enum IssuerError {
    #[error("the discovery document has {bytes} bytes, at most {DISCOVERY_BYTES_MAX} are taken")]
    TooLong { bytes: usize },
    #[error("the discovery document is not one of OpenID Connect: {0}")]
    Malformed(#[source] serde_json::Error),
    #[error("the discovery document names no issuer")]
    Nameless,
    #[error(transparent)]
    Keys(#[from] KeySetError),
}

/// What is needed of a discovery document; its `jwks_uri` never is.
#[derive(Debug, Deserialize)]
struct Discovery {
    issuer: String,
}

// === impl Issuer ===

impl Issuer {
    /// Reads the discovery document and the key set, as kube-apiserver gives them.
    pub fn parse(discovery: &[u8], keys: &[u8]) -> Result<Self, IssuerError> {
        if discovery.len() > DISCOVERY_BYTES_MAX {
            let bytes = discovery.len();
            return Err(IssuerError::TooLong { bytes });
        }
        let Discovery { issuer: name } =
            serde_json::from_slice(discovery).map_err(IssuerError::Malformed)?;
        if name.is_empty() {
            return Err(IssuerError::Nameless);
        }
        let keys = KeySet::parse(keys)?;
        Ok(Self { name, keys })
    }

    /// Its name, exactly as discovered.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn keys(&self) -> &KeySet {
        &self.keys
    }

    /// The service account of `token`, which must be for `audience` and valid at `now`. Whether its
    /// pod exists is for the caller to check.
    pub fn verify(
        &self,
        token: &str,
        audience: &str,
        now: UnixMillis,
    ) -> Result<ServiceAccount, Unverified> {
        let token = Compact::parse(token)?;
        let key = self.key(&token)?;
        let verified = key.verifies(token.signed, &token.signature);
        let verified = verified.ok_or(Unverified::Undecided(Undecided::UnsupportedKey))?;
        if !verified {
            let sentence = "the signature of the bearer token is wrong";
            return Err(Rejection::new(RejectionReason::Signature, sentence).into());
        }
        Claims::parse(&token.claims()?)?.check(&self.name, audience, now)
    }

    /// The key of `token`, if the algorithm in its header is that of the key.
    fn key(&self, token: &Compact<'_>) -> Result<&Key, Rejection> {
        let algorithm = token.header.alg.as_str();
        let key = self.keys.get(&token.header.kid);
        let agrees = match key.and_then(Key::algorithm) {
            Some(of_key) => of_key == algorithm,
            None => OF_KUBERNETES.contains(&algorithm),
        };
        if !agrees {
            let sentence = "the algorithm of the bearer token is not that of its key";
            return Err(Rejection::new(RejectionReason::Algorithm, sentence));
        }
        key.ok_or_else(|| {
            let sentence =
                "the cluster has no such key as the bearer token is signed by: is it of another cluster?";
            Rejection::new(RejectionReason::UnknownKey, sentence)
        })
    }
}
