//! Points in time, read from the host once per callback and passed on.

const NANOS_PER_MILLI: u64 = 1_000_000;

/// Unix time in milliseconds on the sidecar's clock.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct UnixMillis(pub u64);

/// Nanoseconds on the monotonic clock, which all VMs of a process share. Zero has no meaning.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Monotonic(pub u64);

/// The same moment on both clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Wall clock at the VM's start plus monotonic time since: setting the clock has no effect.
    pub unix: UnixMillis,
    pub monotonic: Monotonic,
}

// === impl Now ===

impl Now {
    /// `monotonic` on both clocks, with `self` as reference.
    #[must_use]
    pub fn at(self, monotonic: Monotonic) -> Self {
        let passed = monotonic.millis_since(self.monotonic);
        Self {
            unix: UnixMillis(self.unix.0.saturating_add(passed)),
            monotonic,
        }
    }
}

// === impl Monotonic ===

impl Monotonic {
    /// Nanoseconds since `earlier`, 0 if that is later.
    pub fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whole milliseconds since `earlier`, 0 if that is later.
    pub fn millis_since(self, earlier: Self) -> u64 {
        self.nanos_since(earlier) / NANOS_PER_MILLI
    }

    #[must_use]
    pub fn plus_millis(self, millis: u64) -> Self {
        Self(
            self.0
                .saturating_add(millis.saturating_mul(NANOS_PER_MILLI)),
        )
    }

    #[must_use]
    pub fn minus_millis(self, millis: u64) -> Self {
        Self(
            self.0
                .saturating_sub(millis.saturating_mul(NANOS_PER_MILLI)),
        )
    }
}
