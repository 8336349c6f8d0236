//! Addresses whose TLS handshakes failed lately: explains why a pod does not report.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;

use crate::store::Store;
use common_time::Monotonic;

/// How long a failed handshake is remembered. Sidecars try again within seconds.
const REMEMBERED_FOR: Duration = Duration::from_mins(1);

/// Addresses kept, some 50 bytes each. Further ones are ignored until others expire.
const ADDRESSES_MAX: usize = 10_000;

/// The newest failure of each address.
#[derive(Debug, Default)]
pub(super) struct FailedHandshakes {
    /// Locked for one change or one lookup.
    failed: Mutex<HashMap<IpAddr, Monotonic>>,
}

// === impl Store ===

impl Store {
    pub fn handshake_failed(&self, now: Monotonic, address: IpAddr) {
        self.handshakes.note(now, address.to_canonical());
    }

    pub fn handshake_succeeded(&self, address: IpAddr) {
        self.handshakes.forget(address.to_canonical());
    }

    /// True if the last handshake with one of `addresses` failed, less than a minute ago.
    pub fn refuses_handshakes(&self, now: Monotonic, addresses: &[IpAddr]) -> bool {
        self.handshakes.holds(now, addresses)
    }
}

// === impl FailedHandshakes ===

impl FailedHandshakes {
    fn note(&self, now: Monotonic, address: IpAddr) {
        let mut failed = self.failed.lock();
        if failed.len() >= ADDRESSES_MAX {
            failed.retain(|_, at| now.since(*at) < REMEMBERED_FOR);
        }
        if failed.len() < ADDRESSES_MAX || failed.contains_key(&address) {
            failed.insert(address, now);
        }
    }

    fn forget(&self, address: IpAddr) {
        let mut failed = self.failed.lock();
        failed.remove(&address);
    }

    fn holds(&self, now: Monotonic, addresses: &[IpAddr]) -> bool {
        let failed = self.failed.lock();
        addresses.iter().any(|address| {
            let at = failed.get(&address.to_canonical());
            at.is_some_and(|at| now.since(*at) < REMEMBERED_FOR)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    /// Remembered for a minute, or until one succeeds; an address is the same however it is
    /// written.
    #[test]
    fn a_failure_is_remembered_for_a_while() {
        let failed = FailedHandshakes::default();
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        failed.note(Monotonic(1_000), mapped.to_canonical());
        let plain: IpAddr = "10.0.0.1".parse().unwrap();
        assert!(failed.holds(Monotonic(60_999), &[address(7), plain]));
        assert!(failed.holds(Monotonic(60_999), &[mapped]));
        assert!(!failed.holds(Monotonic(61_000), &[plain]));
        failed.note(Monotonic(61_000), plain);
        failed.forget(plain);
        assert!(!failed.holds(Monotonic(61_000), &[plain]));
    }

    /// However many addresses fail, memory is bounded, and there is room again for others later.
    #[test]
    fn memory_is_bounded() {
        let failed = FailedHandshakes::default();
        for number in 0..30_000 {
            failed.note(Monotonic(0), address(number));
        }
        assert_eq!(failed.failed.lock().len(), ADDRESSES_MAX);
        assert!(!failed.holds(Monotonic(0), &[address(29_999)]));
        failed.note(Monotonic(60_000), address(29_999));
        assert!(failed.holds(Monotonic(60_000), &[address(29_999)]));
        assert_eq!(failed.failed.lock().len(), 1);
    }
}
