//! Whose a bearer token is: verified here by the keys of the cluster, or reviewed by
//! kube-apiserver.
//!
//! ```text
//! token ── local (issuer_keys, directory) ── verified or refused
//!            └─ what it cannot tell, and all without it ── review (TokenReview)
//! ```

use std::fmt;
use std::sync::Arc;

use aggregator_directory::Directory;
use prometheus_client::registry::Registry;

use crate::close_reason::Refusal;
use crate::metrics::{Metrics, TokenMethod};

mod issuer_keys;
mod local;
mod review;

pub use aggregator_tokens::Issuer;
pub use issuer_keys::{Fetch, IssuerKeys, KeySource};
pub use local::LocalTokens;
pub use review::{TokenReview, TokenReviews, TokenUser};

use local::Verdict;

#[cfg(test)]
mod tests;

/// Tells whose a bearer token is.
pub struct Tokens {
    /// `None` if all tokens are reviewed.
    local: Option<LocalTokens>,
    reviews: Arc<dyn TokenReviews>,
}

// === impl Tokens ===

impl Tokens {
    /// Every token is reviewed by kube-apiserver.
    pub fn reviewed(reviews: Arc<dyn TokenReviews>) -> Self {
        let local = None;
        Self { local, reviews }
    }

    /// Tokens are verified here. Those about which nothing can be said are reviewed.
    pub fn verified(local: LocalTokens, reviews: Arc<dyn TokenReviews>) -> Self {
        let local = Some(local);
        Self { local, reviews }
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        if let Some(local) = &self.local {
            local.register(registry);
        }
    }

    /// The user of `token`.
    pub(crate) async fn user(
        &self,
        token: &str,
        directory: &Directory,
        metrics: &Metrics,
    ) -> Result<TokenUser, Refusal> {
        if let Some(local) = &self.local {
            match local.verify(token, directory).await {
                Verdict::Verified(user) => {
                    metrics.count_token(TokenMethod::Local, outcome(&user));
                    return Ok(user);
                }
                Verdict::Rejected(rejection) => {
                    metrics.count_token(TokenMethod::Local, rejection.reason.as_str());
                    return Err(Refusal::Unauthenticated(rejection.to_string()));
                }
                Verdict::Undecided(why) => {
                    metrics.count_fallback(why);
                    local.log(why);
                }
            }
        }
        let reviewed = self.reviews.review(token).await;
        let counted = match &reviewed {
            Err(_) => "failed",
            Ok(None) => "invalid",
            Ok(Some(user)) => outcome(user),
        };
        metrics.count_token(TokenMethod::Review, counted);
        reviewed
            .map_err(Refusal::Unreviewed)?
            .ok_or_else(|| Refusal::Unauthenticated("the bearer token is not valid".to_owned()))
    }
}

fn outcome(user: &TokenUser) -> &'static str {
    match user.bound_pod() {
        Some(_) => "verified",
        None => "unbound",
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Tokens");
        debug.field("local", &self.local).finish_non_exhaustive()
    }
}
