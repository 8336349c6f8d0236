//! Room for the bytes of messages under way: so many in total, and so many of one peer. Where there
//! is none, messages of peers that hold the most make room.

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

/// What is counted at once: a message takes whole units.
const UNIT: u64 = 1024;

/// How often a waiter looks whether it is next, and who could go.
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub struct Room {
    total: Size,
    per_peer: Size,
    /// Reservation for a look at each message under way at most.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    shares: Shares,
    /// How those that wait or hold hear of it.
    signals: HashMap<Id, Signal>,
}

#[derive(Debug)]
struct Signal {
    /// `None` once it is told.
    granted: Option<oneshot::Sender<()>>,
    /// Cancelled when it has to go.
    cut: CancellationToken,
}

/// Room that is taken; free again when dropped.
#[derive(Debug)]
pub struct Reservation {
    room: Arc<Room>,
    id: Id,
    cut: CancellationToken,
}

/// Whose message it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sender {
    /// Those without one are one.
    pub address: Option<IpAddr>,
    /// It may have its part of the room and no more.
    pub is_limited: bool,
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
    /// It was under way for long, and its peer held more than one that waited.
    #[error("messages in flight use up all {0}, and this one made room for a peer that holds less")]
    Cut(Size),
}

// === impl Room ===

impl Room {
    /// Room for `total`, of which one peer may have `per_peer`.
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

    /// Takes room for a message of `bytes`, and waits for it if there is none. May be given up.
    pub async fn take(
        self: Arc<Self>,
        sender: impl Into<Sender>,
        bytes: usize,
    ) -> Result<Reservation, Full> {
        let units = (bytes as u64).div_ceil(UNIT);
        if units > self.total.get() / UNIT {
            return Err(Full::Total(self.total));
        }
        let (held, mut granted) = self.ask(sender.into(), units)?;
        loop {
            let again = held.make_room();
            tokio::select! {
                biased;
                told = &mut granted => {
                    // Who waits no longer is not told.
                    return told.map(|()| held).map_err(|_| Full::Total(self.total));
                }
                () = sleep_until(again) => {}
            }
        }
    }

    pub fn taken(&self) -> Size {
        let free = self.state.lock().shares.free() * UNIT;
        Size::bytes(self.total.get().saturating_sub(free))
    }

    /// Waits from now on; what is returned takes it back when dropped.
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
    /// Tells those that have their room now.
    fn settle(&mut self) {
        for id in self.shares.settle(clock::now()) {
            let signal = self.signals.get_mut(&id);
            if let Some(granted) = signal.and_then(|signal| signal.granted.take()) {
                // Who has given up gives it back.
                let _ = granted.send(());
            }
        }
    }
}

// === impl Reservation ===

impl Reservation {
    /// Waits until this message, which is still under way, has to make room for another one's.
    pub fn cut(&self) -> WaitForCancellationFutureOwned {
        self.cut.clone().cancelled_owned()
    }

    /// All bytes of the message are there: it makes no room any more.
    pub fn whole(&self) {
        self.room.state.lock().shares.whole(self.id);
    }

    /// How it is refused if it was told to make room.
    pub fn as_cut(&self) -> Full {
        Full::Cut(self.room.total)
    }

    /// While it waits: tells others to go if there is no other way. Returns when to look again.
    fn make_room(&self) -> tokio::time::Instant {
        let mut state = self.room.state.lock();
        let now = clock::now();
        let cut = state.shares.cut(self.id, now);
        for id in cut.ids {
            if let Some(signal) = state.signals.get(&id) {
                signal.cut.cancel();
            }
        }
        cut.again.unwrap_or(now + LOOK_EVERY)
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
