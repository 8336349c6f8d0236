//! Which stream may begin now, which waits, and which comes back later. Has no clock and no socket.
//!
//! A stream is inside from the moment it may begin until its first report is in the store. Beyond
//! [`LineLimits::at_once`] streams wait in the order in which they came. Beyond
//! [`LineLimits::waiting`], or when one waited for [`WAIT_MAX`], it is sent away with a time to
//! come back. Those times follow one another at the pace at which streams were taken in lately, so
//! that who comes back finds room; chance spreads them.
//!
//! A stream that is inside for [`INSIDE_MAX`] loses its place to others: one that says nothing must
//! not keep them out. Where the address is the identity, one address has a part of all places.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use common_time::Monotonic;

#[cfg(test)]
mod tests;

/// How long a stream may wait in the line: together with the way to its first acknowledgement less
/// than the filter waits for that (5 s).
pub const WAIT_MAX: Duration = Duration::from_secs(2);

/// A stream that is inside for longer makes room.
pub const INSIDE_MAX: Duration = Duration::from_secs(1);

/// The soonest that a stream is asked to come back.
pub const RETRY_MIN: Duration = Duration::from_millis(500);

/// The latest that a stream is asked to come back: filters heed no more, since twice as long must
/// be less than the value of a pod is held.
pub const RETRY_MAX: Duration = Duration::from_secs(4);

/// Streams a second that are reckoned with before any was taken in.
const PACE_MIN: u64 = 100;

/// Part of the places that one address may have.
const ADDRESS_PART: usize = 4;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LineLimits {
    pub at_once: usize,
    pub waiting: usize,
}

/// A stream's number in the line.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Ticket(u64);

/// What becomes of a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    Enter(Ticket),
    Wait(Ticket),
    /// It may come back after this time.
    ComeBack(Duration),
}

#[derive(Debug)]
pub struct Line {
    limits: LineLimits,
    last: u64,
    inside: BTreeMap<Ticket, Place>,
    waiting: BTreeMap<Ticket, Place>,
    by_address: HashMap<IpAddr, usize>,
    pace: Pace,
    /// When the last stream that was sent away is to come back, in microseconds of our clock.
    booked_us: u64,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    address: Option<IpAddr>,
    since: Monotonic,
}

/// Streams taken in, by second.
#[derive(Debug, Default)]
struct Pace {
    since: Monotonic,
    current: u64,
    previous: u64,
}

// === impl Line ===

impl Line {
    pub fn new(limits: LineLimits) -> Self {
        Self {
            limits,
            last: 0,
            inside: BTreeMap::new(),
            waiting: BTreeMap::new(),
            by_address: HashMap::new(),
            pace: Pace::default(),
            booked_us: 0,
        }
    }

    /// A stream begins. With an `address`, it counts against its part; `random` spreads those that
    /// come back.
    pub fn arrive(&mut self, now: Monotonic, address: Option<IpAddr>, random: u64) -> Answer {
        let mine = address.map_or(0, |ip| self.by_address.get(&ip).copied().unwrap_or(0));
        if mine >= self.per_address() {
            return Answer::ComeBack(self.book(now, random));
        }
        let has_room = self.waiting.is_empty() && self.make_room(now);
        if !has_room && self.waiting.len() >= self.limits.waiting {
            return Answer::ComeBack(self.book(now, random));
        }
        self.last += 1;
        let ticket = Ticket(self.last);
        if let Some(address) = address {
            *self.by_address.entry(address).or_default() += 1;
        }
        let place = Place {
            address,
            since: now,
        };
        if has_room {
            self.inside.insert(ticket, place);
            self.pace.count(now);
            return Answer::Enter(ticket);
        }
        self.waiting.insert(ticket, place);
        Answer::Wait(ticket)
    }

    /// What becomes of a stream that waits.
    pub fn ask(&mut self, now: Monotonic, ticket: Ticket, random: u64) -> Answer {
        let Some(place) = self.waiting.get(&ticket).copied() else {
            return Answer::Enter(ticket);
        };
        let is_next = self.waiting.keys().next() == Some(&ticket);
        if is_next && self.make_room(now) {
            self.waiting.remove(&ticket);
            self.inside.insert(
                ticket,
                Place {
                    since: now,
                    ..place
                },
            );
            self.pace.count(now);
            return Answer::Enter(ticket);
        }
        if now.since(place.since) >= WAIT_MAX {
            self.leave(ticket);
            return Answer::ComeBack(self.book(now, random));
        }
        Answer::Wait(ticket)
    }

    /// A stream's first report is in the store, or it is over, wherever it was.
    pub fn leave(&mut self, ticket: Ticket) {
        let place = self.inside.remove(&ticket);
        if let Some(place) = place.or_else(|| self.waiting.remove(&ticket)) {
            self.forget(place);
        }
    }

    /// Streams that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Streams that are inside.
    pub fn inside(&self) -> usize {
        self.inside.len()
    }

    fn per_address(&self) -> usize {
        ((self.limits.at_once + self.limits.waiting) / ADDRESS_PART).max(1)
    }

    /// Whether one more may be inside, also in place of one that was there for too long.
    fn make_room(&mut self, now: Monotonic) -> bool {
        if self.inside.len() < self.limits.at_once.max(1) {
            return true;
        }
        let Some((oldest, place)) = self.inside.first_key_value() else {
            return true;
        };
        if now.since(place.since) < INSIDE_MAX {
            return false;
        }
        let (oldest, place) = (*oldest, *place);
        self.inside.remove(&oldest);
        self.forget(place);
        true
    }

    fn forget(&mut self, place: Place) {
        if let Some(address) = place.address
            && let Some(places) = self.by_address.get_mut(&address)
        {
            *places -= 1;
            if *places == 0 {
                self.by_address.remove(&address);
            }
        }
    }

    /// When the next stream that is sent away may come back: after those before it, up to a quarter
    /// sooner by chance.
    fn book(&mut self, now: Monotonic, random: u64) -> Duration {
        let now_us = now.0 * 1000;
        let latest = now_us + micros(RETRY_MAX);
        let next = self.booked_us + 1_000_000 / self.pace.of(now);
        self.booked_us = next.max(now_us + micros(RETRY_MIN)).min(latest);
        let after = self.booked_us - now_us;
        // Where more come back than are taken in within the longest time, the last ones share it.
        let spread = if self.booked_us == latest {
            after / 2
        } else {
            after / 4
        };
        let sooner = Duration::from_micros(random % (spread + 1));
        let after = Duration::from_micros(after).saturating_sub(sooner);
        after.max(RETRY_MIN)
    }
}

// === impl Pace ===

impl Pace {
    fn count(&mut self, now: Monotonic) {
        self.turn(now);
        self.current += 1;
    }

    /// Streams a second lately.
    fn of(&mut self, now: Monotonic) -> u64 {
        self.turn(now);
        self.current.max(self.previous).max(PACE_MIN)
    }

    fn turn(&mut self, now: Monotonic) {
        let span = now.since(self.since);
        if span >= Duration::from_secs(1) {
            let is_next = span < Duration::from_secs(2);
            self.previous = if is_next { self.current } else { 0 };
            self.current = 0;
            self.since = now;
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
