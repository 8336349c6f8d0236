//! Credentials that are at hand when a request is to be signed.
//!
//! The chain of `aws-config` asks STS or an agent each time; this keeps what it said until shortly
//! before it expires, asks once at a time, and goes on with the old while the new is on its way.
//!
//! When they expire is told by somebody else's clock, and ours may be set. So what is left of their
//! life is read off the wall clock once, when they come, and used up by the clock that never steps.
//! Where the wall clock says later that they have expired, they are asked for anew at once; where
//! it says so of new ones, it is the clock that is wrong.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use common_time::{Monotonic, Now};
use thiserror::Error;
use tokio::sync::Mutex;

#[cfg(test)]
mod tests;

/// Asked for anew this long before they expire, or after [`LIFE_USED`] of their life, whichever is
/// earlier.
const BEFORE_EXPIRY: Duration = Duration::from_mins(5);
/// See [`BEFORE_EXPIRY`].
const LIFE_USED: f64 = 0.8;
/// Credentials with less left than this are not used.
const LEFT_MIN: Duration = Duration::from_secs(30);
/// New ones that have less left by our clock than [`LEFT_MIN`] are asked for anew after this long;
/// whoever refuses them earlier says so.
const DOUBTED_FOR: Duration = Duration::from_mins(5);
/// Asked at most this often, whatever happens.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// An answer that takes longer is given up.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// There are no credentials to sign with.
#[derive(Clone, Debug, Error)]
#[error("no AWS credentials: {0}")]
pub struct NoCredentials(String);

#[derive(Debug)]
pub struct CredentialCache {
    provider: SharedCredentialsProvider,
    held: Mutex<CachedCredentials>,
}

#[derive(Debug, Default)]
struct CachedCredentials {
    current: Option<Current>,
    asked_at: Option<Monotonic>,
    refused: bool,
    error: Option<NoCredentials>,
}

/// Credentials, and how long they are good.
#[derive(Debug)]
struct Current {
    credentials: Credentials,
    got_at: Monotonic,
    life: Life,
}

/// What was left of them when they came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Life {
    /// They do not expire.
    Endless,
    Known(Duration),
    /// By our clock nothing, so that it is wrong, or they are.
    Doubted,
}

// === impl CredentialCache ===

impl CredentialCache {
    /// Keeps what `provider` says.
    pub fn new(provider: SharedCredentialsProvider) -> Arc<Self> {
        Arc::new(Self {
            provider,
            held: Mutex::default(),
        })
    }

    /// Credentials that are good at `now`. Its wall clock may be corrected by what is known of the
    /// receiver's.
    pub async fn get(&self, now: Now) -> Result<Credentials, NoCredentials> {
        let mut held = self.held.lock().await;
        if held.is_due(now) && held.may_ask(now.monotonic) {
            held.asked_at = Some(now.monotonic);
            match tokio::time::timeout(ANSWER_WITHIN, self.provider.provide_credentials()).await {
                Ok(Ok(credentials)) => held.take(now, credentials),
                Ok(Err(error)) => held.failed(&error),
                Err(_) => {
                    held.error = Some(NoCredentials(format!("no answer within {ANSWER_WITHIN:?}")));
                }
            }
        }
        match &held.current {
            Some(current) if current.is_usable(now.monotonic) => Ok(current.credentials.clone()),
            _ => Err(held.error.clone().unwrap_or_else(|| {
                NoCredentials("those at hand have expired, and new ones were not given".to_owned())
            })),
        }
    }

    /// The receiver refused the credentials: they are asked for anew before the next use.
    pub async fn refuse(&self) {
        self.held.lock().await.refused = true;
    }

    /// When the credentials at hand expire; `None` if never, or if there are none.
    pub async fn expires_at(&self) -> Option<SystemTime> {
        let held = self.held.lock().await;
        held.current.as_ref()?.credentials.expiry()
    }
}

// === impl CachedCredentials ===

impl CachedCredentials {
    fn is_due(&self, now: Now) -> bool {
        self.refused
            || self
                .current
                .as_ref()
                .is_none_or(|current| current.is_due(now))
    }

    fn may_ask(&self, now: Monotonic) -> bool {
        self.asked_at
            .is_none_or(|asked| now.since(asked) >= ASK_EVERY)
    }

    fn take(&mut self, now: Now, credentials: Credentials) {
        let life = Life::at(now, &credentials);
        if life == Life::Doubted {
            tracing::warn!(
                "new AWS credentials have expired already, by this machine's clock: they are used until they are refused"
            );
        }
        self.current = Some(Current {
            credentials,
            got_at: now.monotonic,
            life,
        });
        self.refused = false;
        self.error = None;
    }

    fn failed(&mut self, error: &dyn std::error::Error) {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        tracing::warn!(error = %text, "no new AWS credentials");
        self.error = Some(NoCredentials(text));
    }
}

// === impl Current ===

impl Current {
    fn is_due(&self, now: Now) -> bool {
        let age = now.monotonic.since(self.got_at);
        match self.life {
            Life::Endless => false,
            Life::Doubted => age >= DOUBTED_FOR,
            // The wall clock was set forward, or this machine slept, which the other clock does not
            // count.
            Life::Known(life) => {
                age >= refresh_after(life) || Life::at(now, &self.credentials) == Life::Doubted
            }
        }
    }

    fn is_usable(&self, now: Monotonic) -> bool {
        match self.life {
            Life::Endless | Life::Doubted => true,
            Life::Known(life) => life.saturating_sub(now.since(self.got_at)) >= LEFT_MIN,
        }
    }
}

// === impl Life ===

impl Life {
    /// What the wall clock of `now` leaves of `credentials`.
    fn at(now: Now, credentials: &Credentials) -> Self {
        let Some(expiry) = credentials.expiry() else {
            return Self::Endless;
        };
        let left = expiry.duration_since(SystemTime::from(now.wall));
        match left.unwrap_or_default() {
            left if left < LEFT_MIN => Self::Doubted,
            left => Self::Known(left),
        }
    }
}

/// When credentials with so much left are to be asked for anew.
fn refresh_after(life: Duration) -> Duration {
    let by_life = life.mul_f64(LIFE_USED);
    let by_expiry = life.saturating_sub(BEFORE_EXPIRY);
    // Short-lived ones have less than five minutes from the start: asking at once, always, helps
    // nobody.
    if by_expiry.is_zero() {
        by_life
    } else {
        by_life.min(by_expiry)
    }
}
