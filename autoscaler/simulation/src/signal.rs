//! A way of measuring: when an autoscaler sees how much of the load.

use std::time::Duration;

/// What lies between a request and the value that an autoscaler reads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Signal {
    /// From a sample to its being read.
    pub delay: Duration,
    /// The value is the mean over this time before the sample.
    pub window: Duration,
    /// Between two samples; a pod has a value once it was ready for so long.
    pub every: Duration,
}

// === impl Signal ===

impl Signal {
    /// meshmeter with stock settings, as `scripts/step` measures it: a doubled load is 90 % visible
    /// after 2.3 s (median).
    pub const MESHMETER: Self = Self {
        delay: Duration::from_millis(900),
        window: Duration::from_secs(1),
        every: Duration::from_secs(1),
    };

    /// A Prometheus that scrapes each 15 s, read as `rate[1m]`, whose samples span 45 s: 48.6 s in
    /// the same measurement.
    pub const PROMETHEUS: Self = Self {
        delay: Duration::from_millis(600),
        window: Duration::from_secs(45),
        every: Duration::from_secs(15),
    };

    /// When the newest sample that can be read at `now` was taken; `None`: there is none yet.
    pub fn sampled(&self, now: Duration) -> Option<Duration> {
        let seen = now.checked_sub(self.delay)?;
        let every = self.every.as_millis().max(1);
        let whole = seen.as_millis() / every * every;
        u64::try_from(whole).ok().map(Duration::from_millis)
    }

    /// How long it takes until a step in load is 90 % visible, at the median phase of the samples.
    pub fn visible_after(&self) -> Duration {
        self.delay + self.window * 9 / 10 + self.every / 2
    }
}
