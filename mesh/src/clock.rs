//! The real clock. Everything else is told the time.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use aggregator_core::time::{Clock, UnixMillis};

/// The system's clock.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads a clock"
)]
pub(crate) fn system() -> Clock {
    Arc::new(|| {
        // A clock before 1970 reads as 1970.
        let since_epoch = std::time::SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        UnixMillis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    })
}
