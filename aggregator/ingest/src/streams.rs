//! Open streams: limits, those without TLS by pod, and closing one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use aggregator_core::pod::PodKey;
use aggregator_core::report::StreamId;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::close_reason::{CloseReason, Refusal};
use crate::limits::Limits;

#[derive(Debug)]
pub(crate) struct Streams {
    max: usize,
    awaiting_hello_max: usize,
    per_peer_max: usize,
    /// Locked to look up, add or remove one stream.
    open: Mutex<OpenStreams>,
}

#[derive(Debug, Default)]
struct OpenStreams {
    last: u64,
    /// `None` once a close reason was sent.
    by_id: HashMap<StreamId, Option<oneshot::Sender<CloseReason>>>,
    /// Ids of streams without a hello, the oldest first.
    awaiting_hello: BTreeSet<u64>,
    /// Streams of each peer that has a limit.
    by_peer: HashMap<IpAddr, usize>,
    /// Pods of streams without TLS, from their hello on.
    plain: BTreeMap<u64, PodKey>,
}

/// Pods with streams without TLS.
#[derive(Clone, Debug)]
pub struct PlainStreams(Arc<Streams>);

/// A stream's slot among the open ones, freed when this is dropped.
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
            awaiting_hello_max: limits.awaiting_hello.max(1),
            per_peer_max: limits.streams_per_peer,
            open: Mutex::default(),
        }
    }

    /// A slot for a new stream, and the receiver of its close reason. With a `peer`, the limit per
    /// peer applies. If too many streams have not sent hello, the oldest of them is closed.
    pub(crate) fn open(
        self: &Arc<Self>,
        peer: Option<IpAddr>,
        is_plain: bool,
    ) -> Result<(StreamSlot, oneshot::Receiver<CloseReason>), Refusal> {
        let (close, closed) = oneshot::channel();
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
        // Sidecars send hello in the first packet, so the oldest is the least likely to be one.
        if open.awaiting_hello.len() >= self.awaiting_hello_max
            && let Some(oldest) = open.awaiting_hello.pop_first()
        {
            let max = self.awaiting_hello_max;
            open.end(
                StreamId(oldest),
                CloseReason::Refused(Refusal::Crowded { max }),
            );
        }
        open.last += 1;
        let id = StreamId(open.last);
        open.awaiting_hello.insert(id.0);
        open.by_id.insert(id, Some(close));
        let streams = Arc::clone(self);
        let slot = StreamSlot {
            streams,
            id,
            peer,
            is_plain,
        };
        Ok((slot, closed))
    }

    /// Sends a close reason to a stream, if it is open and none was sent before.
    pub(crate) fn end(&self, id: StreamId, reason: CloseReason) {
        self.open.lock().end(id, reason);
    }
}

// === impl PlainStreams ===

impl PlainStreams {
    pub(crate) fn new(streams: &Arc<Streams>) -> Self {
        Self(Arc::clone(streams))
    }

    /// Number of streams of each pod that has any.
    pub fn by_pod(&self) -> BTreeMap<PodKey, usize> {
        let mut pods = BTreeMap::new();
        for pod in self.0.open.lock().plain.values() {
            *pods.entry(pod.clone()).or_default() += 1;
        }
        pods
    }
}

// === impl OpenStreams ===

impl OpenStreams {
    fn end(&mut self, id: StreamId, reason: CloseReason) {
        if let Some(close) = self.by_id.get_mut(&id).and_then(Option::take) {
            // A stream that ends by itself at this moment needs no reason.
            let _ = close.send(reason);
        }
    }
}

// === impl StreamSlot ===

impl StreamSlot {
    /// Records that the stream's hello named `pod`.
    pub(crate) fn hello_received(&self, pod: &PodKey) {
        let mut open = self.streams.open.lock();
        open.awaiting_hello.remove(&self.id.0);
        if self.is_plain {
            open.plain.insert(self.id.0, pod.clone());
        }
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock();
        open.by_id.remove(&self.id);
        open.awaiting_hello.remove(&self.id.0);
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

    fn streams(streams: usize, awaiting_hello: usize, streams_per_peer: usize) -> Arc<Streams> {
        Arc::new(Streams::new(&Limits {
            streams,
            awaiting_hello,
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
        polite.hello_received(&PodKey::new("prod", "jazz-1"));
        let (_first, mut first_ended) = streams.open(None, false).unwrap();
        let (_second, mut second_ended) = streams.open(None, false).unwrap();
        let third = streams.open(None, false).unwrap();
        let reason = first_ended.try_recv();
        assert!(matches!(
            reason,
            Ok(CloseReason::Refused(Refusal::Crowded { max: 2 }))
        ));
        assert!(second_ended.try_recv().is_err() && polite_ended.try_recv().is_err());
        drop(third);
        drop(polite);
        let open = streams.open.lock();
        assert_eq!((open.by_id.len(), open.awaiting_hello.len()), (2, 1));
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
        first.hello_received(&jazz);
        second.hello_received(&jazz);
        secure.hello_received(&metal);
        let listed = |count| BTreeMap::from([(jazz.clone(), count)]);
        assert_eq!(plain.by_pod(), listed(2));
        drop(first);
        assert_eq!(plain.by_pod(), listed(1));
        drop((second, secure, silent));
        assert!(streams.open.lock().plain.is_empty());
    }
}
