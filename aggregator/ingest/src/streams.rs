//! The streams that are open: how many, and how to tell one that it is over.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aggregator_core::report::StreamId;
use tokio::sync::oneshot;

use crate::ending::{Ending, Refusal};

/// Every open stream of this server.
#[derive(Debug)]
pub(crate) struct Streams {
    max: usize,
    /// Held to look up, add or remove one stream.
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    last: u64,
    /// `None` once the stream was told.
    by_id: HashMap<StreamId, Option<oneshot::Sender<Ending>>>,
}

/// A stream's place among the open ones, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    streams: Arc<Streams>,
    pub(crate) id: StreamId,
}

// === impl Streams ===

impl Streams {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            open: Mutex::default(),
        }
    }

    /// A place for a new stream, and where it hears that it is over.
    pub(crate) fn open(self: &Arc<Self>) -> Result<(Place, oneshot::Receiver<Ending>), Refusal> {
        let (end, ended) = oneshot::channel();
        let mut open = self.lock();
        if open.by_id.len() >= self.max {
            return Err(Refusal::Streams { max: self.max });
        }
        open.last += 1;
        let id = StreamId(open.last);
        open.by_id.insert(id, Some(end));
        let streams = Arc::clone(self);
        Ok((Place { streams, id }, ended))
    }

    /// Tells a stream that it is over, if it is open and was not told before.
    pub(crate) fn end(&self, id: StreamId, ending: Ending) {
        let mut open = self.lock();
        if let Some(end) = open.by_id.get_mut(&id).and_then(Option::take) {
            // A stream that ended by itself in this moment need not hear it.
            let _ = end.send(ending);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Place ===

impl Drop for Place {
    fn drop(&mut self) {
        self.streams.lock().by_id.remove(&self.id);
    }
}
