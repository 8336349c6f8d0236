//! Authenticates (front proxy, client certificate or bearer token) and authorises (access review).
//!
//! Health and discovery need no credentials, so that availability never depends on the Kubernetes
//! API; but a client that sends headers of a front proxy without being one is refused everywhere.

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
use crate::path::Route;
use crate::recording::Reader;
use crate::review::cache::Cache;
use crate::review::tokens::{ReviewLimiter, TokenTtl, Tokens};
use crate::review::{Attributes, Decision, MASTERS, Reviews, User};
use crate::status::{Kind, Reason, Refusal};

/// Cached results of each kind of review, as many as kube-apiserver caches.
const CACHED_REVIEWS_MAX: usize = 8192;

/// Bytes of a bearer token. Those of service accounts have about 1 KiB.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// How long to cache reviews of the Kubernetes API.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReviewTtl {
    pub token: Duration,
    pub allow: Duration,
    pub deny: Duration,
}

pub struct Guard {
    trust: TrustCell,
    reviews: Arc<dyn Reviews>,
    ttl: ReviewTtl,
    clock: Clock,
    tokens: Tokens,
    access: Cache<(User, Attributes), Decision>,
    limiter: ReviewLimiter,
}

// === impl ReviewTtl ===

impl Default for ReviewTtl {
    fn default() -> Self {
        // `allow` exceeds the 15 s between two syncs of an autoscaler; otherwise each of its
        // metrics would cost a review each time.
        Self {
            token: Duration::from_secs(10),
            allow: Duration::from_mins(1),
            deny: Duration::from_secs(10),
        }
    }
}

// === impl Guard ===

impl Guard {
    /// A guard that verifies certificates by `trust` and asks `reviews` for all else.
    pub fn new(trust: TrustCell, reviews: Arc<dyn Reviews>, ttl: ReviewTtl, clock: Clock) -> Self {
        let token_ttl = TokenTtl {
            valid: ttl.token,
            invalid: ttl.token,
        };
        let token_reviews = Arc::clone(&reviews);
        Self {
            trust,
            reviews,
            ttl,
            tokens: Tokens::new(
                token_reviews,
                Vec::new(),
                token_ttl,
                CACHED_REVIEWS_MAX,
                clock.clone(),
            ),
            access: Cache::new(clock.clone(), CACHED_REVIEWS_MAX),
            clock,
            limiter: ReviewLimiter::default(),
        }
    }

    /// Admits `request` of `peer` and puts the user into its extensions.
    pub(crate) async fn admit(
        &self,
        request: &mut Parts,
        peer: &PeerCertificates,
    ) -> Result<(), Refusal> {
        let is_front_proxy = self.is_front_proxy(peer, &request.headers)?;
        // The handler refuses a path that cannot be parsed, with the reason.
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

    /// True if `peer` has the certificate of a front proxy.
    pub(crate) fn trusts(&self, peer: &PeerCertificates) -> bool {
        let trust = self.trust.get();
        trust.is_some_and(|trust| peer.role(&trust, self.clock.both()).front_proxy)
    }

    /// True if a front proxy forwards the request and names a user. An error if the headers come
    /// from a client that is no front proxy.
    fn is_front_proxy(
        &self,
        peer: &PeerCertificates,
        headers: &HeaderMap,
    ) -> Result<bool, Refusal> {
        if !self.trust.headers().are_in(headers) {
            return Ok(false);
        }
        let trust = self.trust.get();
        let role = trust.map(|trust| peer.role(&trust, self.clock.both()));
        if role.is_some_and(|role| role.front_proxy) {
            return Ok(true);
        }
        // Before the ConfigMap is read no front proxy can be recognised: that is a failure of ours
        // (503), not of the client (401).
        if peer.is_some() && !self.trust.is_set() {
            return Err(Refusal::new(
                Kind::Unavailable,
                Reason::Review,
                "the trusted front proxies are not known yet: the ConfigMap \
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
        let role = self
            .trust
            .get()
            .map(|trust| peer.role(&trust, self.clock.both()));
        if let Some(user) = role.and_then(|role| role.client.clone()) {
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
                "neither a client certificate nor a bearer token was sent",
            )),
        }
    }

    async fn authorize(&self, user: &User, attributes: &Attributes) -> Result<(), Refusal> {
        // As kube-apiserver: this group is allowed everything, even while reviews fail.
        if user.is_in(MASTERS) {
            return Ok(());
        }
        let key = (user.clone(), attributes.clone());
        let ask = || {
            let (reviews, (user, attributes)) = (Arc::clone(&self.reviews), key.clone());
            let limiter = self.limiter.clone();
            async move { limiter.run(reviews.access(&user, &attributes)).await }
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
                let message = format!("the access review failed ({forbidden}): {error}");
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

/// The scheme is case-insensitive (RFC 9110 section 11.1).
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
