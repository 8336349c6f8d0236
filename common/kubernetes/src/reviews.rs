//! `TokenReview` and `SubjectAccessReview`: who a bearer token is, and what a user may do, as the cluster sees it.

use std::collections::BTreeMap;

use http::Method;
use kube::Client;
use serde::{Deserialize, Serialize};

use crate::connection::{ClusterError, send};
use crate::index::JSON;

const TOKEN_REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const ACCESS_REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

/// Asks the cluster for reviews.
#[derive(Clone)]
pub struct Reviewer {
    client: Client,
}

/// A user as the cluster knows them.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct User {
    /// Such as `system:serviceaccount:prod:jazz`.
    pub username: String,
    /// Stable identifier.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
    /// Whatever else authenticated them, such as the pod that a token is bound to.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What a user wants to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Attempt {
    /// Something with a resource.
    Resource(ResourceAttempt),
    /// Something with another path.
    Path {
        /// `get`
        verb: String,
        /// Path of the URL.
        path: String,
    },
}

/// `resourceAttributes`
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceAttempt {
    /// `get` or `list`
    pub verb: String,
    /// API group.
    pub group: String,
    /// Version of it.
    pub version: String,
    /// Resource.
    pub resource: String,
    /// Subresource, "" for none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subresource: String,
    /// Name, "" for none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Namespace, "" for none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
}

/// What the cluster thinks of an [`Attempt`].
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Verdict {
    /// The user may.
    pub allowed: bool,
    /// Why, or why not.
    pub reason: String,
    /// What went wrong while the cluster decided.
    pub evaluation_error: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenReview {
    status: TokenStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenStatus {
    authenticated: bool,
    audiences: Vec<String>,
    user: User,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AccessReview {
    status: Verdict,
}

// === impl Reviewer ===

impl Reviewer {
    /// Asks the cluster of `client`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Who `token` is; `None` if it is nobody, or not for any of `audiences`. Without audiences it is to be one for
    /// kube-apiserver itself.
    pub async fn token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<User>, ClusterError> {
        let mut spec = serde_json::json!({ "token": token });
        if !audiences.is_empty() {
            spec["audiences"] = audiences.into();
        }
        let review = serde_json::json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec,
        });
        let answer: TokenReview =
            send(&self.client, Method::POST, TOKEN_REVIEWS, JSON, &review).await?;
        let TokenStatus {
            authenticated,
            audiences: valid_for,
            user,
        } = answer.status;
        // A server that does not know audiences says nothing of them: then the token is for the server alone.
        let for_us = audiences.is_empty() || audiences.iter().any(|ours| valid_for.contains(ours));
        Ok((authenticated && for_us).then_some(user))
    }

    /// Whether `user` may do what is attempted.
    pub async fn access(&self, user: &User, attempt: &Attempt) -> Result<Verdict, ClusterError> {
        let mut spec = serde_json::json!({
            "user": user.username, "uid": user.uid, "groups": user.groups, "extra": user.extra,
        });
        match attempt {
            Attempt::Resource(resource) => spec["resourceAttributes"] = serde_json::json!(resource),
            Attempt::Path { verb, path } => {
                spec["nonResourceAttributes"] = serde_json::json!({ "verb": verb, "path": path });
            }
        }
        let review = serde_json::json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec,
        });
        let answer: AccessReview =
            send(&self.client, Method::POST, ACCESS_REVIEWS, JSON, &review).await?;
        Ok(answer.status)
    }
}

impl std::fmt::Debug for Reviewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reviewer").finish_non_exhaustive()
    }
}
