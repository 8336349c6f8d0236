//! The only file that reads a clock: that of the runtime, which tests can hold.

use tokio::time::Instant;

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
