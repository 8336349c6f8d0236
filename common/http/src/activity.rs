//! What a connection is doing, and until when it may. Holds no clock: every method takes `now`.

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
    /// Guards what happens on it; held for a few instructions.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Since when no request is under way.
    quiet_since: Instant,
    /// When the first byte of a head came that is not complete.
    head_since: Option<Instant>,
    /// When the peer last stopped taking bytes.
    blocked_since: Option<Instant>,
    /// Since when it has never taken all that there was.
    behind_since: Option<Instant>,
    exchanges: Vec<Exchange>,
    begun: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Handshake,
    Http1,
    /// With the bytes that came so far.
    Http2(u64),
}

/// One request and its answer.
#[derive(Debug)]
struct Exchange {
    id: u64,
    answered: Option<Instant>,
    /// What is waited for from the peer, and since when; `None` while it is our turn.
    waits: Option<Instant>,
}

/// Why a connection is cut.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Overdue {
    Handshake,
    /// No head of a request in time.
    Head,
    /// No further request in time.
    Idle,
    Blocked,
    /// An answer is not taken.
    Answer,
}

/// How ready a connection is to make room, the readiest first: since when it is so.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Spare {
    /// No request is under way.
    Idle(Instant),
    /// The peer keeps us waiting.
    Stalled(Instant),
}

// === impl Activity ===

impl Activity {
    /// A connection that is accepted `now`.
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

    /// The handshake is over, or there is none.
    pub(crate) fn opened(&self, is_http2: bool, now: Instant) {
        let mut state = self.state.lock();
        state.phase = if is_http2 {
            Phase::Http2(0)
        } else {
            Phase::Http1
        };
        state.quiet_since = now;
    }

    /// Bytes came.
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

    /// The peer took bytes.
    pub(crate) fn wrote(&self) {
        self.state.lock().blocked_since = None;
    }

    /// The peer took all that there was.
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

    /// A request's head is complete. Returns what the request is called here.
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

    /// The next of it has to come from the peer: bytes of the body, or room for the answer.
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

    pub(crate) fn begun(&self) -> u64 {
        self.state.lock().begun
    }

    /// Whether it may be closed for the sake of others.
    pub(crate) fn spare(&self, now: Instant) -> Option<Spare> {
        let state = self.state.lock();
        if state.exchanges.is_empty() {
            return Some(Spare::Idle(state.quiet_since));
        }
        let blocked = state.blocked_since;
        let waits = state.exchanges.iter().map(|exchange| exchange.waits);
        // One that is ours to answer keeps it; with several it is the latest that counts.
        let waits = waits.collect::<Option<Vec<Instant>>>();
        let waits = waits.and_then(|waits| waits.into_iter().max());
        let since = blocked.into_iter().chain(waits).min()?;
        (now.saturating_duration_since(since) >= STALLED_AFTER).then_some(Spare::Stalled(since))
    }

    /// The next moment at which it is overdue unless something happens, and why it then is.
    pub(crate) fn deadline(&self) -> Option<(Instant, Overdue)> {
        let state = self.state.lock();
        let allowed = &self.deadlines;
        let blocked = state.blocked_since.map(|at| at + allowed.write);
        let behind = state.behind_since.zip(allowed.answer);
        let of_answers = state.exchanges.iter().filter_map(|exchange| {
            let answered = exchange.answered?;
            let whole = allowed.answer.map(|answer| answered + answer);
            let next = exchange.waits.map(|waits| waits + allowed.write);
            whole.into_iter().chain(next).min()
        });
        let due = [
            blocked.map(|at| (at, Overdue::Blocked)),
            behind.map(|(at, answer)| (at + answer, Overdue::Blocked)),
            of_answers.min().map(|at| (at, Overdue::Answer)),
            state.quiet(allowed),
        ];
        due.into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Waits until it is overdue.
    pub(crate) async fn overdue(&self) -> Overdue {
        let shortest = self.deadlines.shortest();
        loop {
            let now = clock::now();
            // A deadline that begins while this sleeps is not over before it wakes.
            let look = now + shortest;
            let wake = match self.deadline() {
                Some((at, why)) if at <= now => return why,
                Some((at, _)) => at.min(look),
                None => look,
            };
            tokio::time::sleep_until(wake).await;
        }
    }
}

// === impl State ===

impl State {
    /// Until when there has to be a request, if there is none.
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
