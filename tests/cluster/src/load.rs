//! Requests at an even rate, to one pod after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tests_support::http;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::fleet::Addresses;

/// Interval in which the load's rate is corrected.
const TICK: Duration = Duration::from_millis(10);
/// Requests open at once; further ones are left out.
const OPEN_MAX: usize = 200;

/// A running load; ends when dropped.
#[derive(Debug)]
pub struct Load {
    rate: Arc<AtomicU32>,
    _stop: DropGuard,
}

// === impl Load ===

impl Load {
    /// Begins with `rate` requests per second, over all pods.
    pub fn start(addresses: Addresses, rate: u32) -> Self {
        let stop = CancellationToken::new();
        let rate = Arc::new(AtomicU32::new(rate));
        let sending = send(addresses, Arc::clone(&rate));
        tokio::spawn(stop.clone().run_until_cancelled_owned(sending));
        Self {
            rate,
            _stop: stop.drop_guard(),
        }
    }

    /// From now on so many requests per second, over all pods.
    pub fn set(&self, rate: u32) {
        self.rate.store(rate, Ordering::Relaxed);
    }
}

async fn send(addresses: Addresses, rate: Arc<AtomicU32>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut open = JoinSet::new();
    let (mut due, mut next) = (0.0, 0_usize);
    loop {
        ticks.tick().await;
        due += f64::from(rate.load(Ordering::Relaxed)) * TICK.as_secs_f64();
        while open.try_join_next().is_some() {}
        let targets = addresses.now();
        while due >= 1.0 {
            due -= 1.0;
            if targets.is_empty() || open.len() >= OPEN_MAX {
                continue;
            }
            let target = targets[next % targets.len()];
            next = next.wrapping_add(1);
            // A pod that is just going may refuse it.
            open.spawn(async move { drop(http::get(target, "/").await) });
        }
    }
}
