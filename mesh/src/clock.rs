//! The only file that reads a clock. All other code gets the time as an argument.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use common_time::{Clock, Monotonic, UnixMillis};

/// [`Monotonic::BEGIN`] of this process.
static BEGIN: OnceLock<Instant> = OnceLock::new();

/// The monotonic clock, for timers.
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

/// Both clocks. All clocks returned in one process agree.
pub(crate) fn both() -> Clock {
    let passed = || BEGIN.get_or_init(monotonic).elapsed();
    let wall = || {
        let since = system().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    };
    Clock::new(move || Monotonic::BEGIN + passed(), wall)
}
