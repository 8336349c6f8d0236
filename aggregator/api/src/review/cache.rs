//! A bounded cache of review results; concurrent requests for the same review share one call.

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

/// When the cache is full, one entry in this many is evicted.
const EVICTED_PART: usize = 16;

type PendingReview<V> = Shared<Pin<Box<dyn Future<Output = Result<V, ReviewError>> + Send>>>;

pub(crate) struct Cache<K, V> {
    clock: Clock,
    max: usize,
    /// Locked to look up or change one, or to evict, never while a review is awaited.
    entries: Mutex<HashMap<K, CachedReview<V>>>,
}

enum CachedReview<V> {
    Pending(PendingReview<V>),
    Ready { value: V, until: Monotonic },
}

/// A request that waits for a review. When the last waiter is dropped early, the entry is removed,
/// so that a later request starts a new review.
struct Waiter<'a, K: Eq + Hash, V> {
    cache: &'a Cache<K, V>,
    key: &'a K,
    pending: PendingReview<V>,
}

// === impl Cache ===

impl<K, V> Cache<K, V>
where
    K: Clone + Eq + Hash,
    V: Clone + Send + Sync + 'static,
{
    /// An empty cache of at most `max` results.
    pub(crate) fn new(clock: Clock, max: usize) -> Self {
        Self {
            clock,
            max,
            entries: Mutex::default(),
        }
    }

    /// The cached result of `key`, or that of `ask`, which is cached for `ttl`. Failures are not
    /// cached.
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
        let pending = {
            let mut entries = self.entries.lock();
            match entries.get(key) {
                Some(CachedReview::Ready { value, until }) if now < *until => {
                    return Ok(value.clone());
                }
                Some(CachedReview::Pending(pending)) => pending.clone(),
                _ => {
                    make_room(&mut entries, self.max, now);
                    let boxed: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(ask());
                    let pending = boxed.shared();
                    entries.insert(key.clone(), CachedReview::Pending(pending.clone()));
                    pending
                }
            }
        };
        let waiter = Waiter {
            cache: self,
            key,
            pending: pending.clone(),
        };
        let outcome = pending.await;
        if let Ok(value) = &outcome {
            waiter.store(value, self.clock.now() + ttl(value));
        }
        drop(waiter);
        outcome
    }
}

// === impl Attempt ===

impl<K: Eq + Hash, V: Clone> Waiter<'_, K, V> {
    fn store(&self, value: &V, until: Monotonic) {
        let mut entries = self.cache.entries.lock();
        if let Some(entry) = entries.get_mut(self.key)
            && self.is_of(entry)
        {
            *entry = CachedReview::Ready {
                value: value.clone(),
                until,
            };
        }
    }
}

impl<K: Eq + Hash, V> Waiter<'_, K, V> {
    fn is_of(&self, entry: &CachedReview<V>) -> bool {
        matches!(entry, CachedReview::Pending(pending) if pending.ptr_eq(&self.pending))
    }
}

impl<K: Eq + Hash, V> Drop for Waiter<'_, K, V> {
    fn drop(&mut self) {
        let mut entries = self.cache.entries.lock();
        let Some(entry) = entries.get(self.key) else {
            return;
        };
        // The map and this waiter hold one reference each; more belong to other waiters. A failed
        // review is over for all of them.
        let over =
            self.pending.peek().is_some() || self.pending.strong_count().is_none_or(|n| n <= 2);
        if self.is_of(entry) && over {
            entries.remove(self.key);
        }
    }
}

/// Removes expired entries, and if that is not enough those that expire soonest.
fn make_room<K: Clone + Eq + Hash, V>(
    entries: &mut HashMap<K, CachedReview<V>>,
    max: usize,
    now: Monotonic,
) {
    if entries.len() < max {
        return;
    }
    entries.retain(|_, entry| !matches!(entry, CachedReview::Ready { until, .. } if *until <= now));
    let keep_at_most = max - (max / EVICTED_PART).max(1);
    if entries.len() <= keep_at_most {
        return;
    }
    // Pending reviews go last; their waiters get the result in any case.
    let rank = |entry: &CachedReview<V>| match entry {
        CachedReview::Ready { until, .. } => until.0,
        CachedReview::Pending(_) => u64::MAX,
    };
    let mut ranked: Vec<(u64, K)> = entries
        .iter()
        .map(|(key, entry)| (rank(entry), key.clone()))
        .collect();
    ranked.sort_unstable_by_key(|(until, _)| *until);
    for (_, key) in ranked.iter().take(entries.len() - keep_at_most) {
        if let Entry::Occupied(occupied) = entries.entry(key.clone()) {
            occupied.remove();
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
        pending: AtomicU64,
        go: Notify,
    }

    impl World {
        fn cache(self: &Arc<Self>) -> Cache<u32, u64> {
            let world = Arc::clone(self);
            let now = move || Monotonic(world.now.load(Ordering::Relaxed));
            Cache::new(Clock::new(now, UnixMillis::default), 32)
        }

        /// Answers with how often it was asked.
        fn entry(
            self: &Arc<Self>,
        ) -> impl Future<Output = Result<u64, ReviewError>> + Send + use<> {
            let world = Arc::clone(self);
            async move { Ok(world.pending.fetch_add(1, Ordering::Relaxed) + 1) }
        }
    }

    /// An answer holds for its time, and not a moment longer.
    #[tokio::test]
    async fn keeps_for_a_while() {
        let world = Arc::new(World::default());
        let cache = world.cache();
        for (now, expected) in [(0, 1), (9_999, 1), (10_000, 2), (10_001, 2)] {
            world.now.store(now, Ordering::Relaxed);
            let got = cache.get(&7, || world.entry(), |_| TTL).await;
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
                        world.entry().await
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
        assert_eq!(cache.get(&8, || world.entry(), |_| TTL).await, Ok(2));
    }

    /// A failure reaches all waiters and is not cached.
    #[tokio::test]
    async fn forgets_failures() {
        let world = Arc::new(World::default());
        let cache = world.cache();
        let failing = || async { Err(ReviewError::Timeout) };
        assert_eq!(
            cache.get(&7, failing, |_| TTL).await,
            Err(ReviewError::Timeout)
        );
        assert_eq!(cache.get(&7, || world.entry(), |_| TTL).await, Ok(1));
    }

    /// However many questions there are, few answers are kept, and the newest ones.
    #[tokio::test]
    async fn is_bounded() {
        let world = Arc::new(World::default());
        let cache = world.cache();
        for key in 0..1000 {
            world.now.fetch_add(1, Ordering::Relaxed);
            cache.get(&key, || world.entry(), |_| TTL).await.unwrap();
            assert!(cache.entries.lock().len() <= 32);
        }
        assert_eq!(cache.get(&999, || world.entry(), |_| TTL).await, Ok(1000));
        assert_eq!(cache.get(&0, || world.entry(), |_| TTL).await, Ok(1001));
    }
}
