//! Cached token reviews.

use std::sync::Arc;
use std::time::Duration;

use common_time::Clock;
use ring::digest;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::cache::Cache;
use super::{ReviewError, Reviews, User};

/// Concurrent reviews of one kind.
const REVIEWS_MAX: usize = 64;

/// Timeout of a review, queueing included. kube-apiserver's own timeout for us is 60 s.
const REVIEW_WITHIN: Duration = Duration::from_secs(10);

/// How long to cache token reviews.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TokenTtl {
    pub valid: Duration,
    pub invalid: Duration,
}

pub struct Tokens {
    reviews: Arc<dyn Reviews>,
    audiences: Vec<String>,
    ttl: TokenTtl,
    /// By digest, so that no token stays in memory.
    cache: Cache<[u8; digest::SHA256_OUTPUT_LEN], Option<User>>,
    limiter: ReviewLimiter,
}

/// Limits concurrent reviews to [`REVIEWS_MAX`].
#[derive(Clone, Debug)]
pub(crate) struct ReviewLimiter(Arc<Semaphore>);

// === impl Tokens ===

impl Tokens {
    /// Reviews tokens for one of `audiences` (empty: the API server's own); caches at most `max`
    /// results.
    pub fn new(
        reviews: Arc<dyn Reviews>,
        audiences: Vec<String>,
        ttl: TokenTtl,
        max: usize,
        clock: Clock,
    ) -> Self {
        Self {
            reviews,
            audiences,
            ttl,
            cache: Cache::new(clock, max),
            limiter: ReviewLimiter::default(),
        }
    }

    /// The user of `token`; `None` if it is invalid.
    pub async fn user(&self, token: &str) -> Result<Option<User>, ReviewError> {
        let mut key = [0; digest::SHA256_OUTPUT_LEN];
        key.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        let ask = || {
            let (reviews, limiter) = (Arc::clone(&self.reviews), self.limiter.clone());
            let (token, audiences) = (token.to_owned(), self.audiences.clone());
            async move { limiter.run(reviews.token(&token, &audiences)).await }
        };
        let ttl = |user: &Option<User>| match user {
            Some(_) => self.ttl.valid,
            None => self.ttl.invalid,
        };
        self.cache.get(&key, ask, ttl).await
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

// === impl ReviewLimiter ===

impl Default for ReviewLimiter {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(REVIEWS_MAX)))
    }
}

impl ReviewLimiter {
    /// Waits for a permit and for the review, both within [`REVIEW_WITHIN`].
    pub(crate) async fn run<T>(
        &self,
        review: impl Future<Output = Result<T, ReviewError>>,
    ) -> Result<T, ReviewError> {
        let review = async {
            let _permit = self.0.acquire().await.map_err(|_| ReviewError::Overload)?;
            review.await
        };
        timeout(REVIEW_WITHIN, review)
            .await
            .unwrap_or(Err(ReviewError::Timeout))
    }
}
