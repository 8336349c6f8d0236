//! Memory for messages in flight, limited in total and per peer. When it is used up, messages of
//! the peers that hold the most are cut.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::sleep_until;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::size::Size;
use shares::{AskError, Id, Shares};

mod clock;
mod shares;

/// Bytes of a unit: reservations are rounded up to whole units.
const UNIT: u64 = 1024;

/// How often a waiter checks whether it is next, and which messages can be cut.
const CHECK_EVERY: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub struct Room {
    total: Size,
    per_peer: Size,
    /// Locked for one pass over the messages in flight at most.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    shares: Shares,
    /// The signals of waiters and holders.
    signals: HashMap<Id, Signal>,
}

#[derive(Debug)]
struct Signal {
    /// `None` once the grant was sent.
    granted: Option<oneshot::Sender<()>>,
    /// Cancelled when the message is cut.
    cut: CancellationToken,
}

/// Reserved memory; released when dropped.
#[derive(Debug)]
pub struct Reservation {
    room: Arc<Room>,
    id: Id,
    cut: CancellationToken,
}

/// The sender of a message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sender {
    /// All senders without an address count as one.
    pub address: Option<IpAddr>,
    /// Whether the limit per peer applies.
    pub is_limited: bool,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Full {
    /// All peers' messages use it up, and the queue of waiters is full.
    #[error("messages in flight use up all {0}")]
    Total(Size),
    /// The messages of this peer use up the limit per peer.
    #[error("messages of this peer in flight use up its {0}")]
    Peer(Size),
    /// It was in flight for long, and its peer held more than a waiting peer.
    #[error("messages in flight use up all {0}, and this one made room for a peer that holds less")]
    Cut(Size),
}

// === impl Room ===

impl Room {
    /// `total` memory, of which one peer may reserve `per_peer`.
    pub fn new(total: Size, per_peer: Size) -> Self {
        let shares = Shares::new(total.get() / UNIT, per_peer.get() / UNIT);
        Self {
            total,
            per_peer,
            state: Mutex::new(State {
                shares,
                signals: HashMap::new(),
            }),
        }
    }

    /// Reserves memory for a message of `bytes`; waits if all is in use. Cancel safe.
    pub async fn take(
        self: Arc<Self>,
        sender: impl Into<Sender>,
        bytes: usize,
    ) -> Result<Reservation, Full> {
        let units = (bytes as u64).div_ceil(UNIT);
        if units > self.total.get() / UNIT {
            return Err(Full::Total(self.total));
        }
        let (reservation, mut granted) = self.ask(sender.into(), units)?;
        loop {
            let next_check = reservation.make_room();
            tokio::select! {
                biased;
                grant = &mut granted => {
                    // A lighter waiter displaced this one, which dropped the sender.
                    return grant.map(|()| reservation).map_err(|_| Full::Total(self.total));
                }
                () = sleep_until(next_check) => {}
            }
        }
    }

    pub fn taken(&self) -> Size {
        let free = self.state.lock().shares.free() * UNIT;
        Size::bytes(self.total.get().saturating_sub(free))
    }

    /// Adds a waiter; dropping the returned reservation removes it.
    fn ask(
        self: &Arc<Self>,
        sender: Sender,
        units: u64,
    ) -> Result<(Reservation, oneshot::Receiver<()>), Full> {
        let mut state = self.state.lock();
        let asked = state.shares.ask(sender, units);
        let (id, displaced) = asked.map_err(|refused| match refused {
            AskError::Total => Full::Total(self.total),
            AskError::Peer => Full::Peer(self.per_peer),
        })?;
        if let Some(displaced) = displaced {
            state.signals.remove(&displaced);
        }
        let (sender, granted) = oneshot::channel();
        let cut = CancellationToken::new();
        let signal = Signal {
            granted: Some(sender),
            cut: cut.clone(),
        };
        state.signals.insert(id, signal);
        state.settle();
        let room = Arc::clone(self);
        Ok((Reservation { room, id, cut }, granted))
    }
}

// === impl Sender ===

impl From<Option<IpAddr>> for Sender {
    /// Limited where it has an address.
    fn from(address: Option<IpAddr>) -> Self {
        Self {
            address,
            is_limited: address.is_some(),
        }
    }
}

// === impl State ===

impl State {
    /// Signals the waiters that fit now.
    fn settle(&mut self) {
        for id in self.shares.settle(clock::now()) {
            let signal = self.signals.get_mut(&id);
            if let Some(granted) = signal.and_then(|signal| signal.granted.take()) {
                // A cancelled waiter drops its reservation, which releases the units.
                let _ = granted.send(());
            }
        }
    }
}

// === impl Reservation ===

impl Reservation {
    /// Resolves when this incomplete message is cut in favour of another peer's.
    pub fn cut(&self) -> WaitForCancellationFutureOwned {
        self.cut.clone().cancelled_owned()
    }

    /// Marks the message as complete: it can no longer be cut.
    pub fn whole(&self) {
        self.room.state.lock().shares.whole(self.id);
    }

    /// The error of a message that was cut.
    pub fn as_cut(&self) -> Full {
        Full::Cut(self.room.total)
    }

    /// While it waits: cuts other messages if necessary. Returns when to check again.
    fn make_room(&self) -> tokio::time::Instant {
        let mut state = self.room.state.lock();
        let now = clock::now();
        let cut = state.shares.cut(self.id, now);
        for id in cut.ids {
            if let Some(signal) = state.signals.get(&id) {
                signal.cut.cancel();
            }
        }
        cut.next_check.unwrap_or(now + CHECK_EVERY)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut state = self.room.state.lock();
        state.signals.remove(&self.id);
        state.shares.release(self.id);
        state.settle();
    }
}

#[cfg(test)]
mod tests;
