//! The streams that are open: how many, whose, by TLS or not, and how to tell one that it is over.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use aggregator_core::pod::PodKey;
use aggregator_core::report::StreamId;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::close_reason::{CloseReason, Refusal};
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
    by_id: HashMap<StreamId, Option<oneshot::Sender<CloseReason>>>,
    /// Those that have not said hello, the oldest first.
    greeting: BTreeSet<u64>,
    /// How many each peer has, of those that are counted by peer.
    by_peer: HashMap<IpAddr, usize>,
    /// Whose those are that came without TLS, once they said so.
    plain: BTreeMap<u64, PodKey>,
}

/// Which pods stream without TLS; at most as many as there may be streams.
#[derive(Clone, Debug)]
pub struct PlainStreams(Arc<Streams>);

/// A stream's place among the open ones, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct StreamSlot {
    streams: Arc<Streams>,
    pub(crate) id: StreamId,
    peer: Option<IpAddr>,
    pub(crate) is_plain: bool,
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

    /// A place for a new stream, and where it hears that it is over. With a `peer` that one may
    /// have only so many. If too many have not said hello, the oldest of them makes way.
    pub(crate) fn open(
        self: &Arc<Self>,
        peer: Option<IpAddr>,
        is_plain: bool,
    ) -> Result<(StreamSlot, oneshot::Receiver<CloseReason>), Refusal> {
        let (end, ended) = oneshot::channel();
        let mut open = self.open.lock();
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
            open.end(
                StreamId(oldest),
                CloseReason::Refused(Refusal::Crowded { max }),
            );
        }
        open.last += 1;
        let id = StreamId(open.last);
        open.greeting.insert(id.0);
        open.by_id.insert(id, Some(end));
        let streams = Arc::clone(self);
        let place = StreamSlot {
            streams,
            id,
            peer,
            is_plain,
        };
        Ok((place, ended))
    }

    /// Tells a stream that it is over, if it is open and was not told before.
    pub(crate) fn end(&self, id: StreamId, ending: CloseReason) {
        self.open.lock().end(id, ending);
    }
}

// === impl PlainStreams ===

impl PlainStreams {
    pub(crate) fn new(streams: &Arc<Streams>) -> Self {
        Self(Arc::clone(streams))
    }

    /// How many each pod has that has any.
    pub fn by_pod(&self) -> BTreeMap<PodKey, usize> {
        let mut pods = BTreeMap::new();
        for pod in self.0.open.lock().plain.values() {
            *pods.entry(pod.clone()).or_default() += 1;
        }
        pods
    }
}

// === impl Open ===

impl Open {
    fn end(&mut self, id: StreamId, ending: CloseReason) {
        if let Some(end) = self.by_id.get_mut(&id).and_then(Option::take) {
            // A stream that ended by itself in this moment need not hear it.
            let _ = end.send(ending);
        }
    }
}

// === impl Place ===

impl StreamSlot {
    /// The stream has said that it is of `pod`.
    pub(crate) fn greeted(&self, pod: &PodKey) {
        let mut open = self.streams.open.lock();
        open.greeting.remove(&self.id.0);
        if self.is_plain {
            open.plain.insert(self.id.0, pod.clone());
        }
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock();
        open.by_id.remove(&self.id);
        open.greeting.remove(&self.id.0);
        open.plain.remove(&self.id.0);
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
        let (polite, mut polite_ended) = streams.open(None, false).unwrap();
        polite.greeted(&PodKey::new("prod", "jazz-1"));
        let (_first, mut first_ended) = streams.open(None, false).unwrap();
        let (_second, mut second_ended) = streams.open(None, false).unwrap();
        let third = streams.open(None, false).unwrap();
        let ending = first_ended.try_recv();
        assert!(matches!(
            ending,
            Ok(CloseReason::Refused(Refusal::Crowded { max: 2 }))
        ));
        assert!(second_ended.try_recv().is_err() && polite_ended.try_recv().is_err());
        drop(third);
        drop(polite);
        let open = streams.open.lock();
        assert_eq!((open.by_id.len(), open.greeting.len()), (2, 1));
    }

    /// A peer has so many, and all have so many together; a place that is free is given again.
    #[test]
    fn places_are_bounded() {
        let streams = streams(3, 3, 2);
        let [one, other] = ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse().ok());
        let held: Vec<_> = (0..2).map(|_| streams.open(one, false).unwrap()).collect();
        assert_eq!(refusal(streams.open(one, false)), "peer_streams");
        let last = streams.open(other, false).unwrap();
        assert_eq!(refusal(streams.open(None, false)), "streams");
        drop(held);
        assert!(streams.open(one, false).is_ok());
        drop(last);
        assert!(streams.open.lock().by_peer.is_empty());
    }
    /// A pod is listed as long as it has a stream without TLS, with how many; one that has not said
    /// whose it is is not.
    #[test]
    fn plain_streams_are_listed_by_pod() {
        let streams = streams(10, 10, 10);
        let plain = PlainStreams::new(&streams);
        let open = |is_plain| streams.open(None, is_plain).unwrap().0;
        let [jazz, metal] = ["jazz-1", "metal-1"].map(|name| PodKey::new("prod", name));
        let (first, second, secure, silent) = (open(true), open(true), open(false), open(true));
        first.greeted(&jazz);
        second.greeted(&jazz);
        secure.greeted(&metal);
        let listed = |count| BTreeMap::from([(jazz.clone(), count)]);
        assert_eq!(plain.by_pod(), listed(2));
        drop(first);
        assert_eq!(plain.by_pod(), listed(1));
        drop((second, secure, silent));
        assert!(streams.open.lock().plain.is_empty());
    }
}
