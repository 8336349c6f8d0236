//! Addresses whose connections or streams were refused lately: explains why a pod does not report.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;

use crate::query::NoValue;
use crate::store::Store;
use common_time::Monotonic;

/// How long a refusal is remembered. Sidecars try again within seconds.
const REMEMBERED_FOR: Duration = Duration::from_mins(1);

/// Addresses kept, some 50 bytes each. Further ones are ignored until others expire.
const ADDRESSES_MAX: usize = 10_000;

/// The newest refusal of each address.
#[derive(Debug, Default)]
pub(super) struct RefusedPeers {
    /// Locked for one change or one lookup.
    refused: Mutex<HashMap<IpAddr, (Monotonic, NoValue)>>,
}

// === impl Store ===

impl Store {
    pub fn handshake_failed(&self, now: Monotonic, address: IpAddr) {
        self.stream_refused(now, address, NoValue::TlsRefused);
    }

    /// Whether its stream is accepted too is not known yet.
    pub fn handshake_succeeded(&self, address: IpAddr) {
        let is_tls = |why| why == NoValue::TlsRefused;
        self.refused_peers.forget(address.to_canonical(), is_tls);
    }

    /// `why` is what a pod with this address has instead of a value.
    pub fn stream_refused(&self, now: Monotonic, address: IpAddr, why: NoValue) {
        self.refused_peers.note(now, address.to_canonical(), why);
    }

    pub fn stream_accepted(&self, address: IpAddr) {
        self.refused_peers.forget(address.to_canonical(), |_| true);
    }

    /// Why the last attempt from one of `addresses` was refused, less than a minute ago.
    pub fn refusal_of(&self, now: Monotonic, addresses: &[IpAddr]) -> Option<NoValue> {
        self.refused_peers.find(now, addresses)
    }
}

// === impl RefusedPeers ===

impl RefusedPeers {
    fn note(&self, now: Monotonic, address: IpAddr, why: NoValue) {
        let mut refused = self.refused.lock();
        if refused.len() >= ADDRESSES_MAX {
            refused.retain(|_, (at, _)| now.since(*at) < REMEMBERED_FOR);
        }
        if refused.len() < ADDRESSES_MAX || refused.contains_key(&address) {
            refused.insert(address, (now, why));
        }
    }

    fn forget(&self, address: IpAddr, which: impl Fn(NoValue) -> bool) {
        let mut refused = self.refused.lock();
        if refused.get(&address).is_some_and(|(_, why)| which(*why)) {
            refused.remove(&address);
        }
    }

    fn find(&self, now: Monotonic, addresses: &[IpAddr]) -> Option<NoValue> {
        let refused = self.refused.lock();
        let found = addresses
            .iter()
            .filter_map(|address| refused.get(&address.to_canonical()));
        let recent = found.filter(|(at, _)| now.since(*at) < REMEMBERED_FOR);
        recent.max_by_key(|(at, _)| *at).map(|(_, why)| *why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TLS: NoValue = NoValue::TlsRefused;
    const TOKEN: NoValue = NoValue::Unauthenticated;

    fn address(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    /// Remembered for a minute, or until one succeeds; an address is the same however it is
    /// written.
    #[test]
    fn a_refusal_is_remembered_for_a_while() {
        let refused = RefusedPeers::default();
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        refused.note(Monotonic(1_000), mapped.to_canonical(), TLS);
        let plain: IpAddr = "10.0.0.1".parse().unwrap();
        let at = |now, addresses: &[IpAddr]| refused.find(Monotonic(now), addresses);
        assert_eq!(at(60_999, &[address(7), plain]), Some(TLS));
        assert_eq!(at(60_999, &[mapped]), Some(TLS));
        assert_eq!(at(61_000, &[plain]), None);
        refused.note(Monotonic(61_000), plain, TLS);
        refused.note(Monotonic(61_001), address(7), TOKEN);
        assert_eq!(at(61_001, &[address(7), plain]), Some(TOKEN), "the newest");
        refused.forget(address(7), |why| why == TLS);
        refused.forget(plain, |why| why == TLS);
        assert_eq!(at(61_001, &[plain]), None);
        assert_eq!(at(61_001, &[address(7)]), Some(TOKEN));
    }

    /// However many addresses fail, memory is bounded, and there is room again for others later.
    #[test]
    fn memory_is_bounded() {
        let refused = RefusedPeers::default();
        for number in 0..30_000 {
            refused.note(Monotonic(0), address(number), TLS);
        }
        assert_eq!(refused.refused.lock().len(), ADDRESSES_MAX);
        assert_eq!(refused.find(Monotonic(0), &[address(29_999)]), None);
        refused.note(Monotonic(60_000), address(29_999), TLS);
        assert_eq!(
            refused.find(Monotonic(60_000), &[address(29_999)]),
            Some(TLS)
        );
        assert_eq!(refused.refused.lock().len(), 1);
    }
}
