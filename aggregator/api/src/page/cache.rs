//! What several viewers of a page share: it is made once for all of them, and again when it is old.
//! What is old is not kept meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common_time::Monotonic;
use parking_lot::Mutex;

use crate::status::Refusal;

/// Entries are forgotten after this time without a viewer.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// Values by their name, bounded in number.
pub(super) struct Cache<T> {
    max: usize,
    /// Of all values together; one that does not fit is not kept.
    bytes_max: usize,
    size: fn(&T) -> usize,
    /// Short: only the map is looked at under it.
    entries: Mutex<HashMap<String, Arc<Entry<T>>>>,
}

struct Entry<T> {
    /// When it was made, and the value. Held while it is made, so that others wait for it.
    made: tokio::sync::Mutex<Option<(Monotonic, T)>>,
    last_asked: Mutex<Monotonic>,
    /// Size of the value.
    bytes: AtomicUsize,
}

// === impl Cache ===

impl<T: Clone> Cache<T> {
    pub(super) fn new(max: usize, bytes_max: usize, size: fn(&T) -> usize) -> Self {
        Self {
            max,
            bytes_max,
            size,
            entries: Mutex::default(),
        }
    }

    /// The value `name`, not older than `age_max`: a known one, or what `make` makes. Errors are
    /// not kept.
    pub(super) async fn get(
        &self,
        name: &str,
        now: Monotonic,
        age_max: Duration,
        make: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let Some(entry) = self.entry(name, now) else {
            // Full of what others look at.
            return make.await;
        };
        let mut known = entry.made.lock().await;
        if let Some((at, value)) = &*known
            && now.since(*at) < age_max
        {
            return Ok(value.clone());
        }
        *known = None;
        entry.bytes.store(0, Ordering::Relaxed);
        let value = make.await?;
        if self.has_room(&entry, (self.size)(&value), now) {
            *known = Some((now, value.clone()));
        }
        Ok(value)
    }

    /// Takes the room for a value of `entry`, if it is there.
    fn has_room(&self, entry: &Entry<T>, bytes: usize, now: Monotonic) -> bool {
        // Locked: two values do not take the same room.
        let mut entries = self.entries.lock();
        forget_idle(&mut entries, now);
        let sizes = entries
            .values()
            .map(|one| one.bytes.load(Ordering::Relaxed));
        let fits = sizes.sum::<usize>().saturating_add(bytes) <= self.bytes_max;
        if fits {
            entry.bytes.store(bytes, Ordering::Relaxed);
        }
        fits
    }

    fn entry(&self, name: &str, now: Monotonic) -> Option<Arc<Entry<T>>> {
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.get(name) {
            *entry.last_asked.lock() = now;
            return Some(Arc::clone(entry));
        }
        forget_idle(&mut entries, now);
        if entries.len() >= self.max {
            return None;
        }
        let entry = Arc::new(Entry {
            made: tokio::sync::Mutex::new(None),
            last_asked: Mutex::new(now),
            bytes: AtomicUsize::new(0),
        });
        entries.insert(name.to_owned(), Arc::clone(&entry));
        Some(entry)
    }
}

fn forget_idle<T>(entries: &mut HashMap<String, Arc<Entry<T>>>, now: Monotonic) {
    entries.retain(|_, entry| now.since(*entry.last_asked.lock()) < IDLE_MAX);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    const AGE_MAX: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> Monotonic {
        Monotonic::BEGIN + Duration::from_millis(millis)
    }

    /// Within its age a value is made once, for those who ask meanwhile too; then anew.
    #[tokio::test]
    async fn makes_once_for_all() {
        let cache = Cache::new(8, 100, |_| 1);
        let count = AtomicU32::new(0);
        let make = async || {
            tokio::task::yield_now().await;
            Ok(count.fetch_add(1, Ordering::Relaxed))
        };
        let ask = |millis| cache.get("a", at(millis), AGE_MAX, make());
        let (one, other) = tokio::join!(ask(0), ask(10));
        assert_eq!([one.unwrap(), other.unwrap()], [0, 0]);
        assert_eq!(ask(999).await.unwrap(), 0);
        assert_eq!(ask(1_000).await.unwrap(), 1);
    }

    /// Values that do not fit beside the others are made for each who asks.
    #[tokio::test]
    async fn is_bounded_in_bytes() {
        let cache = Cache::new(8, 100, |bytes: &usize| *bytes);
        let make = |bytes: usize| async move { Ok(bytes) };
        for (millis, name, bytes, expected) in [
            (0, "a", 60, 60),
            (0, "b", 50, 50),
            (0, "b", 40, 40),
            (0, "b", 39, 40),
            (0, "a", 59, 60),
            (1_000, "a", 61, 61),
            (1_000, "a", 62, 62),
            (1_000, "a", 60, 60),
            (1_000, "a", 1, 60),
            // Nobody asks for "a" any more: its room is free.
            (10_500, "b", 30, 30),
            (11_600, "b", 100, 100),
        ] {
            let got = cache.get(name, at(millis), AGE_MAX, make(bytes)).await;
            assert_eq!(got.unwrap(), expected, "{name} at {millis}");
        }
    }

    /// A full cache makes anew, and forgets what nobody asks for.
    #[tokio::test]
    async fn is_bounded() {
        let cache = Cache::new(2, 100, |_| 1);
        let make = |value: u32| async move { Ok(value) };
        for (millis, name, value, expected) in [
            (0, "a", 1, 1),
            (0, "b", 2, 2),
            (10, "c", 3, 3),
            (20, "c", 4, 4),
            (20, "a", 5, 1),
            (10_010, "c", 6, 6),
            (10_020, "c", 7, 6),
        ] {
            let got = cache.get(name, at(millis), AGE_MAX, make(value)).await;
            assert_eq!(got.unwrap(), expected, "{name} at {millis}");
            assert!(cache.entries.lock().len() <= 2);
        }
    }
}
