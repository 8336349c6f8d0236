//! A batch being sent, whole or in parts.

use bytes::Bytes;
use prost::Message;
use snap::raw::{Decoder, Encoder};
use xxhash_rust::xxh3::Xxh3;

use crate::batch::Batch;
use crate::protocol::Version;
use crate::write_request::{TimeSeries, WriteRequest, v2};

/// A part of a batch for one request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SubBatch {
    pub samples: u32,
    /// A `WriteRequest` in Snappy's block format.
    pub body: Bytes,
}

// === impl SubBatch ===

impl From<Batch> for SubBatch {
    fn from(batch: Batch) -> Self {
        Self {
            samples: batch.samples,
            body: batch.body,
        }
    }
}

impl SubBatch {
    /// Two halves, in order. `None` if it has one series or cannot be decoded.
    pub fn split(&self) -> Option<(Self, Self)> {
        let mut first = self.decode()?;
        if first.timeseries.len() < 2 {
            return None;
        }
        let second = WriteRequest {
            timeseries: first.timeseries.split_off(first.timeseries.len() / 2),
        };
        Some((Self::encode(&first)?, Self::encode(&second)?))
    }

    /// A hash of the labels of each series. Empty if it cannot be decoded.
    pub fn series(&self) -> Vec<u64> {
        let request = self.decode().unwrap_or_default();
        request.timeseries.iter().map(hash).collect()
    }

    /// The series for whose hash `wanted` is true, and the others. `None` for an empty part.
    pub fn partition(&self, wanted: impl Fn(u64) -> bool) -> (Option<Self>, Option<Self>) {
        let Some(request) = self.decode() else {
            return (Some(self.clone()), None);
        };
        let all = request.timeseries.into_iter();
        let (ours, others) = all.partition(|series| wanted(hash(series)));
        let encode = |timeseries: Vec<TimeSeries>| {
            let any = !timeseries.is_empty();
            any.then(|| Self::encode(&WriteRequest { timeseries }))?
        };
        (encode(ours), encode(others))
    }

    /// The first series alone, for a probe.
    pub fn first(&self) -> Option<Self> {
        let mut request = self.decode()?;
        request.timeseries.truncate(1);
        Self::encode(&request)
    }

    /// The body of the request in `version`.
    pub fn body_in(&self, version: Version) -> Bytes {
        // A body that cannot be decoded is sent unchanged: the receiver rejects and names it.
        match version {
            Version::V1 => self.body.clone(),
            Version::V2 => self.translated().unwrap_or_else(|| self.body.clone()),
        }
    }

    fn translated(&self) -> Option<Bytes> {
        let request = v2::Request::from(self.decode()?);
        let body = Encoder::new().compress_vec(&request.encode_to_vec()).ok()?;
        Some(body.into())
    }

    fn decode(&self) -> Option<WriteRequest> {
        let raw = Decoder::new().decompress_vec(&self.body).ok()?;
        WriteRequest::decode(&raw[..]).ok()
    }

    fn encode(request: &WriteRequest) -> Option<Self> {
        let samples = request
            .timeseries
            .iter()
            .map(|series| series.samples.len())
            .sum::<usize>();
        Some(Self {
            samples: u32::try_from(samples).ok()?,
            body: Encoder::new()
                .compress_vec(&request.encode_to_vec())
                .ok()?
                .into(),
        })
    }
}

fn hash(series: &TimeSeries) -> u64 {
    let mut hash = Xxh3::new();
    for label in &series.labels {
        // Unambiguous: names have no zero byte, and values are preceded by their length.
        hash.update(label.name.as_bytes());
        hash.update(&[0]);
        hash.update(&(label.value.len() as u64).to_le_bytes());
        hash.update(label.value.as_bytes());
    }
    hash.digest()
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use snap::raw::Decoder;

    use super::SubBatch;
    use crate::batch::Kind;
    use crate::encoder::{Encoder, SeriesLabels};
    use crate::protocol::Version;
    use crate::write_request::{Label, TimeSeries, WriteRequest, v2};

    fn sub_batch(series: u32) -> SubBatch {
        let mut encoder = Encoder::new(0, Kind::Plain, 1_000);
        for i in 0..series {
            let labels = SeriesLabels::new("m", [("i", i.to_string().as_str())]).unwrap();
            encoder.push(&labels, f64::from(i)).unwrap();
        }
        SubBatch::from(encoder.finish().unwrap().remove(0))
    }

    fn series(sub_batch: &SubBatch) -> Vec<TimeSeries> {
        let raw = Decoder::new().decompress_vec(&sub_batch.body).unwrap();
        WriteRequest::decode(&raw[..]).unwrap().timeseries
    }

    #[test]
    fn halves_hold_what_the_whole_held() {
        for count in 2..20 {
            let whole = sub_batch(count);
            let (first, second) = whole.split().unwrap();
            assert_eq!(first.samples + second.samples, count);
            let mut both = series(&first);
            both.extend(series(&second));
            assert_eq!(both, series(&whole));
        }
    }

    /// In version 2.0 the same labels and samples, by way of the table of symbols.
    #[test]
    fn version_2_says_the_same() {
        let sub_batch = sub_batch(30);
        let raw = Decoder::new().decompress_vec(&sub_batch.body_in(Version::V2));
        let request = v2::Request::decode(&raw.unwrap()[..]).unwrap();
        assert_eq!(request.symbols[0], "");
        let mut unique = request.symbols.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), request.symbols.len());
        let text = |index: u32| request.symbols[index as usize].clone();
        let mut sent = Vec::new();
        for series in &request.timeseries {
            let labels = series.labels_refs.chunks(2);
            let labels = labels.map(|pair| Label {
                name: text(pair[0]),
                value: text(pair[1]),
            });
            sent.push(TimeSeries {
                labels: labels.collect(),
                samples: series.samples.clone(),
            });
            let metadata = series.metadata.unwrap();
            assert_eq!(metadata.r#type(), v2::MetricType::Counter);
            assert_ne!(text(metadata.help_ref), "");
        }
        assert_eq!(sent, series(&sub_batch));
        assert_eq!(sub_batch.body_in(Version::V1), sub_batch.body);
    }

    /// A part by what its series are; nothing is lost or doubled.
    #[test]
    fn parts_hold_what_the_whole_held() {
        let whole = sub_batch(9);
        let hashes = whole.series();
        assert_eq!(hashes.len(), 9);
        let (some, others) = whole.partition(|hash| hashes[..4].contains(&hash));
        let (some, others) = (some.unwrap(), others.unwrap());
        assert_eq!((some.samples, others.samples), (4, 5));
        assert_eq!(
            (some.series(), others.series()),
            (hashes[..4].to_vec(), hashes[4..].to_vec())
        );
        let (all, none) = whole.partition(|_| true);
        assert_eq!((all.unwrap().series(), none), (hashes.clone(), None));
        assert_eq!(whole.first().unwrap().series(), hashes[..1]);
    }

    #[test]
    fn one_series_is_not_split() {
        assert_eq!(sub_batch(1).split(), None);
        let garbage = SubBatch {
            samples: 2,
            body: vec![1, 2, 3].into(),
        };
        assert_eq!(garbage.split(), None);
    }
}
