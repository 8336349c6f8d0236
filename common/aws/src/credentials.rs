//! Credentials that are at hand when a request is to be signed.
//!
//! The chain of `aws-config` asks STS or an agent each time; this keeps what it said until shortly before it expires,
//! asks once at a time, and goes on with the old while the new is on its way.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use thiserror::Error;
use tokio::sync::Mutex;

#[cfg(test)]
mod tests;

/// Asked for anew this long before they expire, or after [`LIFE_USED`] of their life, whichever is earlier.
const BEFORE_EXPIRY: Duration = Duration::from_mins(5);
/// See [`BEFORE_EXPIRY`].
const LIFE_USED: f64 = 0.8;
/// Credentials with less left than this are not used.
const LEFT_MIN: Duration = Duration::from_secs(30);
/// Asked at most this often, whatever happens.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// An answer that takes longer is given up.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// There are no credentials to sign with.
#[derive(Clone, Debug, Error)]
#[error("no AWS credentials: {0}")]
pub struct NoCredentials(String);

/// The credentials in use.
#[derive(Debug)]
pub struct CredentialCache {
    provider: SharedCredentialsProvider,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    credentials: Option<Credentials>,
    got_at: Option<SystemTime>,
    asked_at: Option<SystemTime>,
    refused: bool,
    error: Option<NoCredentials>,
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

    /// Credentials that are good at `now`.
    pub async fn get(&self, now: SystemTime) -> Result<Credentials, NoCredentials> {
        let mut held = self.held.lock().await;
        if held.is_due(now) && held.may_ask(now) {
            held.asked_at = Some(now);
            match tokio::time::timeout(ANSWER_WITHIN, self.provider.provide_credentials()).await {
                Ok(Ok(credentials)) => held.take(now, credentials),
                Ok(Err(error)) => held.failed(&error),
                Err(_) => {
                    held.error = Some(NoCredentials(format!("no answer within {ANSWER_WITHIN:?}")));
                }
            }
        }
        match &held.credentials {
            Some(credentials) if left(credentials, now) >= LEFT_MIN => Ok(credentials.clone()),
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
        self.held.lock().await.credentials.as_ref()?.expiry()
    }
}

// === impl Held ===

impl Held {
    fn is_due(&self, now: SystemTime) -> bool {
        let (Some(credentials), Some(got_at)) = (&self.credentials, self.got_at) else {
            return true;
        };
        self.refused
            || credentials
                .expiry()
                .is_some_and(|expiry| now >= refresh_at(got_at, expiry))
    }

    fn may_ask(&self, now: SystemTime) -> bool {
        let since = |asked: SystemTime| now.duration_since(asked).unwrap_or(ASK_EVERY);
        self.asked_at.is_none_or(|asked| since(asked) >= ASK_EVERY)
    }

    fn take(&mut self, now: SystemTime, credentials: Credentials) {
        self.credentials = Some(credentials);
        self.got_at = Some(now);
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

fn left(credentials: &Credentials, now: SystemTime) -> Duration {
    match credentials.expiry() {
        Some(expiry) => expiry.duration_since(now).unwrap_or_default(),
        None => Duration::MAX,
    }
}

/// When credentials got at `got_at` are to be asked for anew.
fn refresh_at(got_at: SystemTime, expiry: SystemTime) -> SystemTime {
    let life = expiry.duration_since(got_at).unwrap_or_default();
    let by_life = life.mul_f64(LIFE_USED);
    let by_expiry = life.saturating_sub(BEFORE_EXPIRY);
    // Short-lived ones have less than five minutes from the start: asking at once, always, helps nobody.
    let after = if by_expiry.is_zero() {
        by_life
    } else {
        by_life.min(by_expiry)
    };
    got_at + after
}
