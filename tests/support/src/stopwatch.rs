//! Times of a program without delays of the machine.
//!
//! Tests share their machine with their own attackers and with other builds, so the time on the
//! wall says little: with ten hungry processes on two processors an answer takes five times as
//! long. The kernel counts for each thread how long it could have run and had no processor
//! (`schedstat`). That time, of the program's worst thread and of the thread that asks, is the
//! machine's; what is left is the program's: its work, and its waiting for something else than a
//! processor, such as a place among connections.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::clock;

/// Of so many one may be late: what the machine's own machine takes away nobody counts.
const ONE_OF: usize = 20;

/// Times of one program, told apart from those of the machine.
#[derive(Clone, Debug)]
pub struct Times {
    pid: u32,
    /// Limit of each time.
    within: Duration,
    own: Vec<Duration>,
    slowest: Duration,
}

/// A time that is being taken.
#[derive(Debug)]
pub struct Lap {
    begun: Instant,
    waited: HashMap<String, Duration>,
    asker_waited: Duration,
}

#[derive(Clone, Copy, Debug)]
pub struct Summary {
    pub count: usize,
    /// By the program's own doing.
    pub median: Duration,
    pub worst: Duration,
    /// On the wall.
    pub slowest: Duration,
}

// === impl Times ===

impl Times {
    /// Of the program `pid`, which may take `within`.
    pub fn new(pid: u32, within: Duration) -> Self {
        Self {
            pid,
            within,
            own: Vec::new(),
            slowest: Duration::ZERO,
        }
    }

    pub fn begin(&self) -> Lap {
        Lap {
            waited: waited(self.pid),
            asker_waited: waited_of("/proc/thread-self/schedstat"),
            begun: clock::now(),
        }
    }

    pub fn end(&mut self, lap: &Lap) {
        let whole = lap.begun.elapsed();
        let before = |thread: &String| lap.waited.get(thread).copied().unwrap_or_default();
        let waited = waited(self.pid)
            .into_iter()
            .map(|(thread, waited)| waited.saturating_sub(before(&thread)))
            .max();
        let asker = waited_of("/proc/thread-self/schedstat").saturating_sub(lap.asker_waited);
        let own = whole.saturating_sub(waited.unwrap_or_default() + asker);
        self.own.push(own);
        self.slowest = self.slowest.max(whole);
    }

    /// Fails if the program was late more often than by chance.
    pub fn judge(mut self, what: &str) -> Result<Summary> {
        self.own.sort_unstable();
        let count = self.own.len();
        ensure!(count > 0, "{what}: nothing was asked");
        let summary = Summary {
            count,
            median: self.own[count / 2],
            worst: self.own[count - 1],
            slowest: self.slowest,
        };
        let late = self.own.iter().filter(|own| **own > self.within).count();
        ensure!(
            late <= 1 + count / ONE_OF,
            "{what}: {late} of {count} took the program longer than {:?}: {summary:?}",
            self.within
        );
        Ok(summary)
    }
}

/// By thread, how long it was kept waiting for a processor so far.
fn waited(pid: u32) -> HashMap<String, Duration> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    let threads = threads.into_iter().flatten().flatten();
    threads
        .map(|thread| {
            let name = thread.file_name().to_string_lossy().into_owned();
            let waited = waited_of(&format!("/proc/{pid}/task/{name}/schedstat"));
            (name, waited)
        })
        .collect()
}

/// The second number of a `schedstat`, in nanoseconds; none where the kernel does not count it.
fn waited_of(file: &str) -> Duration {
    let text = fs::read_to_string(file).unwrap_or_default();
    let waited = text.split_whitespace().nth(1);
    let waited = waited.and_then(|waited| waited.parse().ok());
    Duration::from_nanos(waited.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(late: usize, of: usize) -> bool {
        let mut times = Times::new(std::process::id(), Duration::from_secs(1));
        times.own = vec![Duration::from_millis(2); of - late];
        times.own.extend(vec![Duration::from_secs(3); late]);
        times.judge("test").is_ok()
    }

    #[test]
    fn a_few_may_be_late() {
        let none = Times::new(std::process::id(), Duration::from_secs(1));
        assert!(none.judge("test").is_err());
        for (late, of, holds) in [
            (0, 1, true),
            (1, 10, true),
            (2, 10, false),
            (6, 100, true),
            (7, 100, false),
        ] {
            assert_eq!(judged(late, of), holds, "{late} of {of}");
        }
    }

    /// Waiting for something else than a processor is the program's own.
    #[tokio::test]
    async fn a_wait_counts() {
        let mut times = Times::new(std::process::id(), Duration::from_millis(1));
        for _ in 0..2 {
            let lap = times.begin();
            tokio::time::sleep(Duration::from_millis(300)).await;
            times.end(&lap);
        }
        assert!(times.judge("test").is_err());
    }
}
