//! Who asks, and whether they may: front proxy, client certificate or bearer token, then a review.
//!
//! Health and discovery are open to everyone, so that availability never depends on the Kubernetes
//! API; but whoever shows headers that only a front proxy may send, without being one, is refused
//! everywhere.

mod attributes;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use common_time::Clock;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;

use crate::authentication::TrustCell;
use crate::authentication::certificate::PeerCertificates;
use crate::ledger::Reader;
use crate::path::Route;
use crate::review::cache::Cache;
use crate::review::tokens::{TokenTtl, Tokens, Turns};
use crate::review::{Attributes, Decision, MASTERS, Reviews, User};
use crate::status::{Kind, Reason, Refusal};

/// Answers kept of each kind of review. As many as kube-apiserver keeps.
const ANSWERS_MAX: usize = 8192;

/// Bytes of a bearer token. Those of service accounts have about 1 KiB.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// How long answers of the Kubernetes API hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReviewTtl {
    pub token: Duration,
    /// That a user may.
    pub allow: Duration,
    /// That a user may not.
    pub deny: Duration,
}

/// Lets in who may.
pub struct Guard {
    trust: TrustCell,
    reviews: Arc<dyn Reviews>,
    ttl: ReviewTtl,
    clock: Clock,
    tokens: Tokens,
    access: Cache<(User, Attributes), Decision>,
    turns: Turns,
}

// === impl ReviewTtl ===

impl Default for ReviewTtl {
    /// That a user may holds longer than the 15 s between two syncs of an autoscaler, or each of
    /// its metrics would cost a review each time.
    fn default() -> Self {
        Self {
            token: Duration::from_secs(10),
            allow: Duration::from_mins(1),
            deny: Duration::from_secs(10),
        }
    }
}

// === impl Guard ===

impl Guard {
    /// A guard that believes certificates as `trust` says, and asks `reviews` for the rest.
    pub fn new(trust: TrustCell, reviews: Arc<dyn Reviews>, ttl: ReviewTtl, clock: Clock) -> Self {
        let of_tokens = TokenTtl {
            known: ttl.token,
            unknown: ttl.token,
        };
        let asked = Arc::clone(&reviews);
        Self {
            trust,
            reviews,
            ttl,
            tokens: Tokens::new(asked, Vec::new(), of_tokens, ANSWERS_MAX, clock.clone()),
            access: Cache::new(clock.clone(), ANSWERS_MAX),
            clock,
            turns: Turns::default(),
        }
    }

    /// Lets `request` of `peer` pass, with the user in its extensions, or says why not.
    pub(crate) async fn admit(
        &self,
        request: &mut Parts,
        peer: &PeerCertificates,
    ) -> Result<(), Refusal> {
        let is_front_proxy = self.is_front_proxy(peer, &request.headers)?;
        // What cannot be read is refused later, by those who say why.
        let Ok(route) = Route::parse(request.uri.path()) else {
            return Ok(());
        };
        let Some(attributes) = attributes::of(&route) else {
            return Ok(());
        };
        let user = self
            .authenticate(is_front_proxy, peer, &request.headers)
            .await?
            .into_authenticated();
        self.trust.headers().strip(&mut request.headers);
        self.authorize(&user, &attributes).await?;
        request.extensions.insert(Reader(user.name));
        Ok(())
    }

    /// True if this is a front proxy, whatever it asks.
    pub(crate) fn trusts(&self, peer: &PeerCertificates) -> bool {
        let trust = self.trust.get();
        trust.is_some_and(|trust| peer.standing(&trust, self.clock.both()).front_proxy)
    }

    /// True if the request is passed on by a front proxy that names a user. It is an error to claim
    /// it and not be one.
    fn is_front_proxy(
        &self,
        peer: &PeerCertificates,
        headers: &HeaderMap,
    ) -> Result<bool, Refusal> {
        if !self.trust.headers().are_in(headers) {
            return Ok(false);
        }
        let trust = self.trust.get();
        let standing = trust.map(|trust| peer.standing(&trust, self.clock.both()));
        if standing.is_some_and(|standing| standing.front_proxy) {
            return Ok(true);
        }
        if peer.is_some() && !self.trust.is_set() {
            return Err(Refusal::new(
                Kind::Unavailable,
                Reason::Review,
                "it is not known yet which front proxies to trust: the ConfigMap \
                 kube-system/extension-apiserver-authentication was not read (see /readyz)",
            ));
        }
        Err(unauthorized(
            "only a front proxy whose certificate is trusted may name a user in headers",
        ))
    }

    async fn authenticate(
        &self,
        is_front_proxy: bool,
        peer: &PeerCertificates,
        headers: &HeaderMap,
    ) -> Result<User, Refusal> {
        if is_front_proxy {
            let user = self.trust.headers().user(headers);
            return user.ok_or_else(|| unauthorized("the front proxy names no user"));
        }
        let standing = self
            .trust
            .get()
            .map(|trust| peer.standing(&trust, self.clock.both()));
        if let Some(user) = standing.and_then(|standing| standing.client.clone()) {
            return Ok(user);
        }
        match bearer_token(headers) {
            Some(token) if token.len() > TOKEN_BYTES_MAX => {
                Err(unauthorized("the token is too long"))
            }
            Some(token) => {
                let user = self.tokens.user(token).await.map_err(|error| {
                    let message = format!("the bearer token cannot be checked: {error}");
                    Refusal::new(Kind::Unavailable, Reason::Review, message)
                })?;
                user.ok_or_else(|| unauthorized("the bearer token is not valid"))
            }
            None if peer.is_some() => Err(unauthorized(
                "no trusted client CA signed the client certificate, or it is not for client authentication",
            )),
            None => Err(unauthorized(
                "neither a client certificate nor a bearer token was shown",
            )),
        }
    }

    async fn authorize(&self, user: &User, attributes: &Attributes) -> Result<(), Refusal> {
        if user.is_in(MASTERS) {
            return Ok(());
        }
        let key = (user.clone(), attributes.clone());
        let ask = || {
            let (reviews, (user, attributes)) = (Arc::clone(&self.reviews), key.clone());
            let turns = self.turns.clone();
            async move { turns.take(reviews.access(&user, &attributes)).await }
        };
        let ttl = |decision: &Decision| match decision {
            Decision::Allow => self.ttl.allow,
            Decision::Deny(_) | Decision::NoOpinion => self.ttl.deny,
        };
        match self.access.get(&key, ask, ttl).await {
            Ok(Decision::Allow) => Ok(()),
            Ok(Decision::Deny(reason)) => Err(attributes::forbidden(user, attributes, &reason)),
            Ok(Decision::NoOpinion) => Err(attributes::forbidden(user, attributes, "")),
            Err(error) => {
                let forbidden = attributes::forbidden(user, attributes, "").message;
                let message =
                    format!("it cannot be told whether the user may ({forbidden}): {error}");
                Err(Refusal::new(Kind::Unavailable, Reason::Review, message))
            }
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

/// The scheme's name is not case-sensitive (RFC 9110 section 11.1).
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn unauthorized(why: &str) -> Refusal {
    Refusal::new(
        Kind::Unauthorized,
        Reason::Authentication,
        format!("Unauthorized: {why}"),
    )
}

#[cfg(test)]
mod tests;
