//! The thread that wakes Envoy's main thread: Envoy has no timer for HTTP filters.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use filter_core::streamer::TICK_MS;
use parking_lot::Mutex;

/// Asks the main thread for a tick, from any thread.
pub(crate) trait Waker: Send + 'static {
    fn wake(&self);
}

/// The wakers of the living configurations, newest last, and whether a tick is under way.
#[derive(Debug)]
pub(crate) struct Ticker<W> {
    wakers: Mutex<Vec<(u32, W)>>,
    asked: AtomicBool,
    started: AtomicBool,
}

// === impl Ticker ===

impl<W: Waker> Ticker<W> {
    pub(crate) const fn new() -> Self {
        Self {
            wakers: Mutex::new(Vec::new()),
            asked: AtomicBool::new(false),
            started: AtomicBool::new(false),
        }
    }

    /// Adds the waker of a configuration, and starts the thread with the first one. False if there
    /// can be no thread.
    pub(crate) fn add(&'static self, root: u32, waker: W) -> bool {
        self.wakers.lock().push((root, waker));
        if self.started.swap(true, Ordering::AcqRel) {
            return true;
        }
        let thread = thread::Builder::new().name("meshmeter".to_owned());
        let spawned = thread.spawn(|| {
            loop {
                // Nobody unparks it; Envoy's main thread keeps the time between two of its ticks.
                thread::park_timeout(Duration::from_millis(TICK_MS.into()));
                self.ask();
            }
        });
        self.started.store(spawned.is_ok(), Ordering::Release);
        spawned.is_ok()
    }

    /// Removes the waker of a configuration that Envoy destroys. It is not used after that.
    pub(crate) fn remove(&self, root: u32) {
        let mut wakers = self.wakers.lock();
        wakers.retain(|(known, _)| *known != root);
        // Its wake-up may be lost with it.
        self.asked.store(false, Ordering::Release);
    }

    /// The main thread is about to tick.
    pub(crate) fn answered(&self) {
        self.asked.store(false, Ordering::Release);
    }

    /// Asks for a tick unless one is on its way: a busy main thread does not collect them.
    fn ask(&self) {
        let wakers = self.wakers.lock();
        if let Some((_, waker)) = wakers.last()
            && !self.asked.swap(true, Ordering::AcqRel)
        {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    struct Counting(Arc<AtomicUsize>);

    impl Waker for Counting {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The newest configuration is woken, once until it answers; a tick that went with its
    /// configuration is asked for again.
    #[test]
    fn one_tick_at_a_time() {
        let ticker = Ticker::new();
        let counts = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
        let read = || counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        ticker.ask();
        for (root, count) in (1..).zip(&counts) {
            ticker.wakers.lock().push((root, Counting(count.clone())));
        }
        ticker.ask();
        ticker.ask();
        assert_eq!(read(), [0, 1]);
        ticker.answered();
        ticker.ask();
        assert_eq!(read(), [0, 2]);
        ticker.remove(2);
        ticker.ask();
        assert_eq!(read(), [1, 2]);
        ticker.remove(1);
        ticker.ask();
        assert_eq!(read(), [1, 2]);
    }
}
