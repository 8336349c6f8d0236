//! Pods, their running totals and their recent past.

use crate::limits::StoreLimits;
use crate::pod::PodKey;
use crate::query::{Answer, MetricQuery};
use crate::status::{Counts, PodStatus};
use crate::time::UnixMillis;

/// Everything that sidecars reported and that is still of use. Writers and readers share it by reference.
#[derive(Debug)]
pub struct Store {
    limits: StoreLimits,
}

impl Store {
    /// An empty store.
    pub fn new(limits: StoreLimits) -> Self {
        Self { limits }
    }

    /// Reads `query` for each of `pods` as of `now`.
    pub fn read(&self, now: UnixMillis, pods: &[PodKey], query: &MetricQuery) -> Answer {
        let _ = (now, pods, query, self.limits);
        Answer::default()
    }

    /// Every pod as of `now`, sorted by key.
    pub fn inspect(&self, now: UnixMillis) -> Vec<PodStatus> {
        let _ = now;
        Vec::new()
    }

    /// How much of everything there is as of `now`.
    pub fn counts(&self, now: UnixMillis) -> Counts {
        let _ = now;
        Counts::default()
    }

    /// Forgets pods that have been gone for a while; returns them, so that a directory learnt from `Hello` can
    /// forget them too. Call it at least once a second or when [`Store::next_expiry`] says.
    pub fn expire(&self, now: UnixMillis) -> Vec<PodKey> {
        let _ = now;
        Vec::new()
    }

    /// When [`Store::expire`] next has work.
    pub fn next_expiry(&self) -> Option<UnixMillis> {
        None
    }
}
