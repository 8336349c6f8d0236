//! The only file that reads a clock. Everything else is told the time.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use aggregator_core::time::{Clock, UnixMillis};

/// The monotonic clock.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn monotonic() -> Instant {
    Instant::now()
}

/// The system's clock, for signatures.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn system() -> SystemTime {
    SystemTime::now()
}

/// The system's clock, in seconds of Unix time; before 1970 it reads as 1970.
pub(crate) fn unix_seconds() -> u64 {
    let since = system().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// The system's clock, in milliseconds of Unix time, for what asks again and again.
pub(crate) fn unix_millis() -> Clock {
    Arc::new(|| {
        let since = system().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    })
}
