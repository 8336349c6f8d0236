//! When this aggregator may be asked: once the sidecars that there are report again, and not while
//! it shuts down.
//!
//! A replica that restarts knows nothing. An answer with the pods that were quick to come back
//! would be an answer about too few pods, so it is not ready before each injected pod that runs has
//! values, or until that took too long: one whose sidecar crashes must not keep everyone waiting.
//! That is decided once; a pod that is lost later is a matter of answers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aggregator_core::pod::PodKey;
use common_http::health::Check;
use common_time::Monotonic;
use parking_lot::Mutex;

/// Two flush intervals of a sidecar: by then each has connected and sent all its totals.
const SETTLE: Duration = Duration::from_secs(2);

/// Pods that are named; the others are counted.
const NAMES_MAX: usize = 10;

#[derive(Debug)]
pub(crate) struct Readiness {
    listening_since: Monotonic,
    /// How long pods that do not report are waited for.
    wait: Duration,
    draining: AtomicBool,
    /// Guards how far it is.
    settling: Mutex<Settling>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Sidecars {
    /// Nobody tells which pods have one.
    Unknown,
    /// It is not known yet which pods have one.
    Unlisted,
    /// Of the pods that have one, these do not report.
    Missing(Vec<PodKey>),
}

#[derive(Clone, Copy, Debug)]
enum Settling {
    /// It was not known yet who has a sidecar.
    Listening,
    Waiting {
        since: Monotonic,
    },
    Settled,
}

// === impl Readiness ===

impl Readiness {
    /// For an aggregator whose listeners opened at `listening_since`, and that waits for sidecars
    /// for `wait`.
    pub(crate) fn new(listening_since: Monotonic, wait: Duration) -> Self {
        Self {
            listening_since,
            wait,
            draining: AtomicBool::new(false),
            settling: Mutex::new(Settling::Listening),
        }
    }

    /// Not ready from now on.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// How each check goes as of `now`. `sidecars` is asked as long as the answer matters.
    pub(crate) fn checks(&self, now: Monotonic, sidecars: impl FnOnce() -> Sidecars) -> Vec<Check> {
        let draining = self
            .draining
            .load(Ordering::Relaxed)
            .then(|| "shutting down".to_owned());
        vec![
            Check {
                name: "settled",
                failure: self.unsettled(now, sidecars),
            },
            Check {
                name: "shutdown",
                failure: draining,
            },
        ]
    }

    /// What is waited for; `None` from the first time on that it is nothing.
    fn unsettled(&self, now: Monotonic, sidecars: impl FnOnce() -> Sidecars) -> Option<String> {
        let mut settling = self.settling.lock();
        if matches!(*settling, Settling::Settled) {
            return None;
        }
        let left = SETTLE.saturating_sub(now.since(self.listening_since));
        let connecting = (!left.is_zero()).then(|| {
            let left = left.as_millis();
            format!("sidecars have {left} ms more to connect and report")
        });
        let missing = match sidecars() {
            Sidecars::Unknown => Vec::new(),
            Sidecars::Unlisted => {
                return Some("the pods of the cluster are not listed yet".to_owned());
            }
            Sidecars::Missing(missing) => missing,
        };
        let since = match *settling {
            Settling::Waiting { since } => since,
            _ => now,
        };
        *settling = Settling::Waiting { since };
        let left = self.wait.saturating_sub(now.since(since));
        let waiting = (!missing.is_empty() && !left.is_zero()).then(|| {
            let (left, missing) = (left.as_millis(), named(&missing));
            format!("injected pods do not report yet, and have {left} ms more to: {missing}")
        });
        let unsettled = waiting.or(connecting);
        if unsettled.is_none() {
            *settling = Settling::Settled;
            if !missing.is_empty() {
                let (pods, wait_s) = (named(&missing), self.wait.as_secs());
                tracing::warn!(
                    pods,
                    wait_s,
                    "ready, although some injected pods do not report yet"
                );
            }
        }
        unsettled
    }
}

/// The first of them by name.
fn named(pods: &[PodKey]) -> String {
    let names: Vec<_> = pods
        .iter()
        .take(NAMES_MAX)
        .map(ToString::to_string)
        .collect();
    let names = names.join(", ");
    match pods.len().saturating_sub(NAMES_MAX) {
        0 => names,
        more => format!("{names} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(10);

    fn missing(pods: usize) -> Sidecars {
        let names = (0..pods).map(|pod| PodKey::new("prod", &format!("jazz-{pod}")));
        Sidecars::Missing(names.collect())
    }

    fn failure(readiness: &Readiness, now: u64, sidecars: Sidecars) -> Option<String> {
        let checks = readiness.checks(Monotonic(now), || sidecars);
        let mut failing = checks
            .into_iter()
            .filter_map(|check| Some((check.name, check.failure?)));
        let first = failing.next();
        first.map(|(name, failure)| format!("{name}: {failure}"))
    }

    /// What is known of sidecars so many milliseconds after listening.
    type SidecarsAt = fn(u64) -> Sidecars;

    /// When it is ready first, by what is known of sidecars at each moment.
    #[test]
    fn waits_for_sidecars() {
        let cases: [(&str, SidecarsAt, u64); 8] = [
            ("nobody tells", |_| Sidecars::Unknown, 2_000),
            ("none is injected", |_| missing(0), 2_000),
            (
                "all are back soon",
                |now| missing(usize::from(now < 1_000)),
                2_000,
            ),
            (
                "one is late",
                |now| missing(usize::from(now < 7_300)),
                7_300,
            ),
            ("one never comes", |_| missing(1), 10_000),
            (
                "one leaves while it is waited for",
                |now| missing(usize::from(now < 3_000)),
                3_000,
            ),
            (
                "lists are late, pods are there",
                |now| {
                    if now < 20_000 {
                        Sidecars::Unlisted
                    } else {
                        missing(0)
                    }
                },
                20_000,
            ),
            (
                "lists are late, and one never comes",
                |now| {
                    if now < 20_000 {
                        Sidecars::Unlisted
                    } else {
                        missing(3)
                    }
                },
                30_000,
            ),
        ];
        for (case, sidecars, ready) in cases {
            let readiness = Readiness::new(Monotonic(50_000), WAIT);
            let mut moments = (0..40_000).step_by(100);
            let first =
                moments.find(|now| failure(&readiness, 50_000 + now, sidecars(*now)).is_none());
            assert_eq!(first, Some(ready), "{case}");
            // What is lost later is no reason to be asked nothing at all.
            assert_eq!(failure(&readiness, 95_000, missing(5)), None, "{case}");
            assert_eq!(
                failure(&readiness, 95_000, Sidecars::Unlisted),
                None,
                "{case}"
            );
        }
    }

    /// The missing are named, and no more than ten of them.
    #[test]
    fn names_the_missing() {
        let readiness = Readiness::new(Monotonic(0), WAIT);
        let told = failure(&readiness, 0, missing(2)).unwrap();
        assert_eq!(
            told,
            "settled: injected pods do not report yet, and have 10000 ms more to: prod/jazz-0, prod/jazz-1"
        );
        let told = failure(&readiness, 500, missing(5_000)).unwrap();
        assert!(told.ends_with("prod/jazz-9 and 4990 more"), "{told}");
        assert!(told.contains("9500 ms"), "{told}");
    }

    /// Never again once draining.
    #[test]
    fn drains() {
        let readiness = Readiness::new(Monotonic(0), WAIT);
        assert_eq!(failure(&readiness, 3_000, Sidecars::Unknown), None);
        readiness.drain();
        let told = failure(&readiness, 3_000, Sidecars::Unknown);
        assert_eq!(told.as_deref(), Some("shutdown: shutting down"));
    }
}
