//! Points in time as the cores see them: arguments, never read from a clock.
//!
//! There are two kinds, and the compiler keeps them apart. What is compared, waited for or aged is
//! [`Monotonic`]: a clock set back or forward does not touch it. [`UnixMillis`] is what people and
//! other programs are told, and what they tell us; it enters and leaves at the edges, by
//! [`Now::wall_of`].

use std::fmt;
use std::ops::Add;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds on this process's clock that never steps. Its zero means nothing, so it is never
/// written to a disk or a wire; it lies far enough back that [`Monotonic::before`] does not reach
/// it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Monotonic(pub u64);

/// Unix time in milliseconds, on the wall clock of whoever tells it: ours, a sidecar's, a
/// receiver's. A wall clock may be set back or forward at any moment.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct UnixMillis(pub u64);

/// The same moment on both clocks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Now {
    /// On the clock that never steps.
    pub monotonic: Monotonic,
    /// On the wall clock.
    pub wall: UnixMillis,
}

/// How outer layers are told the time: they get one of these and ask it; only the binary reads a
/// real clock.
#[derive(Clone)]
pub struct Clock {
    monotonic: Arc<dyn Fn() -> Monotonic + Send + Sync>,
    wall: Arc<dyn Fn() -> UnixMillis + Send + Sync>,
}

// === impl Monotonic ===

impl Monotonic {
    /// What a process's clock shows when it begins: 34 years, more than any sidecar or counter is
    /// old.
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

    /// The moment so many milliseconds later, or earlier.
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
    /// Time since `earlier` as the wall clock has it, zero if that is later.
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
    /// What the wall clock as it goes now would have shown at `moment`.
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
    /// A clock that asks the two functions.
    pub fn new(
        monotonic: impl Fn() -> Monotonic + Send + Sync + 'static,
        wall: impl Fn() -> UnixMillis + Send + Sync + 'static,
    ) -> Self {
        Self {
            monotonic: Arc::new(monotonic),
            wall: Arc::new(wall),
        }
    }

    /// The moment, for whatever is compared, waited for or aged.
    pub fn now(&self) -> Monotonic {
        (self.monotonic)()
    }

    /// The wall clock, for what is shown to others or was told by them.
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
