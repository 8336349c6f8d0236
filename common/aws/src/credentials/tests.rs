//! The cache against a provider that can fail, rotate and count.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use common_time::{Monotonic, Now, UnixMillis};

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
struct Forward<T>(Arc<T>);

impl ProvideCredentials for Forward<Rotating> {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        self.0.provide_credentials()
    }
}

/// So many seconds after [`START`] on both clocks, the wall clock being `off` by so many.
fn at(seconds: u64, off: i64) -> Now {
    let monotonic = Monotonic::BEGIN + Duration::from_secs(seconds);
    let wall = UnixMillis(1000 * seconds.saturating_add_signed(off));
    Now { monotonic, wall }
}

async fn key(cache: &CredentialCache, seconds: u64) -> String {
    let got = cache.get(at(seconds, 0)).await;
    got.map_or_else(
        |error| error.to_string(),
        |credentials| credentials.access_key_id().to_owned(),
    )
}

/// Gives credentials that are good for an hour, by the right time.
#[derive(Debug, Default)]
struct Hourly {
    seconds: AtomicU64,
    asked: AtomicU64,
}

impl ProvideCredentials for Forward<Hourly> {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        let seconds = self.0.seconds.load(Ordering::Relaxed);
        let expiry = START + Duration::from_secs(seconds + HOUR);
        let credentials = Credentials::new("key", "secret", None, Some(expiry), "test");
        future::ProvideCredentials::ready(Ok(credentials))
    }
}

const HOUR: u64 = 3600;

/// A day of requests, one every 15 s, while the wall clock is off by `before` and from half past
/// two on by `after` seconds. Returns how often the provider was asked, and how often the receiver
/// refused credentials that had expired.
async fn day(before: i64, after: i64) -> (u64, u64) {
    let hourly = Arc::new(Hourly::default());
    let shared = SharedCredentialsProvider::new(Forward(Arc::clone(&hourly)));
    let cache = CredentialCache::new(shared);
    let mut refused = 0;
    for seconds in (3 * HOUR..27 * HOUR).step_by(15) {
        hourly.seconds.store(seconds, Ordering::Relaxed);
        let off = if seconds < 5 * HOUR + HOUR / 2 {
            before
        } else {
            after
        };
        let credentials = cache.get(at(seconds, off)).await.unwrap();
        if credentials.expiry().unwrap() <= START + Duration::from_secs(seconds) {
            refused += 1;
            cache.invalidate().await;
        }
    }
    (hourly.asked.load(Ordering::Relaxed), refused)
}

/// Whatever is done to the wall clock, there are credentials, those that have expired are used at
/// most once before they are replaced, and the provider is not asked all the time.
#[tokio::test]
async fn a_clock_that_is_set_neither_keeps_nor_wastes_credentials() {
    // Asked every 48 minutes.
    assert_eq!(day(0, 0).await, (30, 0));
    for (before, after, asked_max, refused_max) in [
        (0, 30, 31, 0),
        (0, -30, 31, 0),
        // Set back they look good for longer than they are: from the second on only the receiver
        // knows better.
        (0, -3600, 30, 22),
        (-3600, 0, 30, 3),
        // Set forward they look as if they had expired: the provider is asked every five minutes.
        (0, 3600, 270, 0),
        (0, 86_400, 270, 0),
        (3600, 0, 60, 0),
    ] {
        let (asked, refused) = day(before, after).await;
        assert!(
            asked <= asked_max && refused <= refused_max,
            "{before} {after}: asked {asked} times, refused {refused} times"
        );
    }
}

/// Those that were good for an hour when they came are not used beyond it, be the clock set back
/// meanwhile.
#[tokio::test]
async fn a_clock_set_back_gives_nobody_more_time() {
    let (provider, cache) = cache(Some(Duration::from_hours(1)));
    assert_eq!(key(&cache, 0).await, "key0");
    provider.broken.store(true, Ordering::Relaxed);
    assert!(cache.get(at(3_500, -3_500)).await.is_ok());
    let error = cache.get(at(3_590, -3_590)).await.unwrap_err();
    assert!(error.to_string().contains("agent is away"), "{error}");
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
        cache.invalidate().await;
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
