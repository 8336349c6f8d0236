//! The clocks: the only file of the module that reads one.
#![expect(clippy::disallowed_methods, reason = "this is the clock")]

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use filter_core::time::{Monotonic, UnixMillis};

/// Nanoseconds since the first call, and one more: 0 has no meaning.
pub(crate) fn now() -> Monotonic {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let passed = BEGAN.get_or_init(Instant::now).elapsed().as_nanos();
    Monotonic(u64::try_from(passed).unwrap_or(u64::MAX).saturating_add(1))
}

pub(crate) fn unix_now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = since.map_or(0, |since| since.as_millis());
    UnixMillis(u64::try_from(millis).unwrap_or(u64::MAX))
}
