//! Limits the rate of sending: none until a 429, then half of the current rate, which recovers
//! slowly; after an outage at most twice the live rate, so that catching up does not cause a 429.
//!
//! A token bucket shared by all shards. Pure: time is an argument, in seconds since any origin.

#[cfg(test)]
mod tests;

/// Growth of the rate every [`RECOVERY_SECONDS`].
const RECOVERY: f64 = 0.05;
/// See [`RECOVERY`].
const RECOVERY_SECONDS: f64 = 10.0;
/// Rate of catching up, as a multiple of the live rate.
const CATCH_UP: f64 = 2.0;
/// Lowest rate, in samples per second.
const RATE_MIN: f64 = 100.0;
/// Responses of 429 within this time count as one: they hit all shards at once.
const CUT_EVERY_SECONDS: f64 = 1.0;
/// Shortest wait; a shorter one is not worth a timer.
const WAIT_MIN_SECONDS: f64 = 1e-3;
/// Time constant of the averages.
const LIVE_SECONDS: f64 = 60.0;

#[derive(Clone, Debug)]
pub struct RateLimiter {
    /// Ceiling set by a 429; `None` before the first one and after full recovery.
    ceiling: Option<f64>,
    /// The rate at the first 429: reaching [`CATCH_UP`] times this ends the ceiling.
    previous_ceiling: f64,
    /// Samples pushed per second.
    live: f64,
    /// Samples sent per second.
    sent: f64,
    /// May be negative: a request larger than the bucket is admitted and paid off later.
    tokens: f64,
    at: f64,
    cut_at: f64,
    pushed_at: f64,
    started_at: f64,
}

// === impl RateLimiter ===

impl RateLimiter {
    pub fn new(now: f64) -> Self {
        Self {
            ceiling: None,
            previous_ceiling: 0.0,
            live: 0.0,
            sent: 0.0,
            tokens: 0.0,
            at: now,
            cut_at: f64::NEG_INFINITY,
            pushed_at: now,
            started_at: now,
        }
    }

    /// Counts `samples` of a flush into the live rate.
    pub fn pushed(&mut self, now: f64, samples: u64) {
        let elapsed = (now - self.pushed_at).max(1e-3);
        self.pushed_at = now;
        self.live = blend(self.live, real(samples) / elapsed, elapsed);
    }

    /// Seconds to wait before `samples` may be sent; 0 admits and counts them. `behind` is true
    /// while an outage is being caught up.
    pub fn admit(&mut self, now: f64, samples: u32, behind: bool) -> f64 {
        self.advance(now);
        let Some(rate) = self.rate(behind) else {
            self.tokens = 0.0;
            self.count(samples);
            return 0.0;
        };
        // The bucket holds one second of the rate.
        self.tokens = self.tokens.min(rate);
        if self.tokens < 0.0 {
            return (-self.tokens / rate).max(WAIT_MIN_SECONDS);
        }
        self.tokens -= f64::from(samples);
        self.count(samples);
        0.0
    }

    /// Halves the rate after a 429.
    pub fn refused(&mut self, now: f64) {
        self.advance(now);
        if now - self.cut_at < CUT_EVERY_SECONDS {
            return;
        }
        self.cut_at = now;
        let current = self.ceiling.unwrap_or_else(|| self.unlimited(now));
        if self.ceiling.is_none() {
            self.previous_ceiling = current;
        }
        self.ceiling = Some((current / 2.0).max(RATE_MIN));
    }

    /// The current limit, in samples per second; `None` without one.
    pub fn rate(&self, behind: bool) -> Option<f64> {
        let catch_up = (behind && self.live > 0.0).then(|| (self.live * CATCH_UP).max(RATE_MIN));
        match (self.ceiling, catch_up) {
            (Some(ceiling), Some(catch_up)) => Some(ceiling.min(catch_up)),
            (limit, other) => limit.or(other),
        }
    }

    fn advance(&mut self, now: f64) {
        let elapsed = (now - self.at).max(0.0);
        self.at = self.at.max(now);
        self.sent = blend(self.sent, 0.0, elapsed);
        if let Some(ceiling) = &mut self.ceiling {
            self.tokens += *ceiling * elapsed;
            *ceiling *= (1.0 + RECOVERY).powf(elapsed / RECOVERY_SECONDS);
            if *ceiling > self.previous_ceiling * CATCH_UP {
                self.ceiling = None;
            }
        } else {
            self.tokens += self.live * CATCH_UP * elapsed;
        }
    }

    /// Samples sent per second without a limit.
    fn unlimited(&self, now: f64) -> f64 {
        // The average starts at 0; divided by its weight so far, the start does not count.
        let since = (now - self.started_at).max(1.0);
        let weight = 1.0 - (-since / LIVE_SECONDS).exp();
        (self.sent / weight).max(self.live).max(RATE_MIN)
    }

    fn count(&mut self, samples: u32) {
        self.sent += f64::from(samples) / LIVE_SECONDS;
    }
}

/// An exponential average with time constant [`LIVE_SECONDS`].
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
