//! Decides which waiter gets memory next, and which messages are cut for it. Reads no clock: the
//! methods take `now`.
//!
//! A waiter's weight is what its peer would hold with it; the lightest is next. A message that has
//! been in flight for [`GRACE`] is cut for a waiter whose weight is at most what its own peer
//! holds, so that peers that send half messages cannot lock out others, however many they are.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::Sender;

/// A younger message is not cut: its bytes may be on their way.
pub(super) const GRACE: Duration = Duration::from_millis(500);

/// Waiters at most. A waiting message buffers at most one flow-control window.
pub(super) const WAITING_MAX: usize = 64;

/// Number of a waiter or holder, ascending in the order of requests.
pub(super) type Id = u64;
/// All peers without an address count as one.
type Peer = Option<IpAddr>;

#[derive(Debug)]
pub(super) struct Shares {
    free: u64,
    /// Units of messages that are cut and not released yet.
    leaving: u64,
    per_peer: u64,
    next: Id,
    holders: BTreeMap<Id, Holder>,
    waiting: BTreeMap<Id, Waiter>,
    peers: HashMap<Peer, Claim>,
}

#[derive(Debug)]
struct Holder {
    peer: Peer,
    units: u64,
    since: Instant,
    state: State,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    UnderWay,
    Whole,
    /// Cut, not released yet.
    Leaving,
}

#[derive(Debug)]
struct Waiter {
    peer: Peer,
    units: u64,
}

/// Units of one peer.
#[derive(Debug, Default)]
struct Claim {
    /// Held by messages that are not cut.
    held: u64,
    /// Held or waited for.
    all: u64,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum AskError {
    Total,
    Peer,
}

/// Messages to cut for a waiter, and when to check again.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Cut {
    pub(super) ids: Vec<Id>,
    pub(super) next_check: Option<Instant>,
}

// === impl Shares ===

impl Shares {
    pub(super) fn new(total: u64, per_peer: u64) -> Self {
        Self {
            free: total,
            leaving: 0,
            per_peer,
            next: 0,
            holders: BTreeMap::new(),
            waiting: BTreeMap::new(),
            peers: HashMap::new(),
        }
    }

    pub(super) fn free(&self) -> u64 {
        self.free
    }

    /// Adds a waiter; returns its id and that of the waiter it displaced from a full queue.
    pub(super) fn ask(&mut self, sender: Sender, units: u64) -> Result<(Id, Option<Id>), AskError> {
        let Sender {
            address,
            is_limited,
        } = sender;
        let claim = self.peers.get(&address);
        let (held, all) = claim.map_or((0, 0), |claim| (claim.held, claim.all));
        if is_limited && all + units > self.per_peer {
            return Err(AskError::Peer);
        }
        let mut displaced = None;
        if self.waiting.len() >= WAITING_MAX && units > self.free {
            let weight = held + units;
            let heaviest = self.waiting.keys().copied();
            let heaviest = heaviest.max_by_key(|id| (self.weight(*id), *id));
            let heaviest = heaviest.filter(|id| self.weight(*id) > Some(weight));
            displaced = Some(heaviest.ok_or(AskError::Total)?);
        }
        if let Some(id) = displaced {
            self.release(id);
        }
        let id = self.next;
        self.next += 1;
        let waiter = Waiter {
            peer: address,
            units,
        };
        self.waiting.insert(id, waiter);
        self.peers.entry(address).or_default().all += units;
        Ok((id, displaced))
    }

    /// The units that the waiter's peer would hold with it.
    fn weight(&self, id: Id) -> Option<u64> {
        let waiter = self.waiting.get(&id)?;
        let claim = self.peers.get(&waiter.peer);
        Some(claim.map_or(0, |claim| claim.held) + waiter.units)
    }

    /// The next waiter; among equal weights, the one whose peer holds and waits for the least.
    fn lightest(&self) -> Option<Id> {
        let all = |waiter: &Waiter| self.peers.get(&waiter.peer).map_or(0, |claim| claim.all);
        let waiting = self.waiting.iter();
        let next = waiting.min_by_key(|(id, waiter)| (self.weight(**id), all(waiter), **id));
        next.map(|(id, _)| *id)
    }

    /// Grants units to waiters as long as the lightest fits; returns their ids.
    pub(super) fn settle(&mut self, now: Instant) -> Vec<Id> {
        let mut granted = Vec::new();
        while let Some(id) = self.lightest() {
            let Some(waiter) = self.waiting.get(&id) else {
                break;
            };
            // A smaller waiter behind it must not overtake it, else it might wait forever.
            if waiter.units > self.free {
                break;
            }
            let Waiter { peer, units } = *waiter;
            self.waiting.remove(&id);
            self.free -= units;
            self.peers.entry(peer).or_default().held += units;
            let holder = Holder {
                peer,
                units,
                since: now,
                state: State::UnderWay,
            };
            self.holders.insert(id, holder);
            granted.push(id);
        }
        granted
    }

    /// Cuts messages until the waiter fits: each time the oldest of the peer that holds the most.
    /// Cuts none for a waiter that is not next.
    pub(super) fn cut(&mut self, id: Id, now: Instant) -> Cut {
        let mut cut = Cut::default();
        if self.lightest() != Some(id) {
            return cut;
        }
        let (Some(waiter), Some(weight)) = (self.waiting.get(&id), self.weight(id)) else {
            return cut;
        };
        let (peer, units) = (waiter.peer, waiter.units);
        while self.free + self.leaving < units {
            match self.next_to_go(peer, weight, now) {
                Some((id, None)) => {
                    self.leave(id);
                    cut.ids.push(id);
                }
                Some((_, next_check)) => {
                    cut.next_check = next_check;
                    break;
                }
                None => break,
            }
        }
        cut
    }

    /// The message to cut: now, or at the returned time if it is still in flight then.
    fn next_to_go(&self, peer: Peer, weight: u64, now: Instant) -> Option<(Id, Option<Instant>)> {
        let held = |peer: &Peer| self.peers.get(peer).map_or(0, |claim| claim.held);
        let under_way = self
            .holders
            .iter()
            .filter(|(_, holder)| holder.state == State::UnderWay && holder.peer != peer)
            .filter(|(_, holder)| held(&holder.peer) >= weight);
        let candidates = under_way.map(|(id, holder)| {
            let at = holder.since + GRACE;
            ((at > now).then_some(at), Reverse(held(&holder.peer)), *id)
        });
        candidates.min().map(|(at, _, id)| (id, at))
    }

    fn leave(&mut self, id: Id) {
        let Some(holder) = self.holders.get_mut(&id) else {
            return;
        };
        holder.state = State::Leaving;
        self.leaving += holder.units;
        // Counted as gone at once: its peer is judged by what it keeps.
        if let Some(claim) = self.peers.get_mut(&holder.peer) {
            claim.held -= holder.units;
        }
    }

    /// Marks a message as complete: it can no longer be cut.
    pub(super) fn whole(&mut self, id: Id) {
        if let Some(holder) = self.holders.get_mut(&id)
            && holder.state == State::UnderWay
        {
            holder.state = State::Whole;
        }
    }

    /// Removes a holder or waiter.
    pub(super) fn release(&mut self, id: Id) {
        let (peer, units, held) = if let Some(holder) = self.holders.remove(&id) {
            self.free += holder.units;
            let leaving = holder.state == State::Leaving;
            if leaving {
                self.leaving -= holder.units;
            }
            let held = if leaving { 0 } else { holder.units };
            (holder.peer, holder.units, held)
        } else if let Some(waiter) = self.waiting.remove(&id) {
            (waiter.peer, waiter.units, 0)
        } else {
            return;
        };
        let Some(claim) = self.peers.get_mut(&peer) else {
            return;
        };
        claim.all -= units;
        claim.held -= held;
        if claim.all == 0 {
            self.peers.remove(&peer);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.peers.is_empty() && self.holders.is_empty() && self.waiting.is_empty()
    }
}
