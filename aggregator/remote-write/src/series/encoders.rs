//! The encoders of one flush: of marks and of plain samples, one each for every shard.

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

    /// Which of the encoders a series belongs to.
    fn place(&self, labels: &SeriesLabels) -> usize {
        let encoders = u16::try_from(self.plain.len()).unwrap_or(SHARDS);
        usize::from(labels.shard(encoders))
    }

    pub(super) fn plain(&mut self, labels: &SeriesLabels, value: f64) {
        let place = self.place(labels);
        if let Some(encoder) = self.plain.get_mut(place) {
            logged(encoder.push(labels, value));
        }
    }

    /// At the flush's time, or at another.
    pub(super) fn mark(&mut self, labels: &SeriesLabels, value: f64, at: Option<i64>) {
        let place = self.place(labels);
        if let Some(encoder) = self.marks.get_mut(place) {
            logged(match at {
                None => encoder.push(labels, value),
                Some(at) => encoder.push_at(labels, value, at),
            });
        }
    }

    /// Marks first: the 0 of a counter comes before its first sample.
    pub(super) fn finish(self) -> Vec<Batch> {
        let all = self.marks.into_iter().chain(self.plain);
        all.filter_map(|encoder| logged(encoder.finish()))
            .flatten()
            .collect()
    }
}

/// Snappy fails only for batches far beyond ours.
fn logged<T>(encoded: Result<T, snap::Error>) -> Option<T> {
    encoded
        .inspect_err(|error| tracing::error!(%error, "remote write: a batch was not compressed"))
        .ok()
}
