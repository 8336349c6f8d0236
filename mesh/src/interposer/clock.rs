//! The only place of the interposer that reads a clock.

use std::time::{Instant, SystemTime};

/// The monotonic clock.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub(super) fn monotonic() -> Instant {
    Instant::now()
}

/// The system's clock, for signatures.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub(super) fn system() -> SystemTime {
    SystemTime::now()
}
