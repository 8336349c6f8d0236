//! Room for the bytes of messages under way: so many in total, and so many of one peer.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::size::Size;

/// What is counted at once: a message takes whole units.
const UNIT: u64 = 1024;

/// Messages that may wait for room. Each holds no more than a flow-control window meanwhile.
const WAITING_MAX: usize = 64;

#[derive(Debug)]
pub struct Room {
    units: Arc<Semaphore>,
    total: Size,
    waiting: Semaphore,
    per_peer: Size,
    /// Units held by each peer that holds some. Held for one look or change.
    peers: Mutex<HashMap<IpAddr, u64>>,
}

/// Room that is taken; free again when dropped.
#[derive(Debug)]
pub struct Reservation {
    _units: OwnedSemaphorePermit,
    _peer: Option<HeldByPeer>,
}

#[derive(Debug)]
struct HeldByPeer {
    room: Arc<Room>,
    peer: IpAddr,
    units: u64,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Full {
    /// Everybody's messages fill it, and enough wait already.
    #[error("messages in flight use up all {0}")]
    Total(Size),
    /// The messages of this peer fill what one peer may have.
    #[error("messages of this peer in flight use up its {0}")]
    Peer(Size),
}

// === impl Room ===

impl Room {
    /// Room for `total`, of which one peer may have `per_peer`.
    pub fn new(total: Size, per_peer: Size) -> Self {
        let units = usize::try_from(total.get() / UNIT).unwrap_or(usize::MAX);
        Self {
            units: Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))),
            total,
            waiting: Semaphore::new(WAITING_MAX),
            per_peer,
            peers: Mutex::default(),
        }
    }

    /// Takes room for a message of `bytes`, and waits for it if there is none. Without a `peer`
    /// only the total counts. May be given up.
    pub async fn take(
        self: Arc<Self>,
        peer: Option<IpAddr>,
        bytes: usize,
    ) -> Result<Reservation, Full> {
        let units = (bytes as u64).div_ceil(UNIT);
        let by_peer = peer
            .map(|peer| self.take_of_peer(peer, units))
            .transpose()?;
        let full = Full::Total(self.total);
        let wanted = u32::try_from(units).map_err(|_| full)?;
        if units > self.total.get() / UNIT {
            return Err(full);
        }
        let free = Arc::clone(&self.units).try_acquire_many_owned(wanted);
        let units = if let Ok(units) = free {
            units
        } else {
            let _waits = self.waiting.try_acquire().map_err(|_| full)?;
            let taken = Arc::clone(&self.units).acquire_many_owned(wanted).await;
            taken.map_err(|_| full)?
        };
        Ok(Reservation {
            _units: units,
            _peer: by_peer,
        })
    }

    pub fn taken(&self) -> Size {
        let free = self.units.available_permits() as u64 * UNIT;
        Size::bytes(self.total.get().saturating_sub(free))
    }

    fn take_of_peer(self: &Arc<Self>, peer: IpAddr, units: u64) -> Result<HeldByPeer, Full> {
        let mut peers = self.peers.lock();
        let held = peers.get(&peer).copied().unwrap_or(0) + units;
        if held > self.per_peer.get() / UNIT {
            return Err(Full::Peer(self.per_peer));
        }
        peers.insert(peer, held);
        Ok(HeldByPeer {
            room: Arc::clone(self),
            peer,
            units,
        })
    }
}

impl Drop for HeldByPeer {
    fn drop(&mut self) {
        let mut peers = self.room.peers.lock();
        let Some(held) = peers.get_mut(&self.peer) else {
            return;
        };
        *held = held.saturating_sub(self.units);
        if *held == 0 {
            peers.remove(&self.peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const KIB: usize = 1024;

    #[tokio::test]
    async fn a_peer_has_its_part_and_all_have_the_total() {
        let room = Arc::new(Room::new(Size::kib(100), Size::kib(60)));
        let [one, other] = ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse().ok());
        let take = |peer, bytes| Arc::clone(&room).take(peer, bytes);
        let first = take(one, 60 * KIB).await.unwrap();
        assert_eq!(take(one, 1).await.unwrap_err(), Full::Peer(Size::kib(60)));
        let second = take(other, 40 * KIB).await.unwrap();
        assert_eq!(room.taken(), Size::kib(100));
        // It waits, and has room as soon as there is some.
        let waits = tokio::spawn(take(None, 10 * KIB));
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        drop(second);
        waits.await.unwrap().unwrap();
        drop(first);
        assert_eq!(room.taken(), Size::default());
        assert!(room.peers.lock().is_empty());
        assert_eq!(
            take(None, 101 * KIB).await.unwrap_err(),
            Full::Total(Size::kib(100))
        );
    }

    #[tokio::test]
    async fn only_so_many_wait() {
        let room = Arc::new(Room::new(Size::kib(1), Size::kib(1)));
        let held = Arc::clone(&room).take(None, 1).await.unwrap();
        let mut waiting = Vec::new();
        for _ in 0..WAITING_MAX {
            let mut waits = Box::pin(Arc::clone(&room).take(None, 1));
            assert!(timeout(Duration::ZERO, &mut waits).await.is_err());
            waiting.push(waits);
        }
        assert!(Arc::clone(&room).take(None, 1).await.is_err());
        drop(held);
        for waits in waiting {
            drop(waits.await.unwrap());
        }
    }
}
