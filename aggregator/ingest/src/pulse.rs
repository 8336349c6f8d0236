//! Feels whether this replica is behind, and asks sidecars to report less often while it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aggregator_core::store::Store;
use common_time::Monotonic;
use parking_lot::Mutex;
use tracing::{info, warn};

use crate::metrics::Metrics;
use crate::stretch::Stretch;

/// To be called each [`TICK`](aggregator_core::lag::TICK): it measures by how much it is late.
#[derive(Debug)]
pub struct Pulse {
    store: Arc<Store>,
    asked: Arc<AskedInterval>,
    metrics: Metrics,
    second: Mutex<Second>,
}

/// The flush interval that sidecars are asked for.
#[derive(Debug, Default)]
pub(crate) struct AskedInterval(AtomicU32);

/// The second that goes on.
#[derive(Debug, Default)]
struct Second {
    since: Monotonic,
    /// The longest delay in it.
    late: Duration,
    stretch: Stretch,
}

// === impl Pulse ===

impl Pulse {
    pub(crate) fn new(store: Arc<Store>, asked: Arc<AskedInterval>, metrics: Metrics) -> Self {
        Self {
            store,
            asked,
            metrics,
            second: Mutex::default(),
        }
    }

    /// Notes that the task which calls this ran at `now`.
    pub fn tick(&self, now: Monotonic) {
        let late = self.store.lag().tick(now);
        let mut second = self.second.lock();
        second.late = second.late.max(late);
        if now.since(second.since) < Duration::from_secs(1) {
            return;
        }
        let late = std::mem::take(&mut second.late);
        second.since = now;
        let before = second.stretch.interval();
        let interval = second.stretch.second(late);
        drop(second);
        self.metrics.lag.set(late.as_secs_f64());
        if interval != before {
            self.ask(late, before, interval);
        }
    }

    fn ask(&self, late: Duration, before: Duration, interval: Duration) {
        self.asked.set(interval);
        self.metrics.flush_interval.set(interval.as_secs_f64());
        let (late_ms, interval_ms) = (late.as_millis(), interval.as_millis());
        if interval > before {
            warn!(
                late_ms,
                interval_ms,
                "this replica is behind and asks sidecars to report less often: give it more CPU"
            );
        } else {
            info!(
                interval_ms,
                "this replica keeps up and asks sidecars to report more often again"
            );
        }
    }
}

// === impl AskedInterval ===

impl AskedInterval {
    fn set(&self, interval: Duration) {
        let millis = u32::try_from(interval.as_millis()).unwrap_or(u32::MAX);
        self.0.store(millis, Ordering::Relaxed);
    }

    /// What to ask of a sidecar that said that its interval is `own_ms`, in milliseconds; 0 leaves
    /// it as it is configured. Nobody is asked to report more often.
    pub(crate) fn of(&self, own_ms: u32) -> u32 {
        let asked = self.0.load(Ordering::Relaxed);
        if asked >= own_ms { asked } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use aggregator_core::limits::StoreLimits;

    use super::*;

    /// Ticks from `from` for so many seconds, each so late.
    fn ticks(pulse: &Pulse, from: Monotonic, seconds: u64, late_ms: u64) -> Monotonic {
        let mut now = from;
        while now.since(from) < Duration::from_secs(seconds) {
            now = now + Duration::from_millis(50 + late_ms);
            pulse.tick(now);
        }
        now
    }

    /// A replica that is late asks for longer intervals, of nobody who has longer ones; once it
    /// keeps up for long it asks for nothing.
    #[test]
    fn asks_while_it_is_late() {
        let store = Arc::new(Store::new(StoreLimits::default()));
        let asked = Arc::new(AskedInterval::default());
        let metrics = Metrics::default();
        let pulse = Pulse::new(Arc::clone(&store), Arc::clone(&asked), metrics.clone());
        let now = ticks(&pulse, Monotonic(1_000_000), 60, 0);
        assert_eq!(asked.of(1000), 0);
        let now = ticks(&pulse, now, 20, 700);
        assert_eq!(
            [1000, 5000, 5001, 60_000].map(|own| asked.of(own)),
            [5000, 5000, 0, 0]
        );
        assert_eq!(store.lag().at(now), Duration::from_millis(700));
        assert!((metrics.lag.get() - 0.7).abs() < 1e-9);
        assert!((metrics.flush_interval.get() - 5.0).abs() < 1e-9);
        ticks(&pulse, now, 65, 0);
        assert_eq!(asked.of(1000), 0);
        assert!(metrics.flush_interval.get().abs() < 1e-9);
    }
}
