//! The clock of the aggregator's machine is set while it writes into a real Prometheus.

#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tests_remote_write::{PATIENCE, Rig};
use tests_support::clock;

/// Where Debian has libfaketime.
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// A clock that a file sets.
struct SetClock {
    file: PathBuf,
    _folder: TempDir,
}

impl SetClock {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("clock");
        let clock = Self {
            file,
            _folder: folder,
        };
        clock.set(0);
        clock
    }

    /// So many seconds off.
    fn set(&self, seconds: i64) {
        std::fs::write(&self.file, format!("{seconds:+}")).unwrap();
    }

    fn environment(&self) -> Vec<(String, String)> {
        let file = self.file.display().to_string();
        let variables = [
            ("LD_PRELOAD", LIBRARY),
            ("FAKETIME_TIMESTAMP_FILE", &file),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ];
        variables
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }
}

/// Set back by an hour: it goes on at once, what is refused is counted for what it is, the lag grows, and when the clock
/// is right again everything arrives. Set forward and back: the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_step_of_the_clock_is_seen_and_gone_through() {
    if !Path::new(LIBRARY).exists() {
        tests_support::skipped::say(
            "a step of the clock",
            "libfaketime is not installed (Debian: libfaketime)",
        );
        return;
    }
    for (step, after) in [(-3_600, 0), (30, 0)] {
        let set = SetClock::new();
        let mut rig = Rig::direct_in(set.environment()).await.unwrap();
        rig.send(5).await.unwrap();
        rig.arrives().await.unwrap();
        let flushes = rig.metric("flushes_total").await.unwrap();
        set.set(step);
        if step > 0 {
            // What is written meanwhile is ahead of the right time.
            tokio::time::sleep(Duration::from_secs(3)).await;
            set.set(after);
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
        set.set(after);
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
