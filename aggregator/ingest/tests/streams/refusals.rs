//! What is wrong ends its own stream, with a status that names it and a counter that rises; a
//! stream beside it goes on.

use std::time::Duration;

use aggregator_core::limits::SERIES_PER_POD_MAX;
use aggregator_core::pod::{Labels, PodInfo, PodKey};
use aggregator_core::query::NoValue;
use aggregator_ingest::limits::FRAME_BYTES_MAX;
use aggregator_ingest::{Identity, Limits};
use prost::Message as _;
use proto::v1::sidecar_frame::Frame;
use proto::v1::{Report, Responses, Series, SidecarFrame};
use tonic::{Code, Status};

use crate::support::{Aggregator, Stream, until};
use crate::wire::Wire;

/// A server, a stream that does well, and one that is about to do wrong.
struct Case {
    aggregator: Aggregator,
    good: Stream,
    bad: Stream,
}

// === impl Case ===

impl Case {
    /// Both streams have said hello and reported once.
    async fn begin() -> Self {
        let aggregator = Aggregator::start(Limits::default()).await;
        let mut good = aggregator.connect(aggregator.hello("good", 1)).await;
        let mut bad = aggregator.connect(aggregator.hello("bad", 2)).await;
        aggregator.a_second_later();
        good.report(aggregator.report(1, 10)).await.unwrap();
        bad.report(aggregator.report(1, 10)).await.unwrap();
        aggregator.a_second_later();
        Self {
            aggregator,
            good,
            bad,
        }
    }

    /// `frame` ends the bad stream with `code` and `text` and is counted under `reason`; what the
    /// stream had reported before stays, and the good stream goes on.
    async fn refuses(mut self, frame: Vec<u8>, code: Code, text: &str, reason: &str) {
        self.bad.send_bytes(frame).await;
        let status = self.bad.status().await;
        assert_refused(&status, code, text);
        assert_eq!(self.aggregator.refused(reason), 1, "{reason}");
        assert_eq!(self.aggregator.requests("bad"), Some(10));
        let report = self.aggregator.report(2, 20);
        self.good.report(report).await.unwrap();
        assert_eq!(self.aggregator.requests("good"), Some(20));
        assert_eq!(self.aggregator.pod("good").streams, 1);
    }
}

fn assert_refused(status: &Status, code: Code, text: &str) {
    assert_eq!((status.code(), status.message()), (code, text));
}

fn encode(frame: Frame) -> Vec<u8> {
    SidecarFrame { frame: Some(frame) }.encode_to_vec()
}

/// Frames that end their stream: text of the status and reason counted, too.
fn bad_frames(aggregator: &Aggregator) -> Vec<(Vec<u8>, String, &'static str)> {
    let report = aggregator.report(2, 20);
    let changed = |change: &dyn Fn(&mut Report)| {
        let mut report = report.clone();
        change(&mut report);
        encode(Frame::Report(report))
    };
    let later = report.interval_end_unix_ms + 61_000;
    let row = |frame, text: &str, reason| (frame, text.to_owned(), reason);
    vec![
        row(
            vec![0xff; 12],
            "SidecarFrame: not a protobuf message",
            "malformed_frame",
        ),
        // Skipping a field of some later protocol would make a wrong number.
        row(
            with_unknown_field(&report.series[0]),
            "SidecarFrame.report.series: unknown field 111; this version knows protocol 2",
            "malformed_frame",
        ),
        row(
            changed(&|report| report.series[0].cluster = "c".repeat(300)),
            "report.series[0].cluster: 300 bytes, at most 256",
            "invalid_field",
        ),
        row(
            changed(&|report| {
                let total = u64::MAX;
                report.series[0].responses = vec![Responses { code: 2, total }];
            }),
            "report.series[0].responses[0].total: 18446744073709551615 exceeds 9007199254740992, \
             the highest possible total",
            "impossible_total",
        ),
        row(
            encode(Frame::Report(aggregator.report(2, 5_000_000_000))),
            "report.series[0].requests: 5000000000 is 4999999990 more than before, at most \
             2000000000 is possible in 2s",
            "impossible_total",
        ),
        row(
            encode(Frame::Hello(aggregator.hello("bad", 2))),
            "hello: only the first frame of a stream may be hello",
            "second_hello",
        ),
        row(
            Vec::new(),
            "SidecarFrame: neither hello nor report",
            "empty_frame",
        ),
        row(
            changed(&|report| report.interval_end_unix_ms = later),
            &format!(
                "report.interval_end_unix_ms: {later} is 61s ahead of the sidecar's own clock"
            ),
            "ahead_of_clock",
        ),
    ]
}

/// A report whose series has field 111.
fn with_unknown_field(series: &Series) -> Vec<u8> {
    let mut series = series.encode_to_vec();
    series.extend([0xf8, 0x06, 0x01]); // field 111, varint 1
    let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap();
    let mut report = vec![0x22, length(&series)];
    report.extend(&series);
    let mut frame = vec![0x12, length(&report)];
    frame.extend(&report);
    frame
}

#[tokio::test]
async fn bad_frames_are_refused() {
    for nth in 0.. {
        let case = Case::begin().await;
        let mut rows = bad_frames(&case.aggregator).into_iter();
        let Some((frame, text, reason)) = rows.nth(nth) else {
            break;
        };
        case.refuses(frame, Code::InvalidArgument, &text, reason)
            .await;
    }
}

#[tokio::test]
async fn report_before_hello() {
    let aggregator = Aggregator::start(Limits::default()).await;
    let mut stream = aggregator.stream().await.unwrap();
    let report = aggregator.report(1, 1);
    let status = stream.report(report).await.unwrap_err();
    let text = "report: the first frame of a stream must be hello";
    assert_refused(&status, Code::InvalidArgument, text);
    assert_eq!(aggregator.refused("report_before_hello"), 1);
}

/// A frame beyond the size limit is not even read.
#[tokio::test]
async fn oversized_frame() {
    let case = Case::begin().await;
    let text = format!(
        "SidecarFrame: Error, decoded message length too large: found {} bytes, the limit is: \
         {FRAME_BYTES_MAX} bytes",
        FRAME_BYTES_MAX + 1
    );
    case.refuses(
        vec![0; FRAME_BYTES_MAX + 1],
        Code::ResourceExhausted,
        &text,
        "frame_too_large",
    )
    .await;
}

/// An older instance is refused while a newer one reports.
#[tokio::test]
async fn older_instance() {
    let case = Case::begin().await;
    let mut newer = case
        .aggregator
        .connect(case.aggregator.hello("good", 3))
        .await;
    case.aggregator.a_second_later();
    newer.report(case.aggregator.report(1, 5)).await.unwrap();
    let mut stream = case.aggregator.stream().await.unwrap();
    let hello = case.aggregator.hello("good", 1);
    stream.send(Frame::Hello(hello)).await;
    let status = stream.status().await;
    let text = "pod prod/good: instance 0000000000000001 is older than instance 0000000000000003, which reports for the pod";
    assert_refused(&status, Code::Aborted, text);
    assert_eq!(case.aggregator.refused("older_instance"), 1);
    assert_eq!(case.aggregator.requests("good"), Some(5));
}

/// Series beyond those that a pod may have are counted; the others are taken.
#[tokio::test]
async fn too_many_series() {
    let mut case = Case::begin().await;
    for (seq, clusters) in [(2, 0..200), (3, 200..300)] {
        let mut report = case.aggregator.report(seq, 20);
        let series = clusters.map(|n| Series {
            cluster: format!("cluster-{n}"),
            ..report.series[0].clone()
        });
        report.series = series.collect();
        case.bad.report(report).await.unwrap();
    }
    let refused = "meshmeter_ingest_series_refused_total";
    // A series without a cluster was there before.
    let spare = 1 + 300 - u64::try_from(SERIES_PER_POD_MAX).unwrap();
    assert_eq!(case.aggregator.metric(refused), spare);
}

/// By address, a stream may report the pod that has it, and for no other.
#[tokio::test]
async fn another_pod() {
    let aggregator = Aggregator::start_with(Limits::default(), Identity::PodIp).await;
    for (name, ip) in [("jazz", "127.0.0.1"), ("metal", "10.0.0.2")] {
        let mut pod = PodInfo::new(PodKey::new("prod", name), "".into(), Labels::default());
        pod.ips = vec![ip.parse().unwrap()];
        aggregator.directory.upsert(pod).unwrap();
    }
    let _own = aggregator.connect(aggregator.hello("jazz", 1)).await;
    let mut stream = aggregator.stream().await.unwrap();
    stream
        .send(Frame::Hello(aggregator.hello("metal", 2)))
        .await;
    let status = stream.status().await;
    let text = "the stream comes from 127.0.0.1, but pod prod/metal has 10.0.0.2: a stream may \
                report only its own pod";
    assert_refused(&status, Code::PermissionDenied, text);
    assert_eq!(aggregator.refused("foreign_pod"), 1);
    assert_eq!(aggregator.streams("metal"), None);
}

/// Why an address does not report is remembered until a hello of it is accepted.
#[tokio::test]
async fn refusals_are_remembered() {
    let aggregator = Aggregator::start_with(Limits::default(), Identity::PodIp).await;
    let address = "127.0.0.1".parse().unwrap();
    let refusal = || aggregator.store.refusal_of(aggregator.now(), &[address]);
    let refused = async |frame: Vec<u8>, expected| {
        let mut stream = aggregator.stream().await.unwrap();
        stream.send_bytes(frame).await;
        stream.status().await;
        assert_eq!(refusal(), expected);
    };
    // Nobody has this address yet.
    assert!(aggregator.stream().await.is_err());
    assert_eq!(refusal(), Some(NoValue::Unauthenticated));
    let mut pod = PodInfo::new(PodKey::new("prod", "jazz"), "".into(), Labels::default());
    pod.ips = vec![address];
    aggregator.directory.upsert(pod).unwrap();
    let own = aggregator.connect(aggregator.hello("jazz", 1)).await;
    assert_eq!(refusal(), None);
    drop(own);
    refused(vec![0xff; 12], Some(NoValue::Unreadable)).await;
    refused(vec![0; FRAME_BYTES_MAX + 1], Some(NoValue::StreamRefused)).await;
}

/// A sidecar that makes no room for answers is ended.
#[tokio::test]
async fn unread_answers() {
    let aggregator = Aggregator::start(Limits {
        response_within: Duration::from_millis(50),
        ..Limits::default()
    })
    .await;
    let hello = Frame::Hello(aggregator.hello("jazz", 1));
    let mut wire = Wire::open(aggregator.address, hello).await;
    until("connected", || aggregator.streams("jazz") == Some(1)).await;
    aggregator.a_second_later();
    let reports = (1..=10).map(|n| Frame::Report(aggregator.report(n, n * 10)));
    wire.send(reports.collect()).await;
    until("ended", || aggregator.refused("answers_unread") == 1).await;
    assert_eq!(aggregator.streams("jazz"), Some(0));
}

/// A stream that says nothing is ended.
#[tokio::test]
async fn no_hello() {
    let aggregator = Aggregator::start(Limits {
        hello_within: Duration::from_millis(50),
        ..Limits::default()
    })
    .await;
    let mut stream = aggregator.stream().await.unwrap();
    let status = stream.status().await;
    assert_refused(
        &status,
        Code::DeadlineExceeded,
        "hello: not received within 50ms",
    );
    assert_eq!(aggregator.refused("hello_late"), 1);
}

/// Streams beyond the limit are refused; those that are open go on, and a place that becomes free
/// is given again.
#[tokio::test]
async fn too_many_streams() {
    let aggregator = Aggregator::start(Limits {
        streams: 1,
        ..Limits::default()
    })
    .await;
    let mut first = aggregator.connect(aggregator.hello("a", 1)).await;
    let status = aggregator.stream().await.err().expect("refused");
    let text = "the aggregator serves 1 streams already";
    assert_refused(&status, Code::ResourceExhausted, text);
    assert_eq!(aggregator.refused("streams"), 1);
    aggregator.a_second_later();
    first.report(aggregator.report(1, 1)).await.unwrap();
    first.half_close();
    assert_eq!(first.status().await.code(), Code::Ok);
    aggregator.connect(aggregator.hello("b", 1)).await;
}

/// Connections beyond the limit are closed at once and counted.
#[tokio::test]
async fn too_many_connections() {
    let aggregator = Aggregator::start(Limits {
        connections: 1,
        ..Limits::default()
    })
    .await;
    let mut first = aggregator.connect(aggregator.hello("a", 1)).await;
    aggregator.connection_is_refused().await;
    let refused =
        "meshmeter_connections_refused_total{listener=\"ingest\",reason=\"address_limit\"}";
    assert_eq!(aggregator.metric(refused), 1);
    aggregator.a_second_later();
    first.report(aggregator.report(1, 1)).await.unwrap();
}
