//! Verification of a token without asking: its signature and claims by the issuer's keys, its pod
//! by the watch.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aggregator_core::pod::PodKey;
use aggregator_directory::{Directory, PodLife};
use aggregator_tokens::{
    BoundPod, Rejection, RejectionReason, ServiceAccount, Undecided, Unverified,
};
use common_time::{Clock, Monotonic};
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::issuer_keys::{CurrentKeys, IssuerKeys, KeyGauges};
use super::review::TokenUser;
use crate::log_limiter::LogLimiter;
use crate::metrics::Fallback;

/// Keys, and a watch of pods, that are older decide nothing: a key or a pod may have gone.
const AGE_MAX: Duration = Duration::from_mins(1);

/// How long a token waits for the watch to show its pod. A pod is at the watch before its kubelet
/// can ask for a token, unless the watch lags behind.
const UNSEEN_WAIT: Duration = Duration::from_secs(5);

/// Pause between two looks for a pod.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Tokens that wait for their pods. Further ones are reviewed at once.
const WAITERS_MAX: usize = 1024;

/// Verifies tokens by the issuer's keys and the directory.
pub struct LocalTokens {
    keys: Arc<IssuerKeys>,
    audience: String,
    /// How far the watch of pods lags behind at most.
    lag: Lag,
    clock: Clock,
    waiters: Semaphore,
    log_limiter: LogLimiter,
}

/// Returns how far the watch of pods lags behind at most.
type Lag = Box<dyn Fn(Monotonic) -> Duration + Send + Sync>;

/// What is known of a token.
#[derive(Debug)]
pub(super) enum Verdict {
    Verified(TokenUser),
    Rejected(Rejection),
    /// Only kube-apiserver can tell.
    Undecided(Fallback),
}

// === impl LocalTokens ===

impl LocalTokens {
    /// Verifies tokens for `audience`; `lag` tells how far the directory's pods lag behind.
    pub fn new(
        keys: Arc<IssuerKeys>,
        audience: String,
        lag: impl Fn(Monotonic) -> Duration + Send + Sync + 'static,
        clock: Clock,
    ) -> Self {
        Self {
            keys,
            audience,
            lag: Box::new(lag),
            clock,
            waiters: Semaphore::new(WAITERS_MAX),
            log_limiter: LogLimiter::default(),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("ingest");
        registry.register_collector(Box::new(KeyGauges(Arc::clone(&self.keys))));
    }

    /// Logs that a token is reviewed, within the limit of lines.
    pub(super) fn log(&self, why: Fallback) {
        let reason = why.as_str();
        if let Some(left_out) = self.log_limiter.next(reason, self.clock.now()) {
            let left_out = (left_out > 0).then_some(left_out);
            tracing::info!(
                reason,
                lines.left_out = left_out,
                "token reviewed by kube-apiserver: {}",
                why.sentence()
            );
        }
    }

    pub(super) async fn verify(&self, token: &str, directory: &Directory) -> Verdict {
        let account = match self.account(token).await {
            Ok(account) => account,
            Err(verdict) => return verdict,
        };
        let mut user = TokenUser::of_account(&account.namespace, &account.name);
        let Some(BoundPod { name, uid }) = account.pod else {
            return Verdict::Verified(user);
        };
        let pod = PodKey::new(&account.namespace, &name);
        if let Err(verdict) = self.check_pod(&pod, &uid, directory).await {
            return verdict;
        }
        (user.pod, user.pod_uid) = (name, uid);
        Verdict::Verified(user)
    }

    /// The service account of `token`, by its signature and claims.
    async fn account(&self, token: &str) -> Result<ServiceAccount, Verdict> {
        let keys = self.keys.current().await;
        let keys = keys.ok_or(Verdict::Undecided(Fallback::NoKeys))?;
        let verified = self.verified(token, &keys);
        let is_unknown = matches!(
            &verified,
            Err(Verdict::Rejected(rejection)) if rejection.reason == RejectionReason::UnknownKey
        );
        if is_unknown && let Some(newer) = self.keys.newer(&keys).await {
            return self.verified(token, &newer);
        }
        verified
    }

    fn verified(&self, token: &str, keys: &CurrentKeys) -> Result<ServiceAccount, Verdict> {
        let now = self.clock.both();
        if now.monotonic.since(keys.at) > AGE_MAX {
            return Err(Verdict::Undecided(Fallback::OldKeys));
        }
        let verified = keys.issuer.verify(token, &self.audience, now.wall);
        verified.map_err(|unverified| match unverified {
            Unverified::Rejected(rejection) => Verdict::Rejected(rejection),
            Unverified::Undecided(Undecided::UnsupportedKey) => {
                Verdict::Undecided(Fallback::UnsupportedKey)
            }
            Unverified::Undecided(Undecided::OtherIssuer) => {
                Verdict::Undecided(Fallback::OtherIssuer)
            }
        })
    }

    /// Whether `pod` exists with `uid`. One that the watch has not shown may still come.
    async fn check_pod(
        &self,
        pod: &PodKey,
        uid: &str,
        directory: &Directory,
    ) -> Result<(), Verdict> {
        let deadline = self.clock.now() + UNSEEN_WAIT;
        let mut permit = None;
        loop {
            let now = self.clock.now();
            if (self.lag)(now) > AGE_MAX {
                return Err(Verdict::Undecided(Fallback::OldWatch));
            }
            match directory.life_of(pod, uid) {
                PodLife::Exists => return Ok(()),
                PodLife::Deleted => {
                    let sentence =
                        format!("the pod {pod} with the uid of the bearer token was deleted");
                    let rejection = Rejection::new(RejectionReason::DeletedPod, sentence);
                    return Err(Verdict::Rejected(rejection));
                }
                PodLife::Unknown if now >= deadline => {
                    return Err(Verdict::Undecided(Fallback::UnseenPod));
                }
                PodLife::Unknown => {}
            }
            if permit.is_none() {
                let free = self.waiters.try_acquire();
                permit = Some(free.map_err(|_| Verdict::Undecided(Fallback::Waiters))?);
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

impl fmt::Debug for LocalTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("LocalTokens");
        debug.field("keys", &self.keys).finish_non_exhaustive()
    }
}
