use std::collections::BTreeMap;

use aggregator_core::report::{InstanceId, ResponseCode};
use aggregator_core::series::{Direction, SeriesKey};
use aggregator_core::status::SeriesStatus;
use prost::Message as _;

use common_time::Monotonic;

use super::*;
use crate::batch::{Kind, SHARDS};
use crate::write_request::{STALE_BITS, WriteRequest};

const INTERVAL: i64 = 15_000;
const SINCE: UnixMillis = UnixMillis(1_990_000);

fn series(attempts: u64, codes: &[(u32, u64)]) -> SeriesStatus {
    let codes = codes
        .iter()
        .map(|(code, total)| (ResponseCode::new(*code).unwrap(), *total));
    let codes: Vec<_> = codes.collect();
    let mut responses = BTreeMap::new();
    for (code, total) in &codes {
        *responses.entry(code.class()).or_insert(0) += total;
    }
    SeriesStatus {
        key: SeriesKey {
            direction: Direction::Inbound,
            cluster: "local".into(),
        },
        requests: None,
        requests_at_completion: false,
        upstream_attempts: Some(attempts),
        responses: responses.into_iter().collect(),
        codes,
        inflight: None,
        inflight_ns: None,
    }
}

fn pod(name: &str, instance: u64, started_at: u64, series: Vec<SeriesStatus>) -> PodStatus {
    PodStatus {
        key: PodKey::new("prod", name),
        uid: "".into(),
        state: PodState::Live,
        streams: 1,
        instances: vec![InstanceId(instance)],
        started_at: Some(Monotonic(started_at)),
        last_report_age: None,
        vms_expected: 1,
        vms_live: 1,
        series,
    }
}

fn metadata(_: &PodKey) -> SeriesMetadata {
    SeriesMetadata {
        service: "jazz".to_owned(),
        labels: Vec::new(),
    }
}

/// The moment of a flush; both clocks show the same here.
fn now(timestamp: i64) -> Now {
    let millis = u64::try_from(timestamp).unwrap();
    Now {
        monotonic: Monotonic(millis),
        wall: UnixMillis(millis),
    }
}

fn flush(
    exporter: &mut Exporter,
    timestamp: i64,
    pods: &[PodStatus],
    metadata: &dyn Fn(&PodKey) -> SeriesMetadata,
) -> Vec<Batch> {
    exporter.flush(&Flush {
        now: now(timestamp),
        timestamp,
        interval: INTERVAL,
        parallel: true,
        pods,
        metadata,
        rate: &|_| Some(12.5),
    })
}

/// Samples of a flush as `name{labels} value @timestamp`, sorted; a marker is `stale`.
fn samples(batches: &[Batch]) -> Vec<String> {
    let mut lines = Vec::new();
    for batch in batches {
        let raw = snap::raw::Decoder::new()
            .decompress_vec(&batch.body)
            .unwrap();
        for series in WriteRequest::decode(raw.as_slice()).unwrap().timeseries {
            let text = |name: &str| {
                let label = series.labels.iter().find(|label| label.name == name);
                label.map_or("", |label| label.value.as_str())
            };
            let own = format!(
                "{}{}",
                text("envoy_response_code_class"),
                text("envoy_response_code")
            );
            for sample in &series.samples {
                let value = match sample.value.to_bits() {
                    STALE_BITS => "stale".to_owned(),
                    _ => sample.value.to_string(),
                };
                let name = text("__name__");
                let name = name.trim_start_matches("envoy_cluster_upstream_");
                let name = name.trim_start_matches("appmesh_");
                let pod = text("kubernetes_pod_name");
                lines.push(format!("{pod} {name} {own} {value} @{}", sample.timestamp));
            }
        }
    }
    lines.sort_unstable();
    lines
}

/// A counter that was there before us begins with its value; one that began while we looked begins
/// with a 0 before it.
#[test]
fn only_new_counters_begin_at_zero() {
    let mut exporter = Exporter::new(Naming::default(), SINCE);
    let pods = [
        pod("old", 1, SINCE.0 - 1, vec![series(70, &[])]),
        pod("new", 2, SINCE.0 + 1, vec![series(5, &[])]),
    ];
    let first = samples(&flush(&mut exporter, 2_000_000, &pods, &metadata));
    assert_eq!(
        first,
        [
            "new rq_total  0 @1985000",
            "new rq_total  5 @2000000",
            "old rq_total  70 @2000000",
        ]
    );
    // A class that occurs for the first time in a counter that we have seen began at 0.
    let pods = [pod("old", 1, SINCE.0 - 1, vec![series(80, &[(503, 3)])])];
    let second = samples(&flush(&mut exporter, 2_015_000, &pods, &metadata));
    assert_eq!(
        second,
        [
            "new rq_total  stale @2015000",
            "old rq 503 0 @2000000",
            "old rq 503 3 @2015000",
            "old rq_total  80 @2015000",
            "old rq_xx 5 0 @2000000",
            "old rq_xx 5 3 @2015000",
        ]
    );
}

/// A series goes on under other labels when its pod gets another service, and the old one ends.
#[test]
fn ends_what_is_renamed() {
    let mut exporter = Exporter::new(Naming::default(), SINCE);
    let pods = [pod("a", 1, SINCE.0 - 1, vec![series(7, &[])])];
    flush(&mut exporter, 2_000_000, &pods, &metadata);
    let other = |_: &PodKey| SeriesMetadata {
        service: "folk".to_owned(),
        ..SeriesMetadata::default()
    };
    let renamed = samples(&flush(&mut exporter, 2_015_000, &pods, &other));
    assert_eq!(
        renamed,
        ["a rq_total  7 @2015000", "a rq_total  stale @2015000"]
    );
}

/// A pod that began while we looked, was gone for a while and is back, or has another service, did
/// not begin again: a 0 now would be a false reset.
#[test]
fn what_is_back_does_not_begin_again() {
    let other = |_: &PodKey| SeriesMetadata {
        service: "folk".to_owned(),
        ..SeriesMetadata::default()
    };
    for state in [PodState::Held, PodState::Gone] {
        let naming = Naming {
            live_only: true,
            ..Naming::default()
        };
        let mut exporter = Exporter::new(naming, SINCE);
        let mut pods = [pod("a", 1, 1_999_000, vec![series(7, &[])])];
        let first = samples(&flush(&mut exporter, 2_000_000, &pods, &metadata));
        assert_eq!(first.len(), 2, "{first:?}");
        pods[0].state = state;
        flush(&mut exporter, 2_015_000, &pods, &metadata);
        pods[0].state = PodState::Live;
        pods[0].series = vec![series(9, &[(503, 2)])];
        let back = samples(&flush(&mut exporter, 2_030_000, &pods, &metadata));
        assert!(
            !back.iter().any(|sample| sample.contains(" 0 @")),
            "{back:?}"
        );
        let renamed = samples(&flush(&mut exporter, 2_045_000, &pods, &other));
        assert!(
            !renamed.iter().any(|sample| sample.contains(" 0 @")),
            "{renamed:?}"
        );
    }
}

/// What is held is written on, unless another replica may write it; what is gone ends once.
#[test]
fn writes_what_is_known() {
    for (live_only, held) in [
        (false, "a rq_total  7 @2015000"),
        (true, "a rq_total  stale @2015000"),
    ] {
        let naming = Naming {
            live_only,
            ..Naming::default()
        };
        let mut exporter = Exporter::new(naming, SINCE);
        let mut pods = [pod("a", 1, SINCE.0 - 1, vec![series(7, &[])])];
        flush(&mut exporter, 2_000_000, &pods, &metadata);
        pods[0].state = PodState::Held;
        assert_eq!(
            samples(&flush(&mut exporter, 2_015_000, &pods, &metadata)),
            [held]
        );
        pods[0].state = PodState::Gone;
        let gone = samples(&flush(&mut exporter, 2_030_000, &pods, &metadata));
        assert_eq!(gone.is_empty(), live_only, "{gone:?}");
        assert!(flush(&mut exporter, 2_045_000, &pods, &metadata).is_empty());
    }
}

/// Labels of pods and of all series are there, and a clash is refused and counted, not written
/// wrongly.
#[test]
fn labels_are_a_setting() {
    let naming = Naming {
        external_labels: vec![("cluster".to_owned(), "eks-1".to_owned())],
        pod_labels: vec!["app.kubernetes.io/name".to_owned()],
        ..Naming::default()
    };
    let mut exporter = Exporter::new(naming, SINCE);
    let pods = [pod("a", 1, SINCE.0 - 1, vec![series(7, &[])])];
    let metadata = |_: &PodKey| SeriesMetadata {
        service: String::new(),
        labels: vec!["jazz".to_owned()],
    };
    let batches = flush(&mut exporter, 2_000_000, &pods, &metadata);
    let raw = snap::raw::Decoder::new()
        .decompress_vec(&batches[0].body)
        .unwrap();
    let request = WriteRequest::decode(raw.as_slice()).unwrap();
    let labels = request.timeseries[0].labels.iter();
    let labels: Vec<_> = labels
        .map(|label| format!("{}={}", label.name, label.value))
        .collect();
    assert_eq!(
        labels,
        [
            "__name__=envoy_cluster_upstream_rq_total",
            "app_kubernetes_io_name=jazz",
            "cluster=eks-1",
            "envoy_cluster_name=local",
            "kubernetes_pod_name=a",
            "namespace=prod",
            "traffic_direction=inbound",
        ]
    );
    let naming = Naming {
        external_labels: vec![("namespace".to_owned(), "x".to_owned())],
        ..Naming::default()
    };
    let mut exporter = Exporter::new(naming, SINCE);
    assert!(flush(&mut exporter, 2_000_000, &pods, &metadata).is_empty());
    assert_eq!(exporter.refused(), 1);
}

fn summed() -> Exporter {
    let naming = Naming {
        output: Output::Summed,
        ..Naming::default()
    };
    Exporter::new(naming, SINCE)
}

/// A sum counts what its pods count while it looks: not what was before, not less when one leaves,
/// and all of one that begins again under its name.
#[test]
fn a_sum_never_falls_and_never_leaps() {
    let mut exporter = summed();
    let old = |total| pod("old", 1, SINCE.0 - 1, vec![series(total, &[])]);
    let new = |total| pod("new", 2, SINCE.0 + 1, vec![series(total, &[])]);
    let mut at = 2_000_000;
    let mut sum_of = |pods: &[PodStatus]| {
        let batches = flush(&mut exporter, at, pods, &metadata);
        at += INTERVAL;
        samples(&batches)
    };
    assert_eq!(
        sum_of(&[old(70), new(5)]),
        [" rq_total  0 @1990001", " rq_total  5 @2000000"]
    );
    assert_eq!(sum_of(&[old(71), new(9)]), [" rq_total  10 @2015000"]);
    assert_eq!(sum_of(&[old(72)]), [" rq_total  11 @2030000"]);
    // Another pod of the name, which began at 0.
    let another = |total| pod("old", 3, SINCE.0 + 2, vec![series(total, &[])]);
    assert_eq!(sum_of(&[another(3)]), [" rq_total  14 @2045000"]);
    assert_eq!(sum_of(&[]), [" rq_total  stale @2060000"]);
    assert_eq!(sum_of(&[another(4)]), [" rq_total  15 @2075000"]);
    // An old report of the one before it is no news, and neither is one of fewer requests.
    assert_eq!(sum_of(&[old(80)]), [" rq_total  15 @2090000"]);
    assert_eq!(sum_of(&[another(2)]), [" rq_total  15 @2105000"]);
    assert_eq!(sum_of(&[another(6)]), [" rq_total  17 @2120000"]);
}

/// What a restarted exporter has from its checkpoint, it goes on with, and what was counted while
/// none ran is counted.
#[test]
fn a_sum_goes_on_after_a_restart() {
    let mut exporter = summed();
    let pods = [pod("a", 1, SINCE.0 + 1, vec![series(5, &[(503, 2)])])];
    flush(&mut exporter, 2_000_000, &pods, &metadata);
    let saved = exporter.checkpoint().unwrap();
    let mut restarted = Exporter::new(
        Naming {
            output: Output::Summed,
            ..Naming::default()
        },
        UnixMillis(2_000_000),
    );
    assert!(restarted.restore(&saved));
    let pods = [
        pod("a", 1, SINCE.0 + 1, vec![series(8, &[(503, 4)])]),
        pod("born-meanwhile", 2, 2_000_001, vec![series(20, &[])]),
    ];
    let after = samples(&flush(&mut restarted, 2_030_000, &pods, &metadata));
    let totals: Vec<_> = after
        .iter()
        .filter(|line| line.contains("@2030000"))
        .collect();
    assert_eq!(
        totals,
        [
            " rq 503 4 @2030000",
            " rq_total  28 @2030000",
            " rq_xx 5 4 @2030000"
        ]
    );
    assert!(!restarted.restore(&saved[..saved.len() - 1]), "cut short");
    let mut flipped = saved.clone();
    flipped[20] ^= 1;
    assert!(!restarted.restore(&flipped), "damaged");
}

/// Gauges are written if asked: a pod's, or the sum of a service's.
#[test]
fn gauges_are_a_setting() {
    let with = |output| Naming {
        output,
        rate: true,
        inflight: true,
        ..Naming::default()
    };
    let mut busy = series(7, &[]);
    busy.inflight = Some(3);
    let pods = ["a", "b"].map(|name| pod(name, 1, SINCE.0 - 1, vec![busy.clone()]));
    let mut each = Exporter::new(with(Output::PerPod), SINCE);
    let written = samples(&flush(&mut each, 2_000_000, &pods, &metadata));
    assert!(
        written.contains(&"a requests_in_flight  3 @2000000".to_owned()),
        "{written:?}"
    );
    assert!(
        written.contains(&"b requests_per_second  12.5 @2000000".to_owned()),
        "{written:?}"
    );
    let mut all = Exporter::new(with(Output::Summed), SINCE);
    let written = samples(&flush(&mut all, 2_000_000, &pods, &metadata));
    assert_eq!(
        written,
        [
            " requests_in_flight  6 @2000000",
            " requests_per_second  25 @2000000",
            " rq_total  0 @1990001",
            " rq_total  0 @2000000",
        ]
    );
    // What no pod counts has no gauge, rather than 0.
    let pods = [pod("a", 1, SINCE.0 - 1, vec![series(7, &[])])];
    let mut none = Exporter::new(with(Output::Summed), SINCE);
    let written = samples(&flush(&mut none, 2_000_000, &pods, &metadata));
    assert!(
        !written
            .iter()
            .any(|line| line.contains("requests_in_flight")),
        "{written:?}"
    );
}

/// What a listener counted is told under names of ours, what the upstream counted under Envoy's;
/// each series has one of the two, and neither stands in for the other.
#[test]
fn each_name_says_who_counted() {
    let listener = SeriesStatus {
        requests: Some(9),
        upstream_attempts: None,
        ..series(0, &[(200, 5), (404, 4)])
    };
    let both = SeriesStatus {
        upstream_attempts: Some(7),
        ..listener.clone()
    };
    let upstream = series(7, &[(200, 5)]);
    let of_listener = [
        "a requests_total  9 @2000000",
        "a responses_by_code_total 200 5 @2000000",
        "a responses_by_code_total 404 4 @2000000",
        "a responses_total 2 5 @2000000",
        "a responses_total 4 4 @2000000",
    ];
    let mut of_both = of_listener.to_vec();
    of_both.push("a rq_total  7 @2000000");
    let of_upstream = [
        "a rq 200 5 @2000000",
        "a rq_total  7 @2000000",
        "a rq_xx 2 5 @2000000",
    ];
    for (told, expected) in [
        (listener, of_listener.to_vec()),
        (both, of_both),
        (upstream, of_upstream.to_vec()),
    ] {
        let mut exporter = Exporter::new(Naming::default(), SINCE);
        let pods = [pod("a", 1, SINCE.0 - 1, vec![told])];
        let written = samples(&flush(&mut exporter, 2_000_000, &pods, &metadata));
        assert_eq!(written, expected);
    }
}

/// A series that is first seen by the process after a kill begins at 0 in the last flush before it,
/// and one that was written has none; whatever the kill came between, and whether or not the
/// sidecar was started anew as well.
#[test]
fn what_is_new_after_a_kill_begins_at_zero() {
    let at_first = [pod("a", 1, SINCE.0 - 1, vec![series(70, &[])])];
    let mut first = Exporter::new(Naming::default(), SINCE);
    flush(&mut first, 2_000_000, &at_first, &metadata);
    let kept = first.written().unwrap();
    assert_eq!(first.written(), None, "nothing changed");
    for instance in [1, 2] {
        let mut second = Exporter::new(Naming::default(), UnixMillis(2_000_000));
        assert!(second.resume(&kept, 2_000_000));
        let pods = [
            pod("a", instance, SINCE.0 - 1, vec![series(71, &[(503, 1)])]),
            pod("b", 3, 2_000_001, vec![series(4, &[])]),
            pod("c", 4, SINCE.0 - 1, vec![series(8, &[])]),
        ];
        let after = samples(&flush(&mut second, 2_015_000, &pods, &metadata));
        assert_eq!(
            after,
            [
                "a rq 503 0 @2000000",
                "a rq 503 1 @2015000",
                "a rq_total  71 @2015000",
                "a rq_xx 5 0 @2000000",
                "a rq_xx 5 1 @2015000",
                "b rq_total  0 @2000000",
                "b rq_total  4 @2015000",
                "c rq_total  8 @2015000",
            ]
        );
    }
}

/// The kill came after what was written was kept, and before the flush was: the series of that
/// flush were not written.
#[test]
fn a_flush_that_was_not_durable_wrote_nothing() {
    let mut first = Exporter::new(Naming::default(), SINCE);
    let before = [pod("a", 1, SINCE.0 - 1, vec![series(70, &[])])];
    flush(&mut first, 2_000_000, &before, &metadata);
    let news = [pod("a", 1, SINCE.0 - 1, vec![series(71, &[(503, 1)])])];
    flush(&mut first, 2_015_000, &news, &metadata);
    let kept = first.written().unwrap();
    for (durable, zeros) in [(2_000_000, 2), (2_015_000, 0)] {
        let mut second = Exporter::new(Naming::default(), UnixMillis(2_000_000));
        assert!(second.resume(&kept, durable));
        let after = samples(&flush(&mut second, 2_030_000, &news, &metadata));
        let found = after.iter().filter(|line| line.contains(" 0 @2000000"));
        assert_eq!(found.count(), zeros, "{after:?}");
    }
    let mut damaged = kept.clone();
    damaged[20] ^= 1;
    let mut second = Exporter::new(Naming::default(), UnixMillis(2_000_000));
    assert!(!second.resume(&damaged, 2_015_000));
}

/// A pod that was away, or whose sidecar began anew, and that meanwhile counted what it never had:
/// that began at 0, and what was written before did not.
#[test]
fn what_is_new_after_an_absence_begins_at_zero() {
    let mut exporter = Exporter::new(Naming::default(), SINCE);
    let mut pods = [pod("a", 1, SINCE.0 - 1, vec![series(70, &[])])];
    flush(&mut exporter, 2_000_000, &pods, &metadata);
    flush(&mut exporter, 2_015_000, &[], &metadata);
    pods[0] = pod("a", 2, 2_020_000, vec![series(3, &[(503, 2)])]);
    let back = samples(&flush(&mut exporter, 2_030_000, &pods, &metadata));
    assert_eq!(
        back,
        [
            "a rq 503 0 @2000000",
            "a rq 503 2 @2030000",
            "a rq_total  3 @2030000",
            "a rq_xx 5 0 @2000000",
            "a rq_xx 5 2 @2030000",
        ]
    );
}

/// After a step back of the clock a 0 comes before its first sample, and what begins then is new.
#[test]
fn a_clock_that_is_set_back_keeps_zeros_in_order() {
    let mut exporter = Exporter::new(Naming::default(), UnixMillis(5_590_000));
    let mut pods = vec![pod("a", 1, 5_580_000, vec![series(70, &[])])];
    flush(&mut exporter, 5_600_000, &pods, &metadata);
    pods[0].series = vec![series(71, &[(503, 1)])];
    pods.push(pod("b", 2, 1_995_000, vec![series(4, &[])]));
    let after = samples(&flush(&mut exporter, 2_000_000, &pods, &metadata));
    for new in [
        "a rq 503 0 @1985000",
        "a rq_xx 5 0 @1985000",
        "b rq_total  0 @1985000",
    ] {
        assert!(after.contains(&new.to_owned()), "{after:?}");
    }
}

/// A small flush is one batch, and one of marks before it; a large one goes over all shards.
#[test]
fn a_small_flush_goes_out_whole() {
    for (parallel, shards) in [(false, 1), (true, 4)] {
        let mut exporter = Exporter::new(Naming::default(), SINCE);
        let pods: Vec<_> = (0..40)
            .map(|i| pod(&format!("p{i}"), i, SINCE.0 + 1, vec![series(5, &[])]))
            .collect();
        let batches = exporter.flush(&Flush {
            now: now(2_000_000),
            timestamp: 2_000_000,
            interval: INTERVAL,
            parallel,
            pods: &pods,
            metadata: &metadata,
            rate: &|_| None,
        });
        let of = |kind| batches.iter().filter(|batch| batch.kind == kind).count();
        assert_eq!((of(Kind::Marks), of(Kind::Plain)), (shards, shards));
        assert!(
            batches
                .iter()
                .all(|batch| parallel == (batch.shard < SHARDS))
        );
        assert_eq!(samples(&batches).len(), 80);
    }
}
