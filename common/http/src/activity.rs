//! The state of a connection and its deadlines. Reads no clock, except in `overdue`: the methods
//! take `now`.

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::clock;
use crate::settings::{Deadlines, STALLED_AFTER};

/// What an HTTP/2 peer sends at once: the preface and the head of a SETTINGS frame (RFC 9113,
/// section 3.4).
const PREFACE_BYTES: u64 = 24 + 9;

#[derive(Debug)]
pub(crate) struct Activity {
    deadlines: Deadlines,
    /// Locked for a few instructions only.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Since when no request is in flight.
    quiet_since: Instant,
    /// When the first byte of an incomplete head arrived.
    head_since: Option<Instant>,
    /// Since when a write has been blocked; reset by each byte that the peer takes.
    blocked_since: Option<Instant>,
    /// Since when the peer has not taken all pending bytes; reset only by a complete flush.
    behind_since: Option<Instant>,
    exchanges: Vec<Exchange>,
    begun: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Handshake,
    Http1,
    /// With the number of bytes read so far.
    Http2(u64),
}

/// One request and its response.
#[derive(Debug)]
struct Exchange {
    id: u64,
    answered: Option<Instant>,
    /// Since when it waits for the peer; `None` while it waits for us.
    waits: Option<Instant>,
}

/// Why a connection is cut.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Overdue {
    Handshake,
    /// No complete request head in time.
    Head,
    /// No request in time.
    Idle,
    Blocked,
    /// A response was not taken in time.
    Answer,
}

/// Why, and since when, a connection may be evicted; in order of preference.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Spare {
    /// No request is in flight.
    Idle(Instant),
    /// The peer keeps us waiting.
    Stalled(Instant),
}

// === impl Activity ===

impl Activity {
    /// Of a connection accepted at `now`.
    pub(crate) fn new(deadlines: Deadlines, now: Instant) -> Self {
        Self {
            deadlines,
            state: Mutex::new(State {
                phase: Phase::Handshake,
                quiet_since: now,
                head_since: None,
                blocked_since: None,
                behind_since: None,
                exchanges: Vec::new(),
                begun: 0,
            }),
        }
    }

    /// The handshake is complete, or none is needed.
    pub(crate) fn opened(&self, is_http2: bool, now: Instant) {
        let mut state = self.state.lock();
        state.phase = if is_http2 {
            Phase::Http2(0)
        } else {
            Phase::Http1
        };
        state.quiet_since = now;
    }

    pub(crate) fn read(&self, bytes: usize, now: Instant) {
        let mut state = self.state.lock();
        match state.phase {
            Phase::Http2(seen) => state.phase = Phase::Http2(seen.saturating_add(bytes as u64)),
            Phase::Http1 if state.exchanges.is_empty() => {
                state.head_since.get_or_insert(now);
            }
            Phase::Http1 | Phase::Handshake => {}
        }
    }

    /// The peer took some bytes.
    pub(crate) fn wrote(&self) {
        self.state.lock().blocked_since = None;
    }

    /// The peer took all pending bytes.
    pub(crate) fn flushed(&self) {
        let mut state = self.state.lock();
        state.blocked_since = None;
        state.behind_since = None;
    }

    pub(crate) fn blocked(&self, now: Instant) {
        let mut state = self.state.lock();
        state.blocked_since.get_or_insert(now);
        state.behind_since.get_or_insert(now);
    }

    /// A request's head is complete. Returns the request's id.
    pub(crate) fn begin(&self) -> u64 {
        let mut state = self.state.lock();
        state.head_since = None;
        state.begun += 1;
        let id = state.begun;
        state.exchanges.push(Exchange {
            id,
            answered: None,
            waits: None,
        });
        id
    }

    pub(crate) fn answered(&self, id: u64, now: Instant) {
        self.change(id, |exchange| exchange.answered = Some(now));
    }

    /// The request waits for the peer: for bytes of its body, or for it to take the response.
    pub(crate) fn waits(&self, id: u64, now: Instant) {
        self.change(id, |exchange| exchange.waits = Some(now));
    }

    pub(crate) fn works(&self, id: u64) {
        self.change(id, |exchange| exchange.waits = None);
    }

    pub(crate) fn end(&self, id: u64, now: Instant) {
        let mut state = self.state.lock();
        state.exchanges.retain(|exchange| exchange.id != id);
        if state.exchanges.is_empty() {
            state.quiet_since = now;
        }
    }

    fn change(&self, id: u64, change: impl FnOnce(&mut Exchange)) {
        let mut state = self.state.lock();
        let found = state.exchanges.iter_mut().find(|found| found.id == id);
        if let Some(exchange) = found {
            change(exchange);
        }
    }

    /// Whether only a write, an answer or a next request can be late from now on: HTTP/2 reads
    /// heads in frames, so only the first request's has a deadline.
    fn is_settled(&self) -> bool {
        let state = self.state.lock();
        matches!(state.phase, Phase::Http2(seen) if seen >= PREFACE_BYTES) && state.begun > 0
    }

    pub(crate) fn begun(&self) -> u64 {
        self.state.lock().begun
    }

    /// Why it may be evicted in favour of another connection; `None` if it may not.
    pub(crate) fn spare(&self, now: Instant) -> Option<Spare> {
        let state = self.state.lock();
        if state.exchanges.is_empty() {
            return Some(Spare::Idle(state.quiet_since));
        }
        let blocked = state.blocked_since;
        let waits = state.exchanges.iter().map(|exchange| exchange.waits);
        // A request that waits for us protects the connection; of several that wait for the peer
        // the latest counts.
        let waits = waits.collect::<Option<Vec<Instant>>>();
        let waits = waits.and_then(|waits| waits.into_iter().max());
        let since = blocked.into_iter().chain(waits).min()?;
        (now.saturating_duration_since(since) >= STALLED_AFTER).then_some(Spare::Stalled(since))
    }

    /// The next deadline, and the reason for which the connection is then overdue.
    pub(crate) fn deadline(&self) -> Option<(Instant, Overdue)> {
        let state = self.state.lock();
        let allowed = &self.deadlines;
        let blocked = state.blocked_since.map(|at| at + allowed.write);
        let behind = state.behind_since.zip(allowed.answer);
        let responses = state.exchanges.iter().filter_map(|exchange| {
            let answered = exchange.answered?;
            let whole = allowed.answer.map(|answer| answered + answer);
            let next = exchange.waits.map(|waits| waits + allowed.write);
            whole.into_iter().chain(next).min()
        });
        let due = [
            blocked.map(|at| (at, Overdue::Blocked)),
            behind.map(|(at, answer)| (at + answer, Overdue::Blocked)),
            responses.min().map(|at| (at, Overdue::Answer)),
            state.quiet(allowed),
        ];
        due.into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Waits until it is overdue.
    pub(crate) async fn overdue(&self) -> Overdue {
        loop {
            let now = clock::now();
            let shortest = self.deadlines.shortest(self.is_settled());
            // A deadline that begins during the sleep ends at least `shortest` later, so it is
            // never missed, and no event has to wake this task.
            let next_check = now + shortest;
            let wake = match self.deadline() {
                Some((at, reason)) if at <= now => return reason,
                Some((at, _)) => at.min(next_check),
                None => next_check,
            };
            tokio::time::sleep_until(wake).await;
        }
    }
}

// === impl State ===

impl State {
    /// The deadline for the next request, if none is in flight.
    fn quiet(&self, allowed: &Deadlines) -> Option<(Instant, Overdue)> {
        if !self.exchanges.is_empty() {
            return None;
        }
        let since = self.quiet_since;
        Some(match (self.phase, self.head_since) {
            (Phase::Handshake, _) => (since + allowed.handshake, Overdue::Handshake),
            (Phase::Http2(seen), _) if seen < PREFACE_BYTES => {
                (since + allowed.head, Overdue::Head)
            }
            (_, Some(head)) => (head + allowed.head, Overdue::Head),
            _ if self.begun == 0 => (since + allowed.first_request, Overdue::Idle),
            _ => (since + allowed.idle, Overdue::Idle),
        })
    }
}

#[cfg(test)]
mod tests;
