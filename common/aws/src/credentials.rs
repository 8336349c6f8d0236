//! Credentials that are at hand when a request is to be signed.
//!
//! The chain of `aws-config` calls STS or an agent on every use. This caches the credentials until
//! shortly before they expire, with at most one request at a time.
//!
//! The expiry is a time of AWS' clock, and the local wall clock may be set. So the remaining
//! lifetime is computed once, on receipt, and measured by the monotonic clock. If the wall clock
//! later says that they have expired, they are refreshed at once; if it says so of new credentials,
//! the wall clock is wrong.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use common_time::{Monotonic, Now};
use thiserror::Error;
use tokio::sync::Mutex;

#[cfg(test)]
mod tests;

/// Credentials are refreshed this long before they expire, or after [`LIFE_USED`] of their life,
/// whichever is earlier.
const BEFORE_EXPIRY: Duration = Duration::from_mins(5);
/// See [`BEFORE_EXPIRY`].
const LIFE_USED: f64 = 0.8;
/// Credentials with less left than this are not used.
const LEFT_MIN: Duration = Duration::from_secs(30);
/// New credentials with less than [`LEFT_MIN`] left by our clock are refreshed after this long, or
/// as soon as the receiver rejects them.
const DOUBTED_FOR: Duration = Duration::from_mins(5);
/// The provider is called at most this often, even after a rejection.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// A call of the provider that takes longer is abandoned.
const RESPONSE_WITHIN: Duration = Duration::from_secs(20);

/// There are no credentials to sign with.
#[derive(Clone, Debug, Error)]
#[error("no AWS credentials: {0}")]
pub struct NoCredentials(String);

#[derive(Debug)]
pub struct CredentialCache {
    provider: SharedCredentialsProvider,
    cached: Mutex<CachedCredentials>,
}

#[derive(Debug, Default)]
struct CachedCredentials {
    current: Option<Current>,
    asked_at: Option<Monotonic>,
    refused: bool,
    error: Option<NoCredentials>,
}

/// Credentials and their lifetime.
#[derive(Debug)]
struct Current {
    credentials: Credentials,
    got_at: Monotonic,
    life: Life,
}

/// The remaining lifetime when the credentials were received.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Life {
    /// They do not expire.
    Endless,
    Known(Duration),
    /// Expired by our clock, although they are new.
    Doubted,
}

// === impl CredentialCache ===

impl CredentialCache {
    /// Caches the credentials of `provider`.
    pub fn new(provider: SharedCredentialsProvider) -> Arc<Self> {
        Arc::new(Self {
            provider,
            cached: Mutex::default(),
        })
    }

    /// Credentials that are valid at `now`, whose wall clock may have been corrected by the
    /// receiver's `Date`.
    pub async fn get(&self, now: Now) -> Result<Credentials, NoCredentials> {
        // Held across the call, so that concurrent requests wait for one refresh.
        let mut cached = self.cached.lock().await;
        if cached.is_due(now) && cached.may_ask(now.monotonic) {
            cached.asked_at = Some(now.monotonic);
            match tokio::time::timeout(RESPONSE_WITHIN, self.provider.provide_credentials()).await {
                Ok(Ok(credentials)) => cached.take(now, credentials),
                Ok(Err(error)) => cached.failed(&error),
                Err(_) => {
                    cached.error = Some(NoCredentials(format!(
                        "no answer within {RESPONSE_WITHIN:?}"
                    )));
                }
            }
        }
        // After a failed refresh the old credentials serve until they expire.
        match &cached.current {
            Some(current) if current.is_usable(now.monotonic) => Ok(current.credentials.clone()),
            _ => Err(cached.error.clone().unwrap_or_else(|| {
                NoCredentials("those at hand have expired, and new ones were not given".to_owned())
            })),
        }
    }

    /// The receiver rejected the credentials: they are refreshed before the next use.
    pub async fn invalidate(&self) {
        self.cached.lock().await.refused = true;
    }

    /// When the credentials at hand expire; `None` if never, or if there are none.
    pub async fn expires_at(&self) -> Option<SystemTime> {
        let cached = self.cached.lock().await;
        cached.current.as_ref()?.credentials.expiry()
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
            // Expired by the wall clock only: it was set forward, or the machine was suspended,
            // which the monotonic clock does not count.
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
    /// The lifetime of `credentials` that remains by the wall clock of `now`.
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

/// The age at which credentials with a lifetime of `life` are refreshed.
fn refresh_after(life: Duration) -> Duration {
    let by_life = life.mul_f64(LIFE_USED);
    let by_expiry = life.saturating_sub(BEFORE_EXPIRY);
    // A lifetime under five minutes: `by_expiry` would refresh on every use.
    if by_expiry.is_zero() {
        by_life
    } else {
        by_life.min(by_expiry)
    }
}
