//! The system's clocks. All other code takes the time as an argument.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use common_time::{Clock, Monotonic, UnixMillis};

/// The moment that is [`Monotonic::BEGIN`] in this process.
static START: OnceLock<Instant> = OnceLock::new();

/// The system's clocks. All clocks returned agree.
pub fn system() -> Clock {
    Clock::new(monotonic, wall)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads a clock"
)]
fn monotonic() -> Monotonic {
    Monotonic::BEGIN + START.get_or_init(Instant::now).elapsed()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads a clock"
)]
fn wall() -> UnixMillis {
    // A clock before 1970 reads as 1970.
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    let since_epoch = since_epoch.unwrap_or_default().as_millis();
    UnixMillis(u64::try_from(since_epoch).unwrap_or(u64::MAX))
}
