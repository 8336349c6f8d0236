//! What only the Kubernetes API can tell: who a bearer token is (`TokenReview`), and what a user
//! may do (`SubjectAccessReview`). Here are the questions and answers; whoever can ask implements
//! [`Reviews`].

pub(crate) mod cache;
pub mod tokens;

use std::collections::BTreeMap;
use std::pin::Pin;

use thiserror::Error;

/// Everyone who is authenticated is in this group.
pub const AUTHENTICATED: &str = "system:authenticated";

/// Whoever is not authenticated is in this group.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";

/// May do anything, without a question.
pub const MASTERS: &str = "system:masters";

/// An answer that is still to come.
pub type Review<'a, T> = Pin<Box<dyn Future<Output = Result<T, ReviewError>> + Send + 'a>>;

/// Asks the Kubernetes API. Each call is one question: caches, limits and patience are this crate's
/// affair, and an answer that is not waited for any longer is dropped.
pub trait Reviews: Send + Sync {
    /// Who `token` is, if it is meant for one of `audiences` (if there are none: for the API
    /// server's own). `None` if it is not valid.
    fn token<'a>(&'a self, token: &'a str, audiences: &'a [String]) -> Review<'a, Option<User>>;

    /// Whether `user` may do what `attributes` say.
    fn access<'a>(&'a self, user: &'a User, attributes: &'a Attributes) -> Review<'a, Decision>;
}

/// Who asks, as Kubernetes knows them.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct User {
    /// For example `system:serviceaccount:kube-system:horizontal-pod-autoscaler`.
    pub name: String,
    /// Empty if unknown.
    pub uid: String,
    /// In the order in which they were given.
    pub groups: Vec<String>,
    /// More about the user. Keys are in lower case.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What somebody wants to do.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Attributes {
    /// With an object of an API group.
    Resource(ResourceAttributes),
    /// With a path that is no object.
    NonResource {
        /// For example `/metrics`.
        path: String,
        /// For example `get`.
        verb: String,
    },
}

/// `ResourceAttributes` of a `SubjectAccessReview`. What does not apply is empty.
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

/// What authorisers say to a question.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    Allow,
    /// No, for a reason, which may be empty.
    Deny(String),
    /// None of them knows, which is a no.
    NoOpinion,
}

/// Why there is no answer. Access is then refused.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum ReviewError {
    /// The Kubernetes API cannot be reached.
    #[error("Kubernetes API unreachable: {0}")]
    Unavailable(String),
    /// The Kubernetes API does not answer this question, for example because we may not ask it.
    #[error("the Kubernetes API refused the review: {0}")]
    Refused(String),
    /// There was no answer in time.
    #[error("the Kubernetes API did not answer the review in time")]
    Timeout,
    /// Too many questions wait for their answers.
    #[error("too many reviews wait for the Kubernetes API")]
    Overload,
}

// === impl User ===

impl User {
    /// True if the user is in `group`.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|name| name == group)
    }

    /// Adds [`AUTHENTICATED`], which kube-apiserver leaves out of some of its own requests, unless
    /// the user is expressly [`UNAUTHENTICATED`].
    #[must_use]
    pub fn into_authenticated(mut self) -> Self {
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
