//! The cache against a provider that can fail, rotate and count.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};

use super::CredentialCache;

/// Each answer is another key, good for `life` from a start that moves by one minute an answer.
#[derive(Debug, Default)]
struct Rotating {
    asked: AtomicU64,
    broken: AtomicBool,
    life: Option<Duration>,
}

const START: SystemTime = SystemTime::UNIX_EPOCH;

impl ProvideCredentials for Rotating {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let nth = self.asked.fetch_add(1, Ordering::Relaxed);
        if self.broken.load(Ordering::Relaxed) {
            return future::ProvideCredentials::ready(Err(CredentialsError::provider_error(
                "agent is away",
            )));
        }
        let expiry = self
            .life
            .map(|life| START + life * u32::try_from(nth + 1).unwrap());
        future::ProvideCredentials::ready(Ok(Credentials::new(
            format!("key{nth}"),
            "secret",
            None,
            expiry,
            "test",
        )))
    }
}

fn cache(life: Option<Duration>) -> (Arc<Rotating>, Arc<CredentialCache>) {
    let provider = Arc::new(Rotating {
        life,
        ..Rotating::default()
    });
    let shared = SharedCredentialsProvider::new(Forward(Arc::clone(&provider)));
    (provider, CredentialCache::new(shared))
}

#[derive(Debug)]
struct Forward(Arc<Rotating>);

impl ProvideCredentials for Forward {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        self.0.provide_credentials()
    }
}

async fn key(cache: &CredentialCache, seconds: u64) -> String {
    let got = cache.get(START + Duration::from_secs(seconds)).await;
    got.map_or_else(
        |error| error.to_string(),
        |credentials| credentials.access_key_id().to_owned(),
    )
}

#[tokio::test]
async fn the_provider_is_asked_once_and_again_five_minutes_before_the_end() {
    let (provider, cache) = cache(Some(Duration::from_hours(1)));
    for seconds in (0..2_800).step_by(15) {
        assert_eq!(key(&cache, seconds).await, "key0");
    }
    assert_eq!(provider.asked.load(Ordering::Relaxed), 1);
    assert_eq!(key(&cache, 2_880).await, "key1");
}

#[tokio::test]
async fn refused_credentials_are_asked_for_anew_but_not_in_a_storm() {
    let (provider, cache) = cache(None);
    assert_eq!(key(&cache, 0).await, "key0");
    for seconds in 1..10 {
        cache.refuse().await;
        assert_eq!(key(&cache, seconds).await, "key0");
    }
    assert_eq!(key(&cache, 10).await, "key1");
    assert_eq!(provider.asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn old_credentials_serve_until_they_expire_when_no_new_ones_come() {
    let (provider, cache) = cache(Some(Duration::from_mins(10)));
    assert_eq!(key(&cache, 0).await, "key0");
    provider.broken.store(true, Ordering::Relaxed);
    assert_eq!(key(&cache, 560).await, "key0");
    let error = key(&cache, 580).await;
    assert!(error.contains("agent is away"), "{error}");
    provider.broken.store(false, Ordering::Relaxed);
    let later = key(&cache, 600).await;
    assert!(later.starts_with("key"), "{later}");
}

#[tokio::test]
async fn without_credentials_the_error_says_why() {
    let (provider, cache) = cache(None);
    provider.broken.store(true, Ordering::Relaxed);
    let error = key(&cache, 0).await;
    assert!(
        error.starts_with("no AWS credentials: ") && error.contains("agent is away"),
        "{error}"
    );
}
