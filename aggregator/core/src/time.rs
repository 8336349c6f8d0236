//! Points in time as the cores see them: arguments, never read from a clock.

use std::ops::Add;
use std::sync::Arc;
use std::time::Duration;

/// Unix time in milliseconds. Whose clock it is is said where it stands; in the store it is the aggregator's.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// Time since `earlier`, zero if that is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The point `duration` ago, at the earliest the epoch.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }
}

impl Add<Duration> for UnixMillis {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How outer layers are told the time: they get one of these and call it; only the binary reads a real clock.
pub type Clock = Arc<dyn Fn() -> UnixMillis + Send + Sync>;
