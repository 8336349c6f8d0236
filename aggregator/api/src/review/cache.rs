//! Answers of reviews, kept for a while: bounded, and whoever asks what is being asked already
//! waits for that answer.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::Hash;
use std::pin::Pin;
use std::time::Duration;

use common_time::{Clock, Monotonic};
use futures_util::FutureExt as _;
use futures_util::future::Shared;
use parking_lot::Mutex;

use super::ReviewError;

/// Part of the answers that make room when there is none: one in so many.
const EVICTED_PART: usize = 16;

type PendingReview<V> = Shared<Pin<Box<dyn Future<Output = Result<V, ReviewError>> + Send>>>;

pub(crate) struct Cache<K, V> {
    clock: Clock,
    max: usize,
    /// Guards the answers; held to look up or change one, or to make room, never while one is
    /// awaited.
    answers: Mutex<HashMap<K, CachedReview<V>>>,
}

enum CachedReview<V> {
    Asked(PendingReview<V>),
    /// It holds until then.
    Kept {
        value: V,
        until: Monotonic,
    },
}

/// Someone who waits for an answer. When the last one of them goes without one, the question goes
/// too: a later one is asked anew.
struct Attempt<'a, K: Eq + Hash, V> {
    cache: &'a Cache<K, V>,
    key: &'a K,
    asked: PendingReview<V>,
}

// === impl Cache ===

impl<K, V> Cache<K, V>
where
    K: Clone + Eq + Hash,
    V: Clone + Send + Sync + 'static,
{
    /// Without answers; at most `max` are kept.
    pub(crate) fn new(clock: Clock, max: usize) -> Self {
        Self {
            clock,
            max,
            answers: Mutex::default(),
        }
    }

    /// The answer to `key`: kept, or of `ask`, which is kept for as long as `ttl` says. Failures
    /// are not kept.
    pub(crate) async fn get<F>(
        &self,
        key: &K,
        ask: impl FnOnce() -> F,
        ttl: impl FnOnce(&V) -> Duration,
    ) -> Result<V, ReviewError>
    where
        F: Future<Output = Result<V, ReviewError>> + Send + 'static,
    {
        let now = self.clock.now();
        let asked = {
            let mut answers = self.answers.lock();
            match answers.get(key) {
                Some(CachedReview::Kept { value, until }) if now < *until => {
                    return Ok(value.clone());
                }
                Some(CachedReview::Asked(asked)) => asked.clone(),
                _ => {
                    make_room(&mut answers, self.max, now);
                    let boxed: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(ask());
                    let asked = boxed.shared();
                    answers.insert(key.clone(), CachedReview::Asked(asked.clone()));
                    asked
                }
            }
        };
        let attempt = Attempt {
            cache: self,
            key,
            asked: asked.clone(),
        };
        let outcome = asked.await;
        if let Ok(value) = &outcome {
            attempt.keep(value, self.clock.now() + ttl(value));
        }
        drop(attempt);
        outcome
    }
}

// === impl Attempt ===

impl<K: Eq + Hash, V: Clone> Attempt<'_, K, V> {
    fn keep(&self, value: &V, until: Monotonic) {
        let mut answers = self.cache.answers.lock();
        if let Some(answer) = answers.get_mut(self.key)
            && self.is_of(answer)
        {
            *answer = CachedReview::Kept {
                value: value.clone(),
                until,
            };
        }
    }
}

impl<K: Eq + Hash, V> Attempt<'_, K, V> {
    fn is_of(&self, answer: &CachedReview<V>) -> bool {
        matches!(answer, CachedReview::Asked(asked) if asked.ptr_eq(&self.asked))
    }
}

impl<K: Eq + Hash, V> Drop for Attempt<'_, K, V> {
    fn drop(&mut self) {
        let mut answers = self.cache.answers.lock();
        let Some(answer) = answers.get(self.key) else {
            return;
        };
        // The map and this one hold it; others who wait hold more. A failure is over for all of
        // them.
        let over = self.asked.peek().is_some() || self.asked.strong_count().is_none_or(|n| n <= 2);
        if self.is_of(answer) && over {
            answers.remove(self.key);
        }
    }
}

/// Removes what does not hold any more, and if that is not enough the answers that are soonest to
/// expire.
fn make_room<K: Clone + Eq + Hash, V>(
    answers: &mut HashMap<K, CachedReview<V>>,
    max: usize,
    now: Monotonic,
) {
    if answers.len() < max {
        return;
    }
    answers
        .retain(|_, answer| !matches!(answer, CachedReview::Kept { until, .. } if *until <= now));
    let keep_at_most = max - (max / EVICTED_PART).max(1);
    if answers.len() <= keep_at_most {
        return;
    }
    // What is being asked goes last: those who wait for it get it in any case.
    let rank = |answer: &CachedReview<V>| match answer {
        CachedReview::Kept { until, .. } => until.0,
        CachedReview::Asked(_) => u64::MAX,
    };
    let mut ranked: Vec<(u64, K)> = answers
        .iter()
        .map(|(key, answer)| (rank(answer), key.clone()))
        .collect();
    ranked.sort_unstable_by_key(|(until, _)| *until);
    for (_, key) in ranked.iter().take(answers.len() - keep_at_most) {
        if let Entry::Occupied(entry) = answers.entry(key.clone()) {
            entry.remove();
        }
    }
}

impl<K, V> fmt::Debug for Cache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use common_time::UnixMillis;
    use tokio::sync::Notify;

    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    #[derive(Default)]
    struct World {
        now: AtomicU64,
        asked: AtomicU64,
        go: Notify,
    }

    impl World {
        fn cache(self: &Arc<Self>) -> Cache<u32, u64> {
            let world = Arc::clone(self);
            let now = move || Monotonic(world.now.load(Ordering::Relaxed));
            Cache::new(Clock::new(now, UnixMillis::default), 32)
        }

        /// Answers with how often it was asked.
        fn answer(
            self: &Arc<Self>,
        ) -> impl Future<Output = Result<u64, ReviewError>> + Send + use<> {
            let world = Arc::clone(self);
            async move { Ok(world.asked.fetch_add(1, Ordering::Relaxed) + 1) }
        }
    }

    /// An answer holds for its time, and not a moment longer.
    #[tokio::test]
    async fn keeps_for_a_while() {
        let world = Arc::new(World::default());
        let cache = world.cache();
        for (now, expected) in [(0, 1), (9_999, 1), (10_000, 2), (10_001, 2)] {
            world.now.store(now, Ordering::Relaxed);
            let got = cache.get(&7, || world.answer(), |_| TTL).await;
            assert_eq!(got, Ok(expected), "at {now}");
        }
    }

    /// Who asks what is being asked waits for that answer; one who gives up does not take it from
    /// the others.
    #[tokio::test]
    async fn asks_once() {
        let world = Arc::new(World::default());
        let cache = Arc::new(world.cache());
        let waiting = || {
            let (cache, world) = (Arc::clone(&cache), Arc::clone(&world));
            tokio::spawn(async move {
                let ask = || {
                    let world = Arc::clone(&world);
                    async move {
                        world.go.notified().await;
                        world.answer().await
                    }
                };
                cache.get(&7, ask, |_| TTL).await
            })
        };
        let (impatient, patient, other) = (waiting(), waiting(), waiting());
        tokio::task::yield_now().await;
        impatient.abort();
        assert!(impatient.await.unwrap_err().is_cancelled());
        world.go.notify_one();
        assert_eq!(patient.await.unwrap(), Ok(1));
        assert_eq!(other.await.unwrap(), Ok(1));
        // All gave up: nothing is left that a later one would wait for.
        let lone = {
            let cache = Arc::clone(&cache);
            tokio::spawn(async move { cache.get(&8, std::future::pending, |_| TTL).await })
        };
        tokio::task::yield_now().await;
        lone.abort();
        assert!(lone.await.unwrap_err().is_cancelled());
        assert_eq!(cache.get(&8, || world.answer(), |_| TTL).await, Ok(2));
    }

    /// A failure is told to all who wait and not kept.
    #[tokio::test]
    async fn forgets_failures() {
        let world = Arc::new(World::default());
        let cache = world.cache();
        let failing = || async { Err(ReviewError::Timeout) };
        assert_eq!(
            cache.get(&7, failing, |_| TTL).await,
            Err(ReviewError::Timeout)
        );
        assert_eq!(cache.get(&7, || world.answer(), |_| TTL).await, Ok(1));
    }

    /// However many questions there are, few answers are kept, and the newest ones.
    #[tokio::test]
    async fn is_bounded() {
        let world = Arc::new(World::default());
        let cache = world.cache();
        for key in 0..1000 {
            world.now.fetch_add(1, Ordering::Relaxed);
            cache.get(&key, || world.answer(), |_| TTL).await.unwrap();
            assert!(cache.answers.lock().len() <= 32);
        }
        assert_eq!(cache.get(&999, || world.answer(), |_| TTL).await, Ok(1000));
        assert_eq!(cache.get(&0, || world.answer(), |_| TTL).await, Ok(1001));
    }
}
