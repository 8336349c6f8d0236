//! Reviews by the Kubernetes API: the user of a bearer token (`TokenReview`) and whether a user may
//! do something (`SubjectAccessReview`). The binary implements [`Reviews`].

pub(crate) mod cache;
pub mod tokens;

use std::collections::BTreeMap;
use std::pin::Pin;

use thiserror::Error;

/// Group of all authenticated users.
pub const AUTHENTICATED: &str = "system:authenticated";

/// Group of all unauthenticated users.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";

/// Group that may do anything, without a review.
pub const MASTERS: &str = "system:masters";

/// Future of a review.
pub type Review<'a, T> = Pin<Box<dyn Future<Output = Result<T, ReviewError>> + Send + 'a>>;

/// Client of the Kubernetes API. Each call is one review: this crate has the cache, the limits and
/// the timeout, and drops the future of a review that is no longer needed.
pub trait Reviews: Send + Sync {
    /// The user of `token`, which must be for one of `audiences` (empty: the API server's own).
    /// `None` if it is invalid.
    fn token<'a>(&'a self, token: &'a str, audiences: &'a [String]) -> Review<'a, Option<User>>;

    /// Whether `user` may do what `attributes` describe.
    fn access<'a>(&'a self, user: &'a User, attributes: &'a Attributes) -> Review<'a, Decision>;
}

/// A user of Kubernetes.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct User {
    /// For example `system:serviceaccount:kube-system:horizontal-pod-autoscaler`.
    pub name: String,
    /// Empty if unknown.
    pub uid: String,
    pub groups: Vec<String>,
    /// Keys are in lower case.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What a review is about.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Attributes {
    Resource(ResourceAttributes),
    NonResource {
        /// For example `/metrics`.
        path: String,
        /// For example `get`.
        verb: String,
    },
}

/// `ResourceAttributes` of a `SubjectAccessReview`. Fields that do not apply are empty.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct ResourceAttributes {
    /// `get` with a name, `list` without.
    pub verb: String,
    /// For example `custom.metrics.k8s.io`.
    pub group: String,
    /// For example `v1beta2`.
    pub version: String,
    /// For example `pods`.
    pub resource: String,
    /// For example `appmesh_requests_per_second`.
    pub subresource: String,
    /// For example `*`.
    pub name: String,
    /// For example `prod`.
    pub namespace: String,
}

/// Result of an access review.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    Allow,
    /// With a reason, which may be empty.
    Deny(String),
    /// No authoriser decided, which counts as a denial.
    NoOpinion,
}

/// Why a review failed. Access is then refused.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum ReviewError {
    #[error("Kubernetes API unreachable: {0}")]
    Unavailable(String),
    /// For example because we may not create reviews.
    #[error("the Kubernetes API refused the review: {0}")]
    Refused(String),
    #[error("the Kubernetes API did not answer the review in time")]
    Timeout,
    #[error("too many reviews wait for the Kubernetes API")]
    Overload,
}

// === impl User ===

impl User {
    /// True if the user is in `group`.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|name| name == group)
    }

    /// Adds [`AUTHENTICATED`], unless the user is explicitly [`UNAUTHENTICATED`].
    #[must_use]
    pub fn into_authenticated(mut self) -> Self {
        // kube-apiserver omits the group in some of its own requests.
        if !self.is_in(AUTHENTICATED) && !self.is_in(UNAUTHENTICATED) {
            self.groups.push(AUTHENTICATED.to_owned());
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The group is added once, and never to who was relayed as anonymous.
    #[test]
    fn adds_the_group_of_the_authenticated() {
        for (groups, expected) in [
            (vec![], vec![AUTHENTICATED]),
            (vec!["a"], vec!["a", AUTHENTICATED]),
            (vec![AUTHENTICATED, "a"], vec![AUTHENTICATED, "a"]),
            (vec![UNAUTHENTICATED], vec![UNAUTHENTICATED]),
        ] {
            let user = User {
                groups: groups.into_iter().map(str::to_owned).collect(),
                ..User::default()
            };
            assert_eq!(user.into_authenticated().groups, expected);
        }
    }
}
