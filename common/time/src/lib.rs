//! Points in time, which the cores take as arguments instead of reading a clock.
//!
//! There are two types. Durations, deadlines and ages use [`Monotonic`], which a clock set back or
//! forward does not affect. Times exchanged with people and other programs are [`UnixMillis`],
//! converted at the edges by [`Now::wall_of`].

use std::fmt;
use std::ops::Add;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds on this process's monotonic clock. Its zero is arbitrary, so it is never stored or
/// sent; it lies far enough back that [`Monotonic::before`] does not reach it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Monotonic(pub u64);

/// Unix time in milliseconds on the wall clock of its source: ours, a sidecar's, a receiver's. A
/// wall clock may be set back or forward at any moment.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct UnixMillis(pub u64);

/// The same moment on both clocks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Now {
    pub monotonic: Monotonic,
    pub wall: UnixMillis,
}

/// The clock that outer layers are given; only the binary reads the real one.
#[derive(Clone)]
pub struct Clock {
    monotonic: Arc<dyn Fn() -> Monotonic + Send + Sync>,
    wall: Arc<dyn Fn() -> UnixMillis + Send + Sync>,
}

// === impl Monotonic ===

impl Monotonic {
    /// The clock's value when a process starts: 34 years, longer than any sidecar or counter lives.
    pub const BEGIN: Self = Self(1 << 40);

    /// Time since `earlier`, zero if that is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The moment `duration` ago.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// The moment `millis` milliseconds later; earlier if negative.
    #[must_use]
    pub fn moved(self, millis: i64) -> Self {
        Self(self.0.saturating_add_signed(millis))
    }
}

impl Add<Duration> for Monotonic {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }
}

// === impl UnixMillis ===

impl UnixMillis {
    /// Time since `earlier` by the wall clock, zero if that is later.
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

impl From<UnixMillis> for SystemTime {
    fn from(time: UnixMillis) -> Self {
        UNIX_EPOCH + Duration::from_millis(time.0)
    }
}

impl From<SystemTime> for UnixMillis {
    /// A time before 1970 reads as 1970.
    fn from(time: SystemTime) -> Self {
        let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(millis(since_epoch))
    }
}

// === impl Now ===

impl Now {
    /// The time at `moment` on the wall clock as it is set now.
    pub fn wall_of(self, moment: Monotonic) -> UnixMillis {
        if moment <= self.monotonic {
            self.wall.before(self.monotonic.since(moment))
        } else {
            self.wall + moment.since(self.monotonic)
        }
    }
}

// === impl Clock ===

impl Clock {
    pub fn new(
        monotonic: impl Fn() -> Monotonic + Send + Sync + 'static,
        wall: impl Fn() -> UnixMillis + Send + Sync + 'static,
    ) -> Self {
        Self {
            monotonic: Arc::new(monotonic),
            wall: Arc::new(wall),
        }
    }

    /// The monotonic time, for durations, deadlines and ages.
    pub fn now(&self) -> Monotonic {
        (self.monotonic)()
    }

    /// The wall clock, for times exchanged with others.
    pub fn wall(&self) -> UnixMillis {
        (self.wall)()
    }

    pub fn both(&self) -> Now {
        Now {
            monotonic: self.now(),
            wall: self.wall(),
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").finish_non_exhaustive()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
