//! Measures how late this replica runs.

use aggregator_core::lag::TICK;
use aggregator_ingest::Pulse;
use common_time::Clock;
use tokio_util::sync::CancellationToken;

/// Ticks until it is stopped. On the threads that serve the streams, since it has to be as late as
/// they are.
pub(super) async fn beat(pulse: Pulse, clock: Clock, stop: CancellationToken) {
    loop {
        pulse.tick(clock.now());
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(TICK) => {}
        }
    }
}
