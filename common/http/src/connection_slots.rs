//! Which connections have a slot, and which is evicted for a new one. Has no clock and no socket.

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

/// Evicted connections that are not closed yet. With more, none is accepted: else a peer that
/// connects quickly would hold more descriptors than there are slots.
const CLOSING_MAX: usize = 4;

/// A connection that has been idle for less is not closed for want of descriptors: its request may
/// be on its way.
const NEWCOMER: Duration = Duration::from_millis(250);

/// The connection slots of a listener.
#[derive(Debug)]
pub(crate) struct ConnectionSlots {
    limits: Limits,
    deadlines: Deadlines,
    /// Locked for one pass over the holders at most.
    holders: Mutex<Holders>,
    /// Notified when an evicted connection is closed.
    closed: Notify,
}

#[derive(Debug, Default)]
struct Holders {
    next: u64,
    /// By id, in order of acceptance.
    all: BTreeMap<u64, Holder>,
    /// Ids of evicted connections that still have a descriptor.
    closing: HashSet<u64>,
    trusted: usize,
    /// Number of untrusted connections by address.
    by_address: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Holder {
    address: Option<IpAddr>,
    trusted: bool,
    activity: Arc<Activity>,
    evicted: CancellationToken,
}

/// A slot of a listener, freed when dropped.
#[derive(Debug)]
pub(crate) struct ConnectionSlot {
    id: u64,
    slots: Arc<ConnectionSlots>,
    pub(crate) activity: Arc<Activity>,
    /// Cancelled when the connection is evicted: it has to end.
    pub(crate) evicted: CancellationToken,
}

/// Why there is no slot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Full {
    All,
    /// The address is at its limit.
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

    /// Takes a slot for a connection of `address` (`None`: of a Unix socket); evicts another
    /// connection if necessary.
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
        // All are in use: a slot of the reserve, with short deadlines, so that a probe gets in.
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
            slots: Arc::clone(self),
            activity,
            evicted: token,
        })
    }

    /// Evicts a connection for want of descriptors. False if none can be spared, or if an evicted
    /// one is still about to release its descriptor.
    pub(crate) fn evict_one(&self, now: Instant) -> bool {
        let mut holders = self.holders.lock();
        holders.closing.is_empty() && holders.evict_stranger(None, now, NEWCOMER)
    }

    /// Waits until fewer than [`CLOSING_MAX`] evicted connections are still open.
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
        self.by_address.get(&address).copied().unwrap_or(0)
    }

    fn add(
        &mut self,
        address: Option<IpAddr>,
        activity: &Arc<Activity>,
    ) -> (u64, CancellationToken) {
        let id = self.next;
        self.next += 1;
        if let Some(address) = address {
            *self.by_address.entry(address).or_default() += 1;
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

    /// Evicts an untrusted connection (of `within`, if given) that could have been spared for
    /// `spare_for`: idle before stalled, then of the address with the most, then the longest spare.
    fn evict_stranger(
        &mut self,
        within: Option<IpAddr>,
        now: Instant,
        spare_for: Duration,
    ) -> bool {
        let strangers = self.all.iter().filter(|(_, holder)| !holder.trusted);
        let candidates =
            strangers.filter(|(_, holder)| within.is_none() || holder.address == within);
        let spare = candidates.filter_map(|(id, holder)| {
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

    /// Evicts the trusted connection that is best spared.
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
        if let Some(crowd) = self.by_address.get_mut(&address) {
            *crowd -= 1;
            if *crowd == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

// === impl ConnectionSlot ===

impl ConnectionSlot {
    /// Moves it to a slot reserved for trusted peers, after its peer showed a trusted certificate.
    /// If all of these are in use and none can be evicted, it stays where it is.
    pub(crate) fn trust(&self, now: Instant) {
        let mut holders = self.slots.holders.lock();
        let limit = self.slots.limits.trusted;
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

    /// Frees the slot while its connection still ends gracefully, so that no other waits for it.
    pub(crate) fn linger(&self) {
        self.slots.close(self.id);
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.slots.close(self.id);
    }
}

#[cfg(test)]
mod tests;
