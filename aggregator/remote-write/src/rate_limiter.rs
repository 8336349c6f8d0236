//! How fast samples go out: no limit until the receiver says 429, then half of what it was, growing
//! back slowly; and after an outage at most twice the live rate, so that catching up does not bring
//! the next refusal.
//!
//! A token bucket shared by all shards. Pure: time is an argument, in seconds since any origin.

#[cfg(test)]
mod tests;

/// How much of the rate comes back every [`RECOVERY_SECONDS`].
const RECOVERY: f64 = 0.05;
/// See [`RECOVERY`].
const RECOVERY_SECONDS: f64 = 10.0;
/// Catching up goes at this many times the live rate.
const CATCH_UP: f64 = 2.0;
/// The rate is never cut below this, in samples per second.
const RATE_MIN: f64 = 100.0;
/// Refusals within this time count as one: shards are refused together.
const CUT_EVERY_SECONDS: f64 = 1.0;
/// A shorter wait is not worth a timer.
const WAIT_MIN_SECONDS: f64 = 1e-3;
/// The live rate is an average over about this long.
const LIVE_SECONDS: f64 = 60.0;

/// Limits the rate of sending.
#[derive(Clone, Debug)]
pub struct RateLimiter {
    /// Ceiling set by refusals; `None` before the first one and after full recovery.
    ceiling: Option<f64>,
    /// The ceiling's value before refusals began: reaching it ends the ceiling.
    full: f64,
    /// Samples that come in, per second.
    live: f64,
    /// Samples sent, per second.
    sent: f64,
    /// May be negative: a request larger than the bucket is let through and paid off after.
    tokens: f64,
    at: f64,
    cut_at: f64,
    pushed_at: f64,
    begun: f64,
}

// === impl RateLimiter ===

impl RateLimiter {
    /// Begins at `now`.
    pub fn new(now: f64) -> Self {
        Self {
            ceiling: None,
            full: 0.0,
            live: 0.0,
            sent: 0.0,
            tokens: 0.0,
            at: now,
            cut_at: f64::NEG_INFINITY,
            pushed_at: now,
            begun: now,
        }
    }

    /// `samples` came in: what is live.
    pub fn pushed(&mut self, now: f64, samples: u64) {
        let elapsed = (now - self.pushed_at).max(1e-3);
        self.pushed_at = now;
        self.live = blend(self.live, real(samples) / elapsed, elapsed);
    }

    /// Seconds to wait before `samples` may go out; 0 lets them out now and counts them. `behind`
    /// says that what waits is more than what came in last: an outage is being caught up.
    pub fn admit(&mut self, now: f64, samples: u32, behind: bool) -> f64 {
        self.pass(now);
        let Some(rate) = self.rate(behind) else {
            self.tokens = 0.0;
            self.count(samples);
            return 0.0;
        };
        // A second's worth may go at once.
        self.tokens = self.tokens.min(rate);
        if self.tokens < 0.0 {
            return (-self.tokens / rate).max(WAIT_MIN_SECONDS);
        }
        self.tokens -= f64::from(samples);
        self.count(samples);
        0.0
    }

    /// The receiver said 429.
    pub fn refused(&mut self, now: f64) {
        self.pass(now);
        if now - self.cut_at < CUT_EVERY_SECONDS {
            return;
        }
        self.cut_at = now;
        let current = self.ceiling.unwrap_or_else(|| self.unlimited(now));
        if self.ceiling.is_none() {
            self.full = current;
        }
        self.ceiling = Some((current / 2.0).max(RATE_MIN));
    }

    /// The limit now, in samples per second; `None` without one.
    pub fn rate(&self, behind: bool) -> Option<f64> {
        let catch_up = (behind && self.live > 0.0).then(|| (self.live * CATCH_UP).max(RATE_MIN));
        match (self.ceiling, catch_up) {
            (Some(ceiling), Some(catch_up)) => Some(ceiling.min(catch_up)),
            (limit, other) => limit.or(other),
        }
    }

    fn pass(&mut self, now: f64) {
        let elapsed = (now - self.at).max(0.0);
        self.at = self.at.max(now);
        self.sent = blend(self.sent, 0.0, elapsed);
        if let Some(ceiling) = &mut self.ceiling {
            self.tokens += *ceiling * elapsed;
            *ceiling *= (1.0 + RECOVERY).powf(elapsed / RECOVERY_SECONDS);
            if *ceiling > self.full * CATCH_UP {
                self.ceiling = None;
            }
        } else {
            self.tokens += self.live * CATCH_UP * elapsed;
        }
    }

    /// What went out per second while nothing limited it. The average began at 0, which must not
    /// count.
    fn unlimited(&self, now: f64) -> f64 {
        let since = (now - self.begun).max(1.0);
        let seen = 1.0 - (-since / LIVE_SECONDS).exp();
        (self.sent / seen).max(self.live).max(RATE_MIN)
    }

    fn count(&mut self, samples: u32) {
        self.sent += f64::from(samples) / LIVE_SECONDS;
    }
}

/// An exponential average that forgets with [`LIVE_SECONDS`].
fn blend(old: f64, new: f64, elapsed: f64) -> f64 {
    let keep = (-elapsed / LIVE_SECONDS).exp();
    old * keep + new * (1.0 - keep)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "an average does not need the last bits of 2^53 samples"
)]
fn real(samples: u64) -> f64 {
    samples as f64
}
