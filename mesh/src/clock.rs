//! The only file that reads a clock. Everything else is told the time.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use common_time::{Clock, Monotonic, UnixMillis};

/// The moment that is [`Monotonic::BEGIN`] in this process.
static BEGUN: OnceLock<Instant> = OnceLock::new();

/// The clock that never steps, for timers.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn monotonic() -> Instant {
    Instant::now()
}

/// The wall clock, for signatures.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn system() -> SystemTime {
    SystemTime::now()
}

/// The wall clock, in seconds of Unix time; before 1970 it reads as 1970.
pub(crate) fn unix_seconds() -> u64 {
    let since = system().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// Both clocks, for what asks again and again. All that this returns agree.
pub(crate) fn both() -> Clock {
    let passed = || BEGUN.get_or_init(monotonic).elapsed();
    let wall = || {
        let since = system().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    };
    Clock::new(move || Monotonic::BEGIN + passed(), wall)
}
