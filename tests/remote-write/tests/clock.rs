//! The clock of the aggregator's machine is set while it writes into a real Prometheus.

use std::time::Duration;

use tests_remote_write::{PATIENCE, Rig};
use tests_support::clock;
use tests_support::set_clock::SetClock;

/// Set back by an hour: it goes on at once, what is refused is counted for what it is, the lag
/// grows, and when the clock is right again everything arrives. Set forward and back: the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_step_of_the_clock_is_seen_and_gone_through() {
    for (step, after) in [(-3_600, 0), (30, 0)] {
        let mut set = SetClock::new().unwrap();
        let mut rig = Rig::direct_in(set.environment()).await.unwrap();
        rig.send(5).await.unwrap();
        rig.arrives().await.unwrap();
        let flushes = rig.metric("flushes_total").await.unwrap();
        set.set(step).unwrap();
        if step > 0 {
            // What is written meanwhile is ahead of the right time.
            tokio::time::sleep(Duration::from_secs(3)).await;
            set.set(after).unwrap();
        }
        clock::wait_for(
            "samples to be refused for their time",
            PATIENCE,
            async || {
                let refused = rig.metric("samples_total{result=\"clock_step\"}").await?;
                let lag = rig.metric("lag_seconds").await?;
                // It goes on, instead of waiting for the time of before.
                let more = rig.metric("flushes_total").await? - flushes;
                Ok((refused > 0.0 && lag > 3.0 && more >= 5.0).then_some(()))
            },
        )
        .await
        .unwrap_or_else(|error| panic!("{step}: {error}\n{}", rig.aggregator.log_tail()));
        let rejected = rig.metric("samples_total{result=\"rejected\"}").await;
        assert!(rejected.unwrap().abs() < f64::EPSILON);
        set.set(after).unwrap();
        rig.send(3).await.unwrap();
        rig.arrives().await.unwrap();
        clock::wait_for("the lag to end", PATIENCE, async || {
            let lag = rig.metric("lag_seconds").await?;
            Ok((lag < 3.0).then_some(()))
        })
        .await
        .unwrap();
    }
}
