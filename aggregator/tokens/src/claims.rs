//! What a token says of itself, read once its signature was verified.

use std::time::Duration;

use common_time::UnixMillis;
use serde::Deserialize;

use crate::compact::malformed;
use crate::rejection::{Rejection, RejectionReason, Undecided, Unverified};

/// How far apart our clock and that of the issuer may be. kube-apiserver allows as much when it
/// reviews a token, so both ways agree.
const LEEWAY: Duration = Duration::from_mins(1);

/// The service account of a verified token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceAccount {
    pub namespace: String,
    pub name: String,
    /// `None` if the token is bound to no pod.
    pub pod: Option<BoundPod>,
}

/// The pod that a token is bound to, in the namespace of its service account.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BoundPod {
    pub name: String,
    pub uid: String,
}

/// Claims as kube-apiserver writes them; times in seconds of Unix time.
#[derive(Debug, Deserialize)]
pub(crate) struct Claims {
    iss: String,
    #[serde(default)]
    aud: Audiences,
    exp: u64,
    #[serde(default)]
    nbf: Option<u64>,
    sub: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Kubernetes,
}

/// One audience, or several (RFC 7519, section 4.1.3).
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Several(Vec<String>),
}

#[derive(Debug, Deserialize)]
struct Kubernetes {
    namespace: String,
    serviceaccount: Reference,
    #[serde(default)]
    pod: Option<Reference>,
}

#[derive(Debug, Deserialize)]
struct Reference {
    name: String,
    uid: String,
}

// === impl Claims ===

impl Claims {
    pub(crate) fn parse(json: &[u8]) -> Result<Self, Rejection> {
        // Where, but nothing of what it says.
        serde_json::from_slice(json).map_err(|error| {
            let column = error.column();
            malformed(&format!("its claims are incomplete (at byte {column})"))
        })
    }

    /// Checks everything but the pod.
    pub(crate) fn check(
        self,
        issuer: &str,
        audience: &str,
        now: UnixMillis,
    ) -> Result<ServiceAccount, Unverified> {
        self.check_audience(audience)?;
        self.check_time(now)?;
        let is_of_issuer = self.iss == issuer;
        let account = self.account()?;
        // Last: what would be refused in any case is not worth a question to kube-apiserver.
        if !is_of_issuer {
            return Err(Unverified::Undecided(Undecided::OtherIssuer));
        }
        Ok(account)
    }

    fn check_audience(&self, audience: &str) -> Result<(), Rejection> {
        let is_for_us = match &self.aud {
            Audiences::One(one) => one == audience,
            Audiences::Several(several) => several.iter().any(|one| one == audience),
        };
        if is_for_us {
            return Ok(());
        }
        let sentence = format!(
            "the bearer token is not for the audience {audience:?}: project one for it into the pod"
        );
        Err(Rejection::new(RejectionReason::Audience, sentence))
    }

    fn check_time(&self, now: UnixMillis) -> Result<(), Rejection> {
        let at = |seconds: u64| UnixMillis(seconds.saturating_mul(1000));
        let expires = at(self.exp);
        if now >= expires + LEEWAY {
            let seconds = now.since(expires).as_secs();
            let sentence = format!("the bearer token expired {seconds} s ago");
            return Err(Rejection::new(RejectionReason::Expired, sentence));
        }
        let begins = at(self.nbf.unwrap_or_default());
        if begins > now + LEEWAY {
            let seconds = begins.since(now).as_secs();
            let sentence = format!(
                "the bearer token begins to be valid in {seconds} s: are the clocks of kube-apiserver and aggregator set?"
            );
            return Err(Rejection::new(RejectionReason::NotYetValid, sentence));
        }
        Ok(())
    }

    /// The service account, named twice and the same.
    fn account(self) -> Result<ServiceAccount, Rejection> {
        let Kubernetes {
            namespace,
            serviceaccount,
            pod,
        } = self.kubernetes;
        let name = serviceaccount.name;
        let agrees = self.sub == format!("system:serviceaccount:{namespace}:{name}");
        // A colon would let one text name two accounts.
        let is_named = [&namespace, &name]
            .iter()
            .all(|part| !part.is_empty() && !part.contains(':'));
        if !agrees || !is_named || serviceaccount.uid.is_empty() {
            let sentence = "the bearer token names two service accounts, or none";
            return Err(Rejection::new(RejectionReason::Subject, sentence));
        }
        let pod = pod.map(|pod| match (pod.name.is_empty(), pod.uid.is_empty()) {
            (false, false) => Ok(BoundPod {
                name: pod.name,
                uid: pod.uid,
            }),
            _ => Err(malformed("its pod has no name or no uid")),
        });
        Ok(ServiceAccount {
            namespace,
            name,
            pod: pod.transpose()?,
        })
    }
}

// === impl Audiences ===

impl Default for Audiences {
    /// For nobody.
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}
