//! The deadline of a stream's next frame.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// How long a stream has been silent. A frame only notes the time; the timer is set anew when it
/// fires, so a stream that reports costs the timer wheel nothing.
pub(crate) struct Silence {
    timer: Pin<Box<Sleep>>,
    deadline: Instant,
}

// === impl Silence ===

impl Silence {
    /// The first frame has to come `within` this time.
    pub(crate) fn new(within: Duration) -> Self {
        let timer = Box::pin(sleep(within));
        let deadline = timer.deadline();
        Self { timer, deadline }
    }

    /// A frame came; the next has to come `within` this time, which is never less than before.
    pub(crate) fn heard(&mut self, within: Duration) {
        self.deadline = now() + within;
    }

    /// Waits until no frame came in time. Cancel safe.
    pub(crate) async fn over(&mut self) {
        loop {
            self.timer.as_mut().await;
            if self.deadline <= now() {
                return;
            }
            self.timer.as_mut().reset(self.deadline);
        }
    }
}

/// The runtime's clock, which tests can pause.
#[expect(
    clippy::disallowed_methods,
    reason = "a deadline of this process, on the clock of its timer"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    const HELLO: Duration = Duration::from_secs(10);
    const REPORT: Duration = Duration::from_mins(5);

    /// Over exactly when nothing came in time, however often it was asked for meanwhile.
    #[tokio::test(start_paused = true)]
    async fn is_over_when_nothing_came_in_time() {
        let begun = now();
        let mut silence = Silence::new(HELLO);
        silence.over().await;
        assert_eq!(begun.elapsed().as_secs(), 10);

        let mut silence = Silence::new(HELLO);
        let mut last = now();
        for seconds in [9, 0, 299, 1, 298, 120] {
            // Asked for and given up for a frame, as the session does.
            let waited = timeout(Duration::from_secs(seconds), silence.over()).await;
            assert!(waited.is_err(), "{seconds}");
            silence.heard(REPORT);
            last = now();
            advance(Duration::from_millis(1)).await;
        }
        silence.over().await;
        assert_eq!(last.elapsed().as_secs(), REPORT.as_secs());
    }
}
