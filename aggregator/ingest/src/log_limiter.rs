//! Limits the log lines of refused streams, per reason.

use std::collections::HashMap;
use std::time::Duration;

use common_time::Monotonic;
use parking_lot::Mutex;

/// Lines of one reason per [`PERIOD`]; further ones are only counted, in the next line.
const LINES_MAX: u32 = 10;
const PERIOD: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(crate) struct LogLimiter(
    /// By reason, one of a fixed set. Locked for one lookup.
    Mutex<HashMap<&'static str, LogWindow>>,
);

#[derive(Debug)]
struct LogWindow {
    since: Monotonic,
    lines: u32,
    left_out: u64,
}

// === impl LogLimiter ===

impl LogLimiter {
    /// `None` if a line of this reason must not be written now; else the number left out before it.
    pub(crate) fn next(&self, reason: &'static str, now: Monotonic) -> Option<u64> {
        let mut reasons = self.0.lock();
        let written = reasons.entry(reason).or_insert(LogWindow {
            since: now,
            lines: 0,
            left_out: 0,
        });
        if now.since(written.since) >= PERIOD {
            (written.since, written.lines) = (now, 0);
        }
        if written.lines >= LINES_MAX {
            written.left_out += 1;
            return None;
        }
        written.lines += 1;
        Some(std::mem::take(&mut written.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_and_say_what_was_left_out() {
        let lines = LogLimiter::default();
        let at = |seconds: u64| Monotonic(1_000_000 + 1000 * seconds);
        let written = (0..1000).filter(|_| lines.next("streams", at(0)).is_some());
        assert_eq!(written.count(), 10);
        assert_eq!(lines.next("silent", at(0)), Some(0));
        assert_eq!(lines.next("streams", at(9)), None);
        assert_eq!(lines.next("streams", at(10)), Some(991));
        assert_eq!(lines.next("streams", at(10)), Some(0));
    }
}
