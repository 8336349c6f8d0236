//! The encoders of one flush: one for marks and one for plain samples, per shard.

use crate::batch::{Batch, Kind, SHARDS, SINGLE};
use crate::encoder::{Encoder, SeriesLabels};

pub(super) struct Encoders {
    pub(super) timestamp: i64,
    marks: Vec<Encoder>,
    plain: Vec<Encoder>,
}

// === impl Encoders ===

impl Encoders {
    pub(super) fn new(timestamp: i64, parallel: bool) -> Self {
        let shards = if parallel {
            0..SHARDS
        } else {
            SINGLE..SINGLE + 1
        };
        let of = |kind| {
            let shards = shards.clone();
            shards
                .map(move |shard| Encoder::new(shard, kind, timestamp))
                .collect()
        };
        Self {
            timestamp,
            marks: of(Kind::Marks),
            plain: of(Kind::Plain),
        }
    }

    /// Index of a series' encoder.
    fn index(&self, labels: &SeriesLabels) -> usize {
        let encoders = u16::try_from(self.plain.len()).unwrap_or(SHARDS);
        usize::from(labels.shard(encoders))
    }

    pub(super) fn plain(&mut self, labels: &SeriesLabels, value: f64) {
        let index = self.index(labels);
        if let Some(encoder) = self.plain.get_mut(index) {
            logged(encoder.push(labels, value));
        }
    }

    /// Adds a mark at the flush's time, or at another.
    pub(super) fn mark(&mut self, labels: &SeriesLabels, value: f64, at: Option<i64>) {
        let index = self.index(labels);
        if let Some(encoder) = self.marks.get_mut(index) {
            logged(match at {
                None => encoder.push(labels, value),
                Some(at) => encoder.push_at(labels, value, at),
            });
        }
    }

    pub(super) fn finish(self) -> Vec<Batch> {
        // The 0 of a counter must be stored before its first sample: receivers refuse older ones.
        let all = self.marks.into_iter().chain(self.plain);
        all.filter_map(|encoder| logged(encoder.finish()))
            .flatten()
            .collect()
    }
}

/// Logs an error of Snappy, which fails only for batches far larger than ours.
fn logged<T>(encoded: Result<T, snap::Error>) -> Option<T> {
    encoded
        .inspect_err(|error| tracing::error!(%error, "remote write: a batch was not compressed"))
        .ok()
}
