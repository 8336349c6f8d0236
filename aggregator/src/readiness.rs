//! Readiness of this aggregator: once the existing sidecars report again, until it shuts down.
//!
//! A replica that restarts has no values. A sum over the pods that reconnect first would be too
//! low, so it is not ready before each injected running pod has values. With thousands of sidecars
//! that takes its time, so it waits as long as ever more of them report, up to a timeout; but one
//! crashing sidecar must not block readiness, so it waits for no more than a part of that once none
//! came. This is decided once; a pod that is lost later only lacks its value.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aggregator_core::pod::PodKey;
use common_http::health::Check;
use common_time::Monotonic;
use parking_lot::Mutex;

/// Two flush intervals of a sidecar: by then each has connected and sent its totals.
const SETTLE: Duration = Duration::from_secs(2);

/// It waits no longer for the missing when none of them came for this part of the timeout, but at
/// least for [`QUIET_MIN`].
const QUIET_PART: u32 = 6;
const QUIET_MIN: Duration = Duration::from_secs(10);

/// Pods named in a message; further ones are counted.
const NAMES_MAX: usize = 10;

#[derive(Debug)]
pub(crate) struct Readiness {
    listening_since: Monotonic,
    /// How long to wait for pods that do not report.
    wait: Duration,
    draining: AtomicBool,
    settling: Mutex<Settling>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Sidecars {
    /// Without a cluster it is unknown which pods have a sidecar.
    Unknown,
    /// The pods are not listed yet.
    Unlisted,
    /// Injected running pods that do not report.
    Missing(Vec<PodKey>),
}

#[derive(Clone, Copy, Debug)]
enum Settling {
    /// The pods were not listed yet.
    Listening,
    Waiting {
        since: Monotonic,
        /// How many were missing when it was last asked, and when that number last fell.
        missing: usize,
        fewer_at: Monotonic,
    },
    Settled,
}

// === impl Readiness ===

impl Readiness {
    /// `listening_since` is when the listeners opened, `wait` the timeout for sidecars.
    pub(crate) fn new(listening_since: Monotonic, wait: Duration) -> Self {
        Self {
            listening_since,
            wait,
            draining: AtomicBool::new(false),
            settling: Mutex::new(Settling::Listening),
        }
    }

    /// Makes it not ready for good.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// The result of each check as of `now`. `sidecars` is called until the aggregator has settled.
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

    /// What readiness waits for; `None` for good once it has settled.
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
        let left = self.left(&mut settling, now, missing.len());
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
                    pods.count = missing.len(),
                    wait_s,
                    "ready, although some injected pods do not report yet"
                );
            }
        }
        unsettled
    }

    /// How much longer it waits, now that so many are `missing`.
    fn left(&self, settling: &mut Settling, now: Monotonic, missing: usize) -> Duration {
        let (since, fewer_at) = match *settling {
            Settling::Waiting {
                since,
                missing: before,
                fewer_at,
            } => (since, if missing < before { now } else { fewer_at }),
            _ => (now, now),
        };
        *settling = Settling::Waiting {
            since,
            missing,
            fewer_at,
        };
        let quiet = (self.wait / QUIET_PART).max(QUIET_MIN);
        let left = self.wait.saturating_sub(now.since(since));
        left.min(quiet.saturating_sub(now.since(fewer_at)))
    }
}

/// The first [`NAMES_MAX`] names, and the number of others.
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

    const WAIT: Duration = Duration::from_mins(1);

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
        cases.into_iter().for_each(is_ready_at);
    }

    /// With thousands of sidecars it waits as long as ever more of them report, up to the timeout.
    #[test]
    fn waits_while_more_report() {
        let cases: [(&str, SidecarsAt, u64); 4] = [
            (
                "a storm: all but one come one after another",
                |now| missing(usize::try_from(40 - now.min(39_000) / 1000).unwrap()),
                49_000,
            ),
            (
                "a storm: all come one after another",
                |now| missing(usize::try_from(40 - now.min(40_000) / 1000).unwrap()),
                40_000,
            ),
            (
                "a storm that does not end",
                |now| missing(usize::try_from(1000 - now / 1000).unwrap()),
                60_000,
            ),
            (
                "new pods come while others report",
                |now| {
                    missing(usize::try_from(10 + now / 100 % 7 * u64::from(now < 20_000)).unwrap())
                },
                30_000,
            ),
        ];
        cases.into_iter().for_each(is_ready_at);
    }

    fn is_ready_at((case, sidecars, ready): (&str, SidecarsAt, u64)) {
        let readiness = Readiness::new(Monotonic(50_000), WAIT);
        let mut moments = (0..70_000).step_by(100);
        let first = moments.find(|now| failure(&readiness, 50_000 + now, sidecars(*now)).is_none());
        assert_eq!(first, Some(ready), "{case}");
        // What is lost later is no reason to be asked nothing at all.
        assert_eq!(failure(&readiness, 125_000, missing(5)), None, "{case}");
        assert_eq!(
            failure(&readiness, 125_000, Sidecars::Unlisted),
            None,
            "{case}"
        );
    }

    /// The missing are named, and no more than ten of them.
    #[test]
    fn names_the_missing() {
        let readiness = Readiness::new(Monotonic(0), WAIT);
        let message = failure(&readiness, 0, missing(2)).unwrap();
        assert_eq!(
            message,
            "settled: injected pods do not report yet, and have 10000 ms more to: prod/jazz-0, prod/jazz-1"
        );
        let message = failure(&readiness, 500, missing(5_000)).unwrap();
        assert!(message.ends_with("prod/jazz-9 and 4990 more"), "{message}");
        assert!(message.contains("9500 ms"), "{message}");
    }

    /// Never again once draining.
    #[test]
    fn drains() {
        let readiness = Readiness::new(Monotonic(0), WAIT);
        assert_eq!(failure(&readiness, 3_000, Sidecars::Unknown), None);
        readiness.drain();
        let message = failure(&readiness, 3_000, Sidecars::Unknown);
        assert_eq!(message.as_deref(), Some("shutdown: shutting down"));
    }
}
