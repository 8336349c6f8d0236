//! The open streams, within their limit. One that has not sent a request yet makes room for a new
//! one: whoever opens streams and says nothing must not keep Envoys out until they time out.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::metrics::Metrics;

/// Clones share the streams.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    state: Arc<Mutex<State>>,
    max: usize,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct State {
    open: usize,
    next: u64,
    /// Streams without a request, oldest first.
    silent: VecDeque<(u64, CancellationToken)>,
}

/// Counts a stream until it is dropped.
pub(super) struct StreamGuard {
    streams: Streams,
    id: u64,
    evicted: CancellationToken,
}

// === impl Streams ===

impl Streams {
    pub(super) fn new(max: usize, metrics: &Metrics) -> Self {
        Self {
            state: Arc::default(),
            max,
            metrics: metrics.clone(),
        }
    }

    /// Counts a new stream; closes the oldest silent one if there are too many.
    pub(super) fn open(&self) -> Result<StreamGuard, Status> {
        let mut state = self.state.lock();
        if state.open >= self.max {
            self.metrics.streams_refused.inc();
            let Some((_, evicted)) = state.silent.pop_front() else {
                let text = format!("there are {} streams already", self.max);
                return Err(Status::resource_exhausted(text));
            };
            evicted.cancel();
            // Its guard may be dropped much later, and does not count then.
            state.open -= 1;
        }
        let id = state.next;
        let evicted = CancellationToken::new();
        state.open += 1;
        state.next += 1;
        state.silent.push_back((id, evicted.clone()));
        self.metrics.streams.inc();
        Ok(StreamGuard {
            streams: self.clone(),
            id,
            evicted,
        })
    }
}

// === impl StreamGuard ===

impl StreamGuard {
    /// The stream sent a request: it stays.
    pub(super) fn keep(&self) {
        let mut state = self.streams.state.lock();
        state.silent.retain(|(id, _)| *id != self.id);
    }

    /// Waits until another stream takes the room of this one.
    pub(super) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.keep();
        let mut state = self.streams.state.lock();
        if !self.evicted.is_cancelled() {
            state.open -= 1;
        }
        self.streams.metrics.streams.dec();
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn the_oldest_silent_stream_makes_room() {
        let metrics = Metrics::register(&mut Registry::default());
        let streams = Streams::new(2, &metrics);
        let oldest = streams.open().unwrap();
        let greeted = streams.open().unwrap();
        greeted.keep();
        let third = streams.open().unwrap();
        assert!(oldest.evicted.is_cancelled());
        assert!(!greeted.evicted.is_cancelled());
        third.keep();
        assert!(streams.open().is_err(), "none is silent");
        drop(oldest);
        assert!(streams.open().is_err(), "its room was given away before");
        drop(greeted);
        let fourth = streams.open().unwrap();
        assert!(!third.evicted.is_cancelled());
        assert_eq!(metrics.streams.get(), 2);
        assert_eq!(metrics.streams_refused.get(), 3);
        drop((third, fourth));
        assert_eq!(metrics.streams.get(), 0);
    }
}
