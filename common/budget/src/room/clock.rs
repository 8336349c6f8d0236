//! The only file of this crate that reads a clock: that of the runtime, which tests can hold.

use tokio::time::Instant;

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub(super) fn now() -> Instant {
    Instant::now()
}
