//! `TokenReview` and `SubjectAccessReview`: the user of a bearer token, and what a user may do.

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use kube::Client;

use crate::api::Api;
use crate::connection::ClusterError;

/// Requests reviews from the API server.
#[derive(Clone)]
pub struct Reviewer {
    client: Client,
}

// === impl Reviewer ===

impl Reviewer {
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The user of `token`; `None` if it is invalid, or not for any of `audiences`. Without
    /// audiences it must be valid for kube-apiserver itself.
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
        let reviewed = Api::all(&self.client).create(&review).await?;
        let status = reviewed.status.unwrap_or_default();
        // A server that does not support audiences leaves them empty: then the token is valid for
        // kube-apiserver only.
        let valid_for = status.audiences.unwrap_or_default();
        let for_us = audiences.is_empty() || audiences.iter().any(|ours| valid_for.contains(ours));
        let is_valid = status.authenticated.unwrap_or_default() && for_us;
        Ok(is_valid.then(|| status.user.unwrap_or_default()))
    }

    /// Whether a user may do what `attempt` describes.
    pub async fn access(
        &self,
        attempt: SubjectAccessReviewSpec,
    ) -> Result<SubjectAccessReviewStatus, ClusterError> {
        let review = SubjectAccessReview {
            spec: attempt,
            ..SubjectAccessReview::default()
        };
        let reviewed = Api::all(&self.client).create(&review).await?;
        Ok(reviewed.status.unwrap_or_default())
    }
}

impl std::fmt::Debug for Reviewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reviewer").finish_non_exhaustive()
    }
}
