//! Who bearer tokens are, asked once in a while.

use std::sync::Arc;
use std::time::Duration;

use common_time::Clock;
use ring::digest;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::cache::Cache;
use super::{ReviewError, Reviews, User};

/// Reviews under way at once, of one kind.
const REVIEWS_MAX: usize = 64;

/// How long a review may take, the wait for its turn included. kube-apiserver gives up on us after
/// 60 s.
const REVIEW_PATIENCE: Duration = Duration::from_secs(10);

/// How long an answer holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TokenTtl {
    /// That a token is somebody's.
    pub known: Duration,
    pub unknown: Duration,
}

pub struct Tokens {
    reviews: Arc<dyn Reviews>,
    audiences: Vec<String>,
    ttl: TokenTtl,
    /// By digest: no token is kept.
    answers: Cache<[u8; digest::SHA256_OUTPUT_LEN], Option<User>>,
    turns: Turns,
}

/// Lets so many reviews be under way at once.
#[derive(Clone, Debug)]
pub(crate) struct Turns(Arc<Semaphore>);

// === impl Tokens ===

impl Tokens {
    /// Reviews of tokens for one of `audiences` (if there are none: for the API server's own), of
    /// which at most `max` answers are kept.
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
            answers: Cache::new(clock, max),
            turns: Turns::default(),
        }
    }

    /// Whose `token` is, if it is anybody's.
    pub async fn user(&self, token: &str) -> Result<Option<User>, ReviewError> {
        let mut key = [0; digest::SHA256_OUTPUT_LEN];
        key.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        let ask = || {
            let (reviews, turns) = (Arc::clone(&self.reviews), self.turns.clone());
            let (token, audiences) = (token.to_owned(), self.audiences.clone());
            async move { turns.take(reviews.token(&token, &audiences)).await }
        };
        let ttl = |user: &Option<User>| match user {
            Some(_) => self.ttl.known,
            None => self.ttl.unknown,
        };
        self.answers.get(&key, ask, ttl).await
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

// === impl Turns ===

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(REVIEWS_MAX)))
    }
}

impl Turns {
    /// Waits for a turn and for the answer, both in the time there is.
    pub(crate) async fn take<T>(
        &self,
        review: impl Future<Output = Result<T, ReviewError>>,
    ) -> Result<T, ReviewError> {
        let answer = async {
            let _turn = self.0.acquire().await.map_err(|_| ReviewError::Overload)?;
            review.await
        };
        timeout(REVIEW_PATIENCE, answer)
            .await
            .unwrap_or(Err(ReviewError::Timeout))
    }
}
