//! Forgets what is gone.

use std::sync::Arc;
use std::time::Duration;

use aggregator_core::store::Store;
use aggregator_directory::Directory;
use common_time::Clock;
use tokio_util::sync::CancellationToken;

/// How often gone pods are removed.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(1);

/// Removes gone pods from the store, and from the directory if they were `learnt` from sidecars.
pub(super) async fn expire(
    store: Arc<Store>,
    learnt: Option<Arc<Directory>>,
    clock: Clock,
    stop: CancellationToken,
) {
    let mut ticks = tokio::time::interval(EXPIRE_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let forgotten = store.expire(clock.now());
        if let Some(directory) = &learnt {
            for pod in &forgotten {
                directory.remove(pod);
            }
        }
    }
}
