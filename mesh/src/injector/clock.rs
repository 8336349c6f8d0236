//! The clocks of the webhook.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The monotonic clock.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place of the webhook that reads a clock"
)]
pub(super) fn monotonic() -> Instant {
    Instant::now()
}

/// The system's clock, in seconds of Unix time; before 1970 it reads as 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place of the webhook that reads a clock"
)]
pub(super) fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}
