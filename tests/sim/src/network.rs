//! Streams between sidecars and aggregators, and what the ways between them do.

use std::collections::VecDeque;

use aggregator_core::store::Link;
use filter_core::host::{RootId, StreamToken};

/// Old frames that may be replayed, at most.
const OLD_MAX: usize = 8;

/// One gRPC stream on a connection of its own.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) pod: usize,
    pub(crate) epoch: u64,
    pub(crate) serial: u64,
    pub(crate) token: StreamToken,
    pub(crate) root: RootId,
    pub(crate) aggregator: usize,
    pub(crate) aggregator_epoch: u64,
    /// Towards the aggregator, in order.
    pub(crate) up: VecDeque<Up>,
    pub(crate) up_at: u64,
    /// Towards the sidecar, in order.
    pub(crate) down: VecDeque<Down>,
    pub(crate) down_at: u64,
    /// The sidecar has not ended or lost it.
    pub(crate) heard: bool,
    /// The aggregator has not ended or lost it.
    pub(crate) served: bool,
    /// Broken: nothing more gets through.
    pub(crate) cut: bool,
    pub(crate) link: Option<(Link, u64)>,
}

#[derive(Clone, Debug)]
pub(crate) enum Up {
    Frame { sent: u64, bytes: Vec<u8> },
    End,
}

#[derive(Clone, Debug)]
pub(crate) enum Down {
    Frame(Vec<u8>),
    Close(u32),
}

/// The way between a sidecar and an aggregator.
#[derive(Debug, Default)]
pub(crate) struct Way {
    pub(crate) latency_ms: u64,
    pub(crate) slow_until: u64,
    pub(crate) slow_ms: u64,
    pub(crate) blocked_until: u64,
    pub(crate) doubles_until: u64,
    pub(crate) replays_until: u64,
    /// Reports of earlier streams with their instance and when they were made.
    pub(crate) old: VecDeque<(u64, u64, Vec<u8>)>,
}

impl Way {
    /// Keeps a frame that arrived for the first time.
    pub(crate) fn remember(&mut self, instance: u64, sent: u64, bytes: &[u8]) {
        if self
            .old
            .back()
            .is_some_and(|(_, newest, _)| *newest >= sent)
        {
            return;
        }
        if self.old.len() == OLD_MAX {
            self.old.pop_front();
        }
        self.old.push_back((instance, sent, bytes.to_owned()));
    }
}
