//! gRPC streams between the VMs and the fake aggregator, and what is under way on them.
//!
//! Nothing arrives at once: each direction takes [`LATENCY`], and Envoy's buffers have no limit, as
//! on the real thing. Messages of one stream keep their order.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::aggregator::{Aggregator, Answer};
use crate::connection::{ConnectionId, Down, Owner, Up};

/// Time a message takes one way.
const LATENCY: Duration = Duration::from_millis(1);

/// Something that reaches its other end at a moment.
#[derive(Debug)]
pub(crate) enum Event {
    /// From the sidecar to the aggregator.
    Up(ConnectionId, Up),
    /// From the aggregator to the sidecar.
    Down(ConnectionId, Down),
}

#[derive(Debug)]
struct Connection {
    /// `None` once the sidecar's end is gone: what still comes for it is dropped.
    owner: Option<Owner>,
    /// True once the aggregator's end is gone.
    remote_closed: bool,
}

/// All streams of a process.
#[derive(Debug, Default)]
pub(crate) struct Network {
    pub(crate) aggregator: Aggregator,
    connections: BTreeMap<ConnectionId, Connection>,
    /// By due time, then by order of sending.
    under_way: BTreeMap<(Duration, u64), Event>,
    last_id: u64,
}

// === impl Network ===

impl Network {
    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// A stream to the aggregator's cluster, which has an endpoint.
    pub(crate) fn connect(&mut self, now: Duration, owner: Owner) -> ConnectionId {
        let id = self.next_id();
        let connection = Connection {
            owner: Some(owner),
            remote_closed: false,
        };
        self.connections.insert(id, connection);
        if self.aggregator.refuses() {
            let message = "upstream connect error or disconnect/reset before headers. reset \
                           reason: remote connection failure";
            let close = Down::Close {
                status: 14,
                message: message.to_owned(),
            };
            self.schedule(now + LATENCY, Event::Down(id, close));
        } else {
            self.send(now, id, Up::Open);
        }
        id
    }

    /// Puts something on a stream. What comes after the remote end closed is dropped, as Envoy
    /// does.
    pub(crate) fn send(&mut self, now: Duration, id: ConnectionId, what: Up) {
        let open = |connection: &Connection| !connection.remote_closed;
        if self.connections.get(&id).is_some_and(open) {
            self.schedule(now + LATENCY, Event::Up(id, what));
        }
    }

    /// The sidecar's end goes away: the other end sees a reset after all that was sent.
    pub(crate) fn drop_sidecar_end(&mut self, now: Duration, id: ConnectionId) {
        self.send(now, id, Up::Reset);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.owner = None;
        }
    }

    fn schedule(&mut self, at: Duration, event: Event) {
        let order = self.next_id();
        self.under_way.insert((at, order), event);
    }

    /// When the next event is due.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.under_way.keys().next().map(|(at, _)| *at)
    }

    /// Takes the next event that is due at `now`.
    pub(crate) fn pop(&mut self, now: Duration) -> Option<Event> {
        let entry = self.under_way.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }

    /// Lets the aggregator act on `what` and sends its answers.
    pub(crate) fn arrive(&mut self, now: Duration, id: ConnectionId, what: Up) {
        let answers = self.aggregator.hear(now, id, what);
        self.answer(now, answers);
    }

    /// Sends what the aggregator answered.
    pub(crate) fn answer(&mut self, now: Duration, answers: Vec<Answer>) {
        for answer in answers {
            let Some(connection) = self.connections.get_mut(&answer.stream) else {
                continue;
            };
            if connection.remote_closed {
                continue;
            }
            // Envoy learns of the end only when it arrives, but by then nothing of ours is read any
            // more.
            let event = Event::Down(answer.stream, answer.what);
            self.schedule(now + answer.after + LATENCY, event);
        }
    }

    /// The sidecar's end of stream `id`, while it is there. A close is noted.
    pub(crate) fn deliver(&mut self, id: ConnectionId, what: &Down) -> Option<Owner> {
        let connection = self.connections.get_mut(&id)?;
        if connection.remote_closed {
            return None;
        }
        connection.remote_closed = matches!(what, Down::Close { .. });
        connection.owner
    }

    /// True once Envoy knows that the remote end is gone.
    pub(crate) fn is_remote_closed(&self, id: ConnectionId) -> bool {
        self.connections
            .get(&id)
            .is_none_or(|connection| connection.remote_closed)
    }
}
