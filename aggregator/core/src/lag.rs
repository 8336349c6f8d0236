//! How far this replica is behind: how long what a sidecar sent may have waited for us.
//!
//! A short task asks to run every [`TICK`], and waits for the same processors as frames do: what
//! was there before it asked is done before it runs. So a frame that is read now came after the
//! last run was due. How late the task was is remembered for one to two [`KEPT`], too, since
//! several processors do not keep the order. Nothing is known before the first tick, and a wait
//! below [`NOTICED`] is none.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common_time::Monotonic;

use crate::sidecar_clock::LATE_MAX;

/// How often [`Lag::tick`] is to be called.
pub const TICK: Duration = Duration::from_millis(50);

/// For how long a wait is remembered at least; at most twice as long.
pub const KEPT: Duration = Duration::from_secs(1);

/// A shorter wait is what any busy machine has, and changes no value that people can tell.
pub const NOTICED: Duration = Duration::from_millis(250);

/// In milliseconds. Written by one task, read by all.
#[derive(Debug, Default)]
pub struct Lag {
    /// When the next tick is due; 0 before the first.
    due: AtomicU64,
    /// When the last tick was due.
    ran: AtomicU64,
    /// When the current span began.
    since: AtomicU64,
    /// The longest wait of the current and of the previous span.
    current: AtomicU64,
    previous: AtomicU64,
}

// === impl Lag ===

impl Lag {
    /// Notes that the task ran; returns how late it was.
    pub fn tick(&self, now: Monotonic) -> Duration {
        let due = self.due.load(Ordering::Relaxed);
        let late = if due == 0 {
            Duration::ZERO
        } else {
            now.since(Monotonic(due))
        };
        let span = now.since(Monotonic(self.since.load(Ordering::Relaxed)));
        if span >= KEPT {
            let ended = self.current.swap(0, Ordering::Relaxed);
            let kept = if span < 2 * KEPT { ended } else { 0 };
            self.previous.store(kept, Ordering::Relaxed);
            self.since.store(now.0, Ordering::Relaxed);
        }
        self.current.fetch_max(millis(late), Ordering::Relaxed);
        self.ran.store(now.before(late).0, Ordering::Relaxed);
        self.due.store((now + TICK).0, Ordering::Relaxed);
        late
    }

    /// How long a frame that is read now may have waited, within bounds.
    pub fn at(&self, now: Monotonic) -> Duration {
        self.with(now, Duration::ZERO)
    }

    /// The same for a frame of a stream that waited for `own` to be let in.
    pub(crate) fn with(&self, now: Monotonic, own: Duration) -> Duration {
        // One after the other, as the stream waits for its turn and then for the processor.
        let longest = own + self.longest(now);
        if longest < NOTICED {
            Duration::ZERO
        } else {
            longest.min(LATE_MAX)
        }
    }

    fn longest(&self, now: Monotonic) -> Duration {
        let ran = self.ran.load(Ordering::Relaxed);
        if ran == 0 {
            return Duration::ZERO;
        }
        let waits = now.since(Monotonic(ran));
        let current = self.current.load(Ordering::Relaxed);
        let noted = current.max(self.previous.load(Ordering::Relaxed));
        waits.max(Duration::from_millis(noted))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: Monotonic = Monotonic(1_000_000);

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Ticks that are on time for so many milliseconds; returns when the last one was.
    fn calm(lag: &Lag, from: Monotonic, length: u64) -> Monotonic {
        for at in (0..=length).step_by(50) {
            assert!(lag.tick(from + ms(at)) <= ms(0) || at == 0);
        }
        from + ms(length / 50 * 50)
    }

    /// Without a tick, and with ticks on time, nothing waits.
    #[test]
    fn calm_is_no_lag() {
        let lag = Lag::default();
        assert_eq!(lag.at(BEGIN), Duration::ZERO);
        let last = calm(&lag, BEGIN, 10_000);
        assert_eq!(lag.at(last + ms(60)), Duration::ZERO);
        assert_eq!(lag.at(last + ms(249)), Duration::ZERO);
    }

    /// While the task waits, frames do: also those that are read before it runs again. It is
    /// remembered for one to two seconds.
    #[test]
    fn a_wait_is_told_at_once_and_for_a_while() {
        let lag = Lag::default();
        let last = calm(&lag, BEGIN, 5000);
        let woken = last + ms(3050);
        // A frame may have come right after the last run, and one read after it before this one was
        // due.
        assert_eq!(lag.at(woken), ms(3050));
        assert_eq!(lag.tick(woken), ms(3000));
        assert_eq!(lag.at(woken + ms(10)), ms(3010));
        let mut now = woken;
        let mut forgotten = None;
        while forgotten.is_none() {
            now = now + ms(50);
            assert_eq!(lag.tick(now), Duration::ZERO);
            if lag.at(now) == Duration::ZERO {
                forgotten = Some(now.since(woken));
            }
        }
        let forgotten = forgotten.unwrap();
        assert!(
            forgotten >= KEPT && forgotten <= 2 * KEPT + TICK,
            "{forgotten:?}"
        );
    }

    /// However long a process stood still, no more is told than any value lives.
    #[test]
    fn a_long_sleep_is_bounded() {
        let lag = Lag::default();
        let last = calm(&lag, BEGIN, 1000);
        assert_eq!(lag.at(last + ms(7_200_000)), LATE_MAX);
        lag.tick(last + ms(7_200_000));
        assert_eq!(lag.at(last + ms(7_200_010)), LATE_MAX);
    }
}
