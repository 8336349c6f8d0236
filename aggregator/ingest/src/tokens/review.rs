//! Review of a token by kube-apiserver, and the user that a token belongs to.

use std::pin::Pin;

use aggregator_core::pod::PodKey;

const SERVICE_ACCOUNT: &str = "system:serviceaccount:";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

pub trait TokenReviews: Send + Sync {
    /// The user of `token`; `None` if the token is invalid. An error if the review failed.
    fn review<'a>(&'a self, token: &'a str) -> TokenReview<'a>;
}

/// Future of [`TokenReviews::review`].
pub type TokenReview<'a> =
    Pin<Box<dyn Future<Output = Result<Option<TokenUser>, String>> + Send + 'a>>;

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TokenUser {
    /// Such as `system:serviceaccount:prod:jazz`.
    pub username: String,
    /// Name of the pod that the token is bound to; empty if it is bound to none.
    pub pod: String,
    pub pod_uid: String,
}

// === impl TokenUser ===

impl TokenUser {
    /// The user of a review, with the pod from its extra fields.
    pub fn new<'a>(username: String, extra: impl Fn(&str) -> Option<&'a String>) -> Self {
        let text = |key| extra(key).cloned().unwrap_or_default();
        Self {
            username,
            pod: text(POD_NAME),
            pod_uid: text(POD_UID),
        }
    }

    /// The service account `namespace/name`, bound to no pod.
    pub(crate) fn of_account(namespace: &str, name: &str) -> Self {
        Self {
            username: format!("{SERVICE_ACCOUNT}{namespace}:{name}"),
            ..Self::default()
        }
    }

    /// The pod that the token is bound to.
    pub(crate) fn bound_pod(&self) -> Option<PodKey> {
        let account = self.username.strip_prefix(SERVICE_ACCOUNT)?;
        let (namespace, _) = account.split_once(':')?;
        (!self.pod.is_empty()).then(|| PodKey::new(namespace, &self.pod))
    }
}
