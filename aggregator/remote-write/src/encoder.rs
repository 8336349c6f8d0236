//! Encodes samples to batches: Remote-Write 1.0 protobuf, written straight into one buffer, then
//! Snappy.
//!
//! The labels of a series are encoded once ([`SeriesLabels`]); a flush copies those bytes and adds
//! the sample.

use std::sync::Arc;

use bytes::Bytes;
use snap::raw::Encoder as Snappy;
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use crate::batch::{Batch, Kind};

#[cfg(test)]
mod tests;

/// Samples in a request at most. AWS recommends 1,000 to 2,000.
pub const SAMPLES_PER_BATCH_MAX: usize = 2_000;

/// Bytes of a request before compression at most. AMP refuses requests over 1 MB and does not
/// document whether before or after compression; this is below either.
pub const BATCH_BYTES_MAX: usize = 900_000;

/// Labels of a series at most: AMP's quota.
pub const LABELS_MAX: usize = 150;

/// Bytes of all label names and values of a series at most: AMP's quota.
pub const LABEL_BYTES_MAX: usize = 7 * 1024;

/// Tags of the messages' fields: number << 3 | wire type.
mod tag {
    pub(super) const WRITE_REQUEST_TIMESERIES: u8 = 1 << 3 | 2;
    pub(super) const TIME_SERIES_LABELS: u8 = 1 << 3 | 2;
    pub(super) const TIME_SERIES_SAMPLES: u8 = 2 << 3 | 2;
    pub(super) const LABEL_NAME: u8 = 1 << 3 | 2;
    pub(super) const LABEL_VALUE: u8 = 2 << 3 | 2;
    pub(super) const SAMPLE_VALUE: u8 = 1 << 3 | 1;
    pub(super) const SAMPLE_TIMESTAMP: u8 = 2 << 3;
}

/// The labels of one series, sorted, checked and encoded. Cheap to clone.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SeriesLabels {
    encoded: Arc<[u8]>,
}

/// Labels that no receiver accepts.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum LabelsError {
    /// A name outside the specification's pattern.
    #[error("label {0:?}: names are [a-zA-Z_][a-zA-Z0-9_]*, metric names may also hold colons")]
    Name(String),
    #[error("duplicate label {0:?}")]
    Twice(String),
    /// More than [`LABELS_MAX`].
    #[error("{0} labels, at most {LABELS_MAX} are taken")]
    TooMany(usize),
    /// More than [`LABEL_BYTES_MAX`].
    #[error("labels of {0} bytes, at most {LABEL_BYTES_MAX} are taken")]
    TooLong(usize),
}

/// Encodes the samples of one shard in one flush.
#[derive(Debug)]
pub struct Encoder {
    shard: u16,
    kind: Kind,
    timestamp: i64,
    raw: Vec<u8>,
    samples: u32,
    batches: Vec<Batch>,
    samples_max: usize,
    bytes_max: usize,
}

// === impl SeriesLabels ===

impl SeriesLabels {
    /// The series `name` with `labels`, in any order. Labels with an empty value are omitted, as
    /// the specification requires: they mean the same as absent ones.
    pub fn new<'a>(
        name: &'a str,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, LabelsError> {
        let mut sorted: Vec<(&str, &str)> = labels
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .collect();
        sorted.push(("__name__", name));
        sorted.sort_unstable();
        check(name, &sorted)?;
        let mut encoded = Vec::with_capacity(sorted.len() * 32);
        for (name, value) in &sorted {
            let fields =
                2 + varint_len(name.len()) + name.len() + varint_len(value.len()) + value.len();
            encoded.push(tag::TIME_SERIES_LABELS);
            varint(&mut encoded, fields as u64);
            delimited(&mut encoded, tag::LABEL_NAME, name.as_bytes());
            delimited(&mut encoded, tag::LABEL_VALUE, value.as_bytes());
        }
        Ok(Self {
            encoded: encoded.into(),
        })
    }

    /// A hash that is stable across machines, versions and restarts.
    pub fn hash(&self) -> u64 {
        xxh3_64(&self.encoded)
    }

    /// The shard of the series, out of `shards`.
    pub fn shard(&self, shards: u16) -> u16 {
        let shard = self.hash() % u64::from(shards.max(1));
        u16::try_from(shard).unwrap_or(0)
    }
}

fn check(name: &str, sorted: &[(&str, &str)]) -> Result<(), LabelsError> {
    if !is_name(name, true) {
        return Err(LabelsError::Name(name.to_owned()));
    }
    if let Some((bad, _)) = sorted.iter().find(|(label, _)| !is_name(label, false)) {
        return Err(LabelsError::Name((*bad).to_owned()));
    }
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(LabelsError::Twice(pair[0].0.to_owned()));
    }
    if sorted.len() > LABELS_MAX {
        return Err(LabelsError::TooMany(sorted.len()));
    }
    let bytes = sorted.iter().map(|(n, v)| n.len() + v.len()).sum();
    if bytes > LABEL_BYTES_MAX {
        return Err(LabelsError::TooLong(bytes));
    }
    Ok(())
}

fn is_name(name: &str, metric: bool) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || (metric && c == ':');
    !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(fits)
}

// === impl Encoder ===

impl Encoder {
    /// An encoder for the flush at `timestamp`, in Unix milliseconds.
    pub fn new(shard: u16, kind: Kind, timestamp: i64) -> Self {
        Self {
            shard,
            kind,
            timestamp,
            raw: Vec::new(),
            samples: 0,
            batches: Vec::new(),
            samples_max: SAMPLES_PER_BATCH_MAX,
            bytes_max: BATCH_BYTES_MAX,
        }
    }

    /// Replaces [`SAMPLES_PER_BATCH_MAX`] and [`BATCH_BYTES_MAX`]; a batch holds at least one
    /// sample.
    #[must_use]
    pub fn with_limits(mut self, samples_max: usize, bytes_max: usize) -> Self {
        self.samples_max = samples_max.max(1);
        self.bytes_max = bytes_max;
        self
    }

    /// Adds a sample, at the flush's timestamp.
    pub fn push(&mut self, labels: &SeriesLabels, value: f64) -> Result<(), snap::Error> {
        self.push_at(labels, value, self.timestamp)
    }

    /// Adds a sample at `timestamp`. The caller ensures that a batch has a series once.
    pub fn push_at(
        &mut self,
        labels: &SeriesLabels,
        value: f64,
        timestamp: i64,
    ) -> Result<(), snap::Error> {
        // Protobuf's int64 is the two's complement as an unsigned varint.
        let time = u64::from_ne_bytes(timestamp.to_ne_bytes());
        let sample = 1 + 8 + 1 + varint_len_u64(time);
        let series = labels.encoded.len() + 1 + varint_len(sample) + sample;
        let bytes = 1 + varint_len(series) + series;
        let full =
            self.samples as usize >= self.samples_max || self.raw.len() + bytes > self.bytes_max;
        if full && self.samples > 0 {
            self.seal()?;
        }
        self.raw.push(tag::WRITE_REQUEST_TIMESERIES);
        varint(&mut self.raw, series as u64);
        self.raw.extend_from_slice(&labels.encoded);
        self.raw.push(tag::TIME_SERIES_SAMPLES);
        varint(&mut self.raw, sample as u64);
        self.raw.push(tag::SAMPLE_VALUE);
        self.raw.extend_from_slice(&value.to_bits().to_le_bytes());
        self.raw.push(tag::SAMPLE_TIMESTAMP);
        varint(&mut self.raw, time);
        self.samples += 1;
        Ok(())
    }

    pub fn finish(mut self) -> Result<Vec<Batch>, snap::Error> {
        if self.samples > 0 {
            self.seal()?;
        }
        Ok(self.batches)
    }

    fn seal(&mut self) -> Result<(), snap::Error> {
        let body = Snappy::new().compress_vec(&self.raw)?;
        self.batches.push(Batch {
            shard: self.shard,
            kind: self.kind,
            samples: self.samples,
            timestamp: self.timestamp,
            body: Bytes::from(body),
        });
        self.raw.clear();
        self.samples = 0;
        Ok(())
    }
}

fn delimited(buffer: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    buffer.push(tag);
    varint(buffer, bytes.len() as u64);
    buffer.extend_from_slice(bytes);
}

fn varint(buffer: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        buffer.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    buffer.push(value.to_le_bytes()[0]);
}

fn varint_len(value: usize) -> usize {
    varint_len_u64(value as u64)
}

fn varint_len_u64(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}
