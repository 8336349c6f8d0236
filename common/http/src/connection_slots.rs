//! Who has a place, who gets one, and who makes room for whom. Holds no clock and no socket.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::activity::{Activity, Spare};
use crate::settings::{Deadlines, Limits};

/// Connections that lost their place and are not closed yet, at once. While there are more nobody
/// is let in: else whoever connects quickly would have more descriptors than there are places.
const CLOSING_MAX: usize = 4;

/// A connection younger than this is not closed for want of descriptors: its request may be on its
/// way.
const NEWCOMER: Duration = Duration::from_millis(250);

/// The places of a listener.
#[derive(Debug)]
pub(crate) struct ConnectionSlots {
    limits: Limits,
    deadlines: Deadlines,
    /// Guards who holds a place; held for a look at each of them at most.
    holders: Mutex<Holders>,
    /// Told of each connection that is closing no longer.
    closed: Notify,
}

#[derive(Debug, Default)]
struct Holders {
    next: u64,
    /// In the order in which they came.
    all: BTreeMap<u64, Holder>,
    /// Those that lost their place and still have a descriptor.
    closing: HashSet<u64>,
    trusted: usize,
    /// Those of an address that are not trusted.
    crowds: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Holder {
    address: Option<IpAddr>,
    trusted: bool,
    activity: Arc<Activity>,
    evicted: CancellationToken,
}

/// A place among the connections, as long as it is held.
#[derive(Debug)]
pub(crate) struct ConnectionSlot {
    id: u64,
    places: Arc<ConnectionSlots>,
    pub(crate) activity: Arc<Activity>,
    /// Cancelled when the place is another's: this connection has to end.
    pub(crate) evicted: CancellationToken,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Full {
    All,
    /// The address has all that it may have.
    Address,
}

// === impl ConnectionSlots ===

impl ConnectionSlots {
    pub(crate) fn new(limits: Limits, deadlines: Deadlines) -> Arc<Self> {
        Arc::new(Self {
            limits,
            deadlines,
            holders: Mutex::default(),
            closed: Notify::new(),
        })
    }

    /// A place for a connection of `address` (`None`: of a local socket), if need be that of
    /// another.
    pub(crate) fn take(
        self: &Arc<Self>,
        address: Option<IpAddr>,
        now: Instant,
    ) -> Result<ConnectionSlot, Full> {
        let mut holders = self.holders.lock();
        let strangers = holders.all.len() - holders.trusted;
        let crowd = address.map_or(0, |address| holders.crowd(address));
        let full = if crowd >= self.limits.per_address {
            Some(Full::Address)
        } else if strangers >= self.limits.connections {
            Some(Full::All)
        } else {
            None
        };
        let within = address.filter(|_| full == Some(Full::Address));
        let evicted = full.is_some() && holders.evict_stranger(within, now, Duration::ZERO);
        let mut deadlines = self.deadlines;
        if let Some(full) = full.filter(|_| !evicted) {
            if strangers >= self.limits.connections + self.limits.reserve {
                return Err(full);
            }
            deadlines = deadlines.hurried();
        }
        let activity = Arc::new(Activity::new(deadlines, now));
        let (id, token) = holders.add(address, &activity);
        drop(holders);
        Ok(ConnectionSlot {
            id,
            places: Arc::clone(self),
            activity,
            evicted: token,
        })
    }

    /// Closes the connection that can best be spared, for want of descriptors. False if there is
    /// none, or if others are about to leave theirs.
    pub(crate) fn evict_one(&self, now: Instant) -> bool {
        let mut holders = self.holders.lock();
        holders.closing.is_empty() && holders.evict_stranger(None, now, NEWCOMER)
    }

    /// Waits until most of those that made room are closed.
    pub(crate) async fn cleared(&self) {
        while !self.is_clear() {
            self.closed.notified().await;
        }
    }

    fn is_clear(&self) -> bool {
        self.holders.lock().closing.len() < CLOSING_MAX
    }

    fn close(&self, id: u64) {
        let mut holders = self.holders.lock();
        holders.remove(id);
        if holders.closing.remove(&id) {
            self.closed.notify_one();
        }
    }
}

// === impl Holders ===

impl Holders {
    fn crowd(&self, address: IpAddr) -> usize {
        self.crowds.get(&address).copied().unwrap_or(0)
    }

    fn add(
        &mut self,
        address: Option<IpAddr>,
        activity: &Arc<Activity>,
    ) -> (u64, CancellationToken) {
        let id = self.next;
        self.next += 1;
        if let Some(address) = address {
            *self.crowds.entry(address).or_default() += 1;
        }
        let evicted = CancellationToken::new();
        let holder = Holder {
            address,
            trusted: false,
            activity: Arc::clone(activity),
            evicted: evicted.clone(),
        };
        self.all.insert(id, holder);
        (id, evicted)
    }

    /// Of those that could have been spared for so long, one of the address that holds the most; of
    /// these the one that has been spare for the longest.
    fn evict_stranger(
        &mut self,
        within: Option<IpAddr>,
        now: Instant,
        spare_for: Duration,
    ) -> bool {
        let strangers = self.all.iter().filter(|(_, holder)| !holder.trusted);
        let those = strangers.filter(|(_, holder)| within.is_none() || holder.address == within);
        let spare = those.filter_map(|(id, holder)| {
            let crowd = holder.address.map_or(0, |address| self.crowd(address));
            let spare = holder.activity.spare(now)?;
            let (Spare::Idle(since) | Spare::Stalled(since)) = spare;
            (now.saturating_duration_since(since) >= spare_for).then_some((spare, crowd, *id))
        });
        let best = spare.min_by_key(|(spare, crowd, id)| {
            let stalled = matches!(spare, Spare::Stalled(_));
            (stalled, std::cmp::Reverse(*crowd), *spare, *id)
        });
        best.is_some_and(|(_, _, id)| self.evict(id))
    }

    /// The one that trusted peers can best do without.
    fn evict_trusted(&mut self, now: Instant) -> bool {
        let trusted = self.all.iter().filter(|(_, holder)| holder.trusted);
        let spare = trusted.filter_map(|(id, holder)| Some((holder.activity.spare(now)?, *id)));
        spare.min().is_some_and(|(_, id)| self.evict(id))
    }

    fn evict(&mut self, id: u64) -> bool {
        let holder = self.remove(id);
        if let Some(holder) = &holder {
            self.closing.insert(id);
            holder.evicted.cancel();
        }
        holder.is_some()
    }

    fn remove(&mut self, id: u64) -> Option<Holder> {
        let holder = self.all.remove(&id)?;
        if holder.trusted {
            self.trusted -= 1;
        } else {
            self.leave_crowd(holder.address);
        }
        Some(holder)
    }

    fn leave_crowd(&mut self, address: Option<IpAddr>) {
        let Some(address) = address else { return };
        if let Some(crowd) = self.crowds.get_mut(&address) {
            *crowd -= 1;
            if *crowd == 0 {
                self.crowds.remove(&address);
            }
        }
    }
}

// === impl ConnectionSlot ===

impl ConnectionSlot {
    /// Its peer showed a certificate that is trusted: it leaves its place to others, for one of
    /// those that are kept for such peers. Where they are all in use it stays as it is.
    pub(crate) fn trust(&self, now: Instant) {
        let mut holders = self.places.holders.lock();
        let limit = self.places.limits.trusted;
        if limit == 0 || (holders.trusted >= limit && !holders.evict_trusted(now)) {
            return;
        }
        let Some(holder) = holders.all.get_mut(&self.id) else {
            return;
        };
        holder.trusted = true;
        let address = holder.address;
        holders.trusted += 1;
        holders.leave_crowd(address);
    }

    /// Its connection ends in order, which takes a while: nobody waits for that.
    pub(crate) fn linger(&self) {
        self.places.close(self.id);
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.places.close(self.id);
    }
}

#[cfg(test)]
mod tests;
