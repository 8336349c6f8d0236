//! What the encoder writes, read back by prost and Snappy, which know nothing of it.

use proptest::prelude::*;
use prost::Message;
use snap::raw::Decoder;

use super::{BATCH_BYTES_MAX, Encoder, LABELS_MAX, LabelsError, SeriesLabels};
use crate::batch::{Batch, Kind};
use crate::write_request::{Label, STALE, STALE_BITS, Sample, TimeSeries, WriteRequest};

fn decode(batch: &Batch) -> WriteRequest {
    let raw = Decoder::new().decompress_vec(&batch.body).unwrap();
    assert!(raw.len() <= BATCH_BYTES_MAX);
    WriteRequest::decode(&raw[..]).unwrap()
}

fn label(name: &str, value: &str) -> Label {
    Label {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

#[test]
fn labels_are_sorted_and_empty_ones_left_out() {
    let labels = SeriesLabels::new(
        "rq",
        [("zone", "a"), ("_b", "ü"), ("empty", ""), ("Pod", "p")],
    )
    .unwrap();
    let mut encoder = Encoder::new(3, Kind::Plain, 1_700_000_000_123);
    encoder.push(&labels, 42.0).unwrap();
    let batches = encoder.finish().unwrap();
    assert_eq!(batches.len(), 1);
    assert_eq!((batches[0].shard, batches[0].samples), (3, 1));
    let expected = TimeSeries {
        labels: vec![
            label("Pod", "p"),
            label("__name__", "rq"),
            label("_b", "ü"),
            label("zone", "a"),
        ],
        samples: vec![Sample {
            value: 42.0,
            timestamp: 1_700_000_000_123,
        }],
    };
    assert_eq!(decode(&batches[0]).timeseries, [expected]);
}

#[test]
fn the_staleness_marker_keeps_its_bits() {
    let labels = SeriesLabels::new("rq", []).unwrap();
    let mut encoder = Encoder::new(0, Kind::Marks, 1);
    encoder.push(&labels, STALE).unwrap();
    let batches = encoder.finish().unwrap();
    assert_eq!(
        decode(&batches[0]).timeseries[0].samples[0].value.to_bits(),
        STALE_BITS
    );
}

#[test]
fn labels_that_no_receiver_takes_are_refused_by_name() {
    let refused = |name: &str, labels: &[(&'static str, &str)]| {
        SeriesLabels::new(name, labels.iter().copied()).unwrap_err()
    };
    assert_eq!(refused("a-b", &[]), LabelsError::Name("a-b".to_owned()));
    assert_eq!(refused("", &[]), LabelsError::Name(String::new()));
    assert_eq!(
        refused("a", &[("1st", "x")]),
        LabelsError::Name("1st".to_owned())
    );
    assert_eq!(
        refused("a", &[("b:c", "x")]),
        LabelsError::Name("b:c".to_owned())
    );
    assert_eq!(
        refused("a", &[("b", "x"), ("b", "y")]),
        LabelsError::Twice("b".to_owned())
    );
    assert_eq!(
        refused("a", &[("__name__", "y")]),
        LabelsError::Twice("__name__".to_owned())
    );
    let long = "v".repeat(8_000);
    assert!(matches!(
        refused("a", &[("b", &long)]),
        LabelsError::TooLong(_)
    ));
    let names: Vec<String> = (0..LABELS_MAX).map(|i| format!("l{i}")).collect();
    let many = SeriesLabels::new("a", names.iter().map(|name| (name.as_str(), "x")));
    assert_eq!(many.unwrap_err(), LabelsError::TooMany(LABELS_MAX + 1));
}

/// The hash decides where a series' samples wait for years to come: it may not change with a
/// release.
#[test]
fn a_series_keeps_its_hash() {
    let labels =
        SeriesLabels::new("envoy_cluster_upstream_rq_total", [("namespace", "prod")]).unwrap();
    let again =
        SeriesLabels::new("envoy_cluster_upstream_rq_total", [("namespace", "prod")]).unwrap();
    assert_eq!(labels.hash(), again.hash());
    assert_eq!(labels.hash(), 8_763_978_296_039_935_039);
}

proptest! {
    /// Whatever goes in comes out: every sample once, in order, within the limits of a batch.
    #[test]
    fn what_goes_in_comes_out(
        values in prop::collection::vec((any::<f64>(), any::<i64>(), 0_usize..5, "[a-z ü]{0,40}"), 0..200),
        samples_max in 1_usize..50,
        bytes_max in 100_usize..5_000,
    ) {
        let mut encoder = Encoder::new(0, Kind::Plain, 0).with_limits(samples_max, bytes_max);
        let mut expected = Vec::new();
        for (value, timestamp, extra, text) in &values {
            let names = ["a", "b", "c", "d", "e"];
            let labels = names[..*extra].iter().map(|name| (*name, text.as_str()));
            encoder.push_at(&SeriesLabels::new("m", labels).unwrap(), *value, *timestamp).unwrap();
            expected.push((value.to_bits(), *timestamp, if text.is_empty() { 0 } else { *extra } + 1));
        }
        let batches = encoder.finish().unwrap();
        let mut found = Vec::new();
        for batch in &batches {
            let request = decode(batch);
            prop_assert_eq!(request.timeseries.len(), batch.samples as usize);
            prop_assert!(batch.samples as usize <= samples_max);
            prop_assert!(request.encoded_len() <= bytes_max || batch.samples == 1);
            for series in request.timeseries {
                prop_assert_eq!(series.samples.len(), 1);
                let sample = series.samples[0];
                found.push((sample.value.to_bits(), sample.timestamp, series.labels.len()));
            }
        }
        prop_assert_eq!(found, expected);
    }
}
