//! The streams that are open: how many, whose, and how to tell one that it is over.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aggregator_core::report::StreamId;
use tokio::sync::oneshot;

use crate::ending::{Ending, Refusal};
use crate::limits::Limits;

/// Every open stream of this server.
#[derive(Debug)]
pub(crate) struct Streams {
    max: usize,
    greeting_max: usize,
    per_peer_max: usize,
    /// Held to look up, add or remove one stream.
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    last: u64,
    /// `None` once the stream was told.
    by_id: HashMap<StreamId, Option<oneshot::Sender<Ending>>>,
    /// Those that have not said hello, the oldest first.
    greeting: BTreeSet<u64>,
    /// How many each peer has, of those that are counted by peer.
    by_peer: HashMap<IpAddr, usize>,
}

/// A stream's place among the open ones, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    streams: Arc<Streams>,
    pub(crate) id: StreamId,
    peer: Option<IpAddr>,
}

// === impl Streams ===

impl Streams {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            max: limits.streams,
            greeting_max: limits.greeting.max(1),
            per_peer_max: limits.streams_per_peer,
            open: Mutex::default(),
        }
    }

    /// A place for a new stream, and where it hears that it is over. With a `peer` that one may have only so many. If too
    /// many have not said hello, the oldest of them makes way.
    pub(crate) fn open(
        self: &Arc<Self>,
        peer: Option<IpAddr>,
    ) -> Result<(Place, oneshot::Receiver<Ending>), Refusal> {
        let (end, ended) = oneshot::channel();
        let mut open = self.lock();
        if open.by_id.len() >= self.max {
            return Err(Refusal::Streams { max: self.max });
        }
        if let Some(peer) = peer {
            let streams = open.by_peer.entry(peer).or_default();
            if *streams >= self.per_peer_max {
                let max = self.per_peer_max;
                return Err(Refusal::PeerStreams { peer, max });
            }
            *streams += 1;
        }
        if open.greeting.len() >= self.greeting_max
            && let Some(oldest) = open.greeting.pop_first()
        {
            let max = self.greeting_max;
            open.end(StreamId(oldest), Ending::Refused(Refusal::Crowded { max }));
        }
        open.last += 1;
        let id = StreamId(open.last);
        open.greeting.insert(id.0);
        open.by_id.insert(id, Some(end));
        let streams = Arc::clone(self);
        Ok((Place { streams, id, peer }, ended))
    }

    /// Tells a stream that it is over, if it is open and was not told before.
    pub(crate) fn end(&self, id: StreamId, ending: Ending) {
        self.lock().end(id, ending);
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Open ===

impl Open {
    fn end(&mut self, id: StreamId, ending: Ending) {
        if let Some(end) = self.by_id.get_mut(&id).and_then(Option::take) {
            // A stream that ended by itself in this moment need not hear it.
            let _ = end.send(ending);
        }
    }
}

// === impl Place ===

impl Place {
    /// The stream has said who it is of.
    pub(crate) fn greeted(&self) {
        self.streams.lock().greeting.remove(&self.id.0);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.lock();
        open.by_id.remove(&self.id);
        open.greeting.remove(&self.id.0);
        if let Some(peer) = self.peer
            && let Some(streams) = open.by_peer.get_mut(&peer)
        {
            *streams -= 1;
            if *streams == 0 {
                open.by_peer.remove(&peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams(streams: usize, greeting: usize, streams_per_peer: usize) -> Arc<Streams> {
        Arc::new(Streams::new(&Limits {
            streams,
            greeting,
            streams_per_peer,
            ..Limits::default()
        }))
    }

    fn refusal<T>(outcome: Result<T, Refusal>) -> &'static str {
        outcome.err().map_or("none", |refusal| refusal.reason())
    }

    /// Whoever says hello stays, and of the rest the oldest goes.
    #[test]
    fn the_oldest_that_says_nothing_makes_way() {
        let streams = streams(10, 2, 10);
        let (polite, mut polite_ended) = streams.open(None).unwrap();
        polite.greeted();
        let (_first, mut first_ended) = streams.open(None).unwrap();
        let (_second, mut second_ended) = streams.open(None).unwrap();
        let third = streams.open(None).unwrap();
        let ending = first_ended.try_recv();
        assert!(matches!(
            ending,
            Ok(Ending::Refused(Refusal::Crowded { max: 2 }))
        ));
        assert!(second_ended.try_recv().is_err() && polite_ended.try_recv().is_err());
        drop(third);
        drop(polite);
        let open = streams.lock();
        assert_eq!((open.by_id.len(), open.greeting.len()), (2, 1));
    }

    /// A peer has so many, and all have so many together; a place that is free is given again.
    #[test]
    fn places_are_bounded() {
        let streams = streams(3, 3, 2);
        let [one, other] = ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse().ok());
        let held: Vec<_> = (0..2).map(|_| streams.open(one).unwrap()).collect();
        assert_eq!(refusal(streams.open(one)), "peer_streams");
        let last = streams.open(other).unwrap();
        assert_eq!(refusal(streams.open(None)), "streams");
        drop(held);
        assert!(streams.open(one).is_ok());
        drop(last);
        assert!(streams.lock().by_peer.is_empty());
    }
}
