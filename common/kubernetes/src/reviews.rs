//! `TokenReview` and `SubjectAccessReview`: who a bearer token is, and what a user may do, as the
//! cluster sees it.

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use kube::Client;

use crate::api::Api;
use crate::connection::ClusterError;

/// Asks the cluster for reviews.
#[derive(Clone)]
pub struct Reviewer {
    client: Client,
}

// === impl Reviewer ===

impl Reviewer {
    /// Asks the cluster of `client`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Who `token` is; `None` if it is nobody, or not for any of `audiences`. Without audiences it
    /// is to be one for kube-apiserver itself.
    pub async fn token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<UserInfo>, ClusterError> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                audiences: (!audiences.is_empty()).then(|| audiences.to_vec()),
                token: token.to_owned(),
            },
            ..TokenReview::default()
        };
        let answer = Api::all(&self.client).create(&review).await?;
        let status = answer.status.unwrap_or_default();
        // A server that does not know audiences says nothing of them: then the token is for the
        // server alone.
        let valid_for = status.audiences.unwrap_or_default();
        let for_us = audiences.is_empty() || audiences.iter().any(|ours| valid_for.contains(ours));
        let is_somebody = status.authenticated.unwrap_or_default() && for_us;
        Ok(is_somebody.then(|| status.user.unwrap_or_default()))
    }

    /// Whether a user may do what they attempt.
    pub async fn access(
        &self,
        attempt: SubjectAccessReviewSpec,
    ) -> Result<SubjectAccessReviewStatus, ClusterError> {
        let review = SubjectAccessReview {
            spec: attempt,
            ..SubjectAccessReview::default()
        };
        let answer = Api::all(&self.client).create(&review).await?;
        Ok(answer.status.unwrap_or_default())
    }
}

impl std::fmt::Debug for Reviewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reviewer").finish_non_exhaustive()
    }
}
