//! The only place of this crate that reads a clock, and the one way to wait for something.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use common_time::{Clock, Monotonic, UnixMillis};

/// Pause between two looks at a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The monotonic clock.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the clock of the test crates"
)]
pub fn now() -> Instant {
    Instant::now()
}

/// The system's clocks, as outer layers are told the time.
pub fn system() -> Clock {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    Clock::new(|| Monotonic::BEGIN + BEGUN.get_or_init(now).elapsed(), unix)
}

/// The system's wall clock.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the clock of the test crates"
)]
pub fn unix() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = since.unwrap_or_default().as_millis();
    UnixMillis(u64::try_from(since).unwrap_or(u64::MAX))
}

/// Looks again and again until `look` gives a value; fails with `what` when that takes longer than
/// `limit`.
pub async fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = now();
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if start.elapsed() > limit {
            bail!("waited {} s in vain for {what}", limit.as_secs_f32());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
