//! When this aggregator may be asked: after every sidecar had time to find it, and not while it shuts down.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aggregator_api::health::Check;
use aggregator_core::time::Monotonic;

/// Two flush intervals of a sidecar: by then each has connected and sent all its totals.
const SETTLE: Duration = Duration::from_secs(2);

/// What readiness depends on.
#[derive(Debug)]
pub(crate) struct Readiness {
    listening_since: Monotonic,
    draining: AtomicBool,
}

impl Readiness {
    /// For an aggregator whose listeners opened at `listening_since`.
    pub(crate) fn new(listening_since: Monotonic) -> Self {
        Self {
            listening_since,
            draining: AtomicBool::new(false),
        }
    }

    /// Not ready from now on.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// How each check goes as of `now`.
    pub(crate) fn checks(&self, now: Monotonic) -> Vec<Check> {
        let left = SETTLE.saturating_sub(now.since(self.listening_since));
        let settling = (!left.is_zero()).then(|| {
            format!(
                "sidecars have {} ms more to connect and report",
                left.as_millis()
            )
        });
        let draining = self
            .draining
            .load(Ordering::Relaxed)
            .then(|| "shutting down".to_owned());
        vec![
            Check {
                name: "settled",
                failure: settling,
            },
            Check {
                name: "shutdown",
                failure: draining,
            },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(readiness: &Readiness, now: u64) -> Vec<&'static str> {
        let checks = readiness.checks(Monotonic(now));
        checks
            .into_iter()
            .filter(|check| check.failure.is_some())
            .map(|check| check.name)
            .collect()
    }

    /// Ready exactly two seconds after listening, and never again once draining.
    #[test]
    fn waits_for_sidecars() {
        let readiness = Readiness::new(Monotonic(10_000));
        assert_eq!(failing(&readiness, 10_000), ["settled"]);
        assert_eq!(failing(&readiness, 11_999), ["settled"]);
        assert!(failing(&readiness, 12_000).is_empty());
        readiness.drain();
        assert_eq!(failing(&readiness, 12_000), ["shutdown"]);
    }
}
