//! How streams begin and end.

use aggregator_core::pod::PodKey;
use aggregator_core::query::{Metric, MetricQuery, Milli, WindowChoice};
use aggregator_core::status::PodState;
use aggregator_ingest::Limits;
use proto::v1::sidecar_frame::Frame;
use tonic::Code;

use crate::support::{Aggregator, until};
use crate::wire::{INTERNAL, NO_ERROR, Wire};

const REPLACED: &str = "meshmeter_ingest_streams_replaced_total";

/// Reports are acknowledged and in the store, the rate follows, and the pod is learnt with its
/// labels.
#[tokio::test]
async fn reports_become_a_rate() {
    let aggregator = Aggregator::start(Limits::default()).await;
    let mut stream = aggregator.connect(aggregator.hello("jazz", 1)).await;
    for second in 1..=3 {
        aggregator.a_second_later();
        let report = aggregator.report(second, second * 10);
        stream.report(report).await.unwrap();
    }
    let pod = aggregator.pod("jazz");
    assert_eq!((pod.state, pod.streams), (PodState::Live, 1));
    let key = PodKey::new("prod", "jazz");
    let query = MetricQuery {
        metric: Metric::RequestsPerSecond,
        direction: None,
        cluster: None,
        code_class: None,
        window: WindowChoice::Adaptive,
    };
    let keys = [key.clone()];
    let answer = aggregator.store.read(aggregator.now(), &keys, &query);
    assert_eq!(answer.readings[0].value, Milli(10_000));
    assert_eq!(aggregator.requests("jazz"), Some(30));
    assert_eq!(aggregator.metric("meshmeter_ingest_reports_total"), 3);
    for (kind, frames) in [("hello", 1), ("report", 3)] {
        let sample = format!("meshmeter_ingest_frames_total{{kind=\"{kind}\"}}");
        assert_eq!(aggregator.metric(&sample), frames, "{kind}");
    }
    assert_eq!(
        aggregator.directory.get(&key).unwrap().labels["app"],
        "jazz"
    );
}

/// A scrape tells how many sidecars of each build stream at the moment.
#[tokio::test]
async fn streams_are_told_by_build() {
    let aggregator = Aggregator::start(Limits::default()).await;
    let mut hello = aggregator.hello("jazz", 1);
    hello.build = "0.9.0".to_owned();
    let stream = aggregator.connect(hello).await;
    let _other = aggregator.connect(aggregator.hello("metal", 2)).await;
    let of = |build| format!("meshmeter_ingest_sidecars{{build=\"{build}\"}}");
    assert_eq!(aggregator.metric(&of("0.9.0")), 1);
    assert_eq!(aggregator.metric(&of("test")), 1);
    drop(stream);
    until("gone", || !aggregator.metrics().contains(&of("0.9.0"))).await;
    assert_eq!(aggregator.metric(&of("test")), 1);
}

/// However a stream ends, it is not open any more: by its sidecar, by a reset, with its connection.
/// All of these are plain.
#[tokio::test]
async fn a_stream_that_ended_is_not_counted() {
    let aggregator = Aggregator::start(Limits::default()).await;
    let open = || {
        let names = ["meshmeter_ingest_streams", "meshmeter_ingest_streams_plain"];
        names.map(|name| aggregator.metric(name))
    };
    for connection_too in [false, true] {
        let stream = aggregator.connect(aggregator.hello("jazz", 1)).await;
        assert_eq!(open(), [1, 1]);
        let channel = (!connection_too).then(|| stream.channel());
        drop(stream);
        until("the sidecar's is over", || open() == [0, 0]).await;
        drop(channel);

        let (call, channel) = aggregator.metrics_call().await;
        until("the metrics service's is there", || open() == [1, 1]).await;
        let channel = (!connection_too).then_some(channel);
        call.abort();
        until("the metrics service's is over", || open() == [0, 0]).await;
        drop(channel);
    }
    let opened = "meshmeter_ingest_streams_plain_opened_total";
    assert_eq!(aggregator.metric(opened), 4);
}

/// A second stream of the same instance takes over: the first ends with a status that says so, and
/// totals of both are merged.
#[tokio::test]
async fn a_second_stream_supersedes_the_first() {
    let aggregator = Aggregator::start(Limits::default()).await;
    let mut first = aggregator.connect(aggregator.hello("jazz", 1)).await;
    aggregator.a_second_later();
    first.report(aggregator.report(1, 10)).await.unwrap();
    let mut second = aggregator.connect(aggregator.hello("jazz", 1)).await;
    let status = first.status().await;
    assert_eq!(status.code(), Code::Aborted);
    assert_eq!(
        status.message(),
        "superseded by a newer stream of the same instance"
    );
    aggregator.a_second_later();
    second.report(aggregator.report(1, 25)).await.unwrap();
    assert_eq!(aggregator.requests("jazz"), Some(25));
    assert_eq!(aggregator.pod("jazz").streams, 1);
    let superseded = "meshmeter_ingest_streams_superseded_total";
    assert_eq!(aggregator.metric(superseded), 1);
}

/// A newer instance takes the pod over with its first report; the older one's stream ends with a
/// status that says so.
#[tokio::test]
async fn a_newer_instance_replaces_the_older() {
    let aggregator = Aggregator::start(Limits::default()).await;
    let mut old = aggregator.connect(aggregator.hello("jazz", 1)).await;
    aggregator.a_second_later();
    old.report(aggregator.report(1, 1000)).await.unwrap();
    aggregator.a_second_later();
    let mut new = aggregator.connect(aggregator.hello("jazz", 2)).await;
    assert_eq!(aggregator.requests("jazz"), Some(1000));
    aggregator.a_second_later();
    new.report(aggregator.report(1, 3)).await.unwrap();
    let status = old.status().await;
    assert_eq!(status.code(), Code::Aborted);
    assert!(status.message().starts_with("replaced"), "{status}");
    assert_eq!(aggregator.requests("jazz"), Some(3));
    assert_eq!(aggregator.metric(REPLACED), 1);
}

/// A pod of the same name with another uid is another pod: its hello ends the stream of the former.
#[tokio::test]
async fn another_pod_of_the_name_replaces_the_former() {
    let aggregator = Aggregator::start(Limits::default()).await;
    let hello = |instance, uid: &str| {
        let mut hello = aggregator.hello("jazz", instance);
        hello.identity.as_mut().unwrap().pod_uid = uid.to_owned();
        hello
    };
    let mut former = aggregator.connect(hello(1, "uid-1")).await;
    let _other = aggregator.connect(hello(2, "uid-2")).await;
    let status = former.status().await;
    assert_eq!(status.code(), Code::Aborted);
    assert!(status.message().starts_with("replaced"), "{status}");
    assert_eq!(aggregator.metric(REPLACED), 1);
}

/// A stream that has said hello keeps its place, however many come after it.
#[tokio::test]
async fn a_stream_that_said_hello_makes_no_way() {
    let aggregator = Aggregator::start(Limits {
        awaiting_hello: 1,
        ..Limits::default()
    })
    .await;
    let mut first = aggregator.connect(aggregator.hello("jazz", 1)).await;
    let _silent = aggregator.stream().await.unwrap();
    let mut second = aggregator.connect(aggregator.hello("metal", 2)).await;
    aggregator.a_second_later();
    for stream in [&mut first, &mut second] {
        stream.report(aggregator.report(1, 10)).await.unwrap();
    }
    assert_eq!(aggregator.refused("crowded"), 1, "the silent one");
}

/// A sidecar that ends sends its last reports and resets the stream in the same segment, as Envoy
/// does: they count, though nobody reads the answers, and the reset is no refusal.
#[tokio::test]
async fn a_reset_after_data_keeps_the_data() {
    /// More than answers may wait.
    const LAST: u64 = 7;
    let aggregator = Aggregator::start(Limits::default()).await;
    for round in 0..20 {
        let name = format!("jazz-{round}");
        let hello = Frame::Hello(aggregator.hello(&name, 1));
        let mut wire = Wire::open(aggregator.address, hello).await;
        until("connected", || aggregator.streams(&name) == Some(1)).await;
        aggregator.a_second_later();
        let mut reports: Vec<_> = (1..=LAST).map(|n| aggregator.report(n, n * 6)).collect();
        reports.last_mut().unwrap().r#final = true;
        let reports = reports.into_iter().map(Frame::Report).collect();
        let code = if round % 2 == 0 { INTERNAL } else { NO_ERROR };
        wire.send_and_reset(reports, code).await;
        until("closed", || aggregator.streams(&name) != Some(1)).await;
        assert_eq!(aggregator.requests(&name), Some(42), "{name}");
    }
    let metrics = aggregator.metrics();
    let mut refused = metrics
        .lines()
        .filter(|line| line.contains("ingest_refused_total{"));
    assert!(refused.all(|line| line.ends_with(" 0")), "{metrics}");
}

/// A half-closed stream is a closed one: what it sent counts, and it ends without an error.
#[tokio::test]
async fn a_half_closed_stream_ends_in_order() {
    let aggregator = Aggregator::start(Limits::default()).await;
    let mut stream = aggregator.connect(aggregator.hello("jazz", 1)).await;
    aggregator.a_second_later();
    stream.send(Frame::Report(aggregator.report(1, 5))).await;
    stream.half_close();
    assert_eq!(stream.status().await.code(), Code::Ok);
    assert_eq!(aggregator.requests("jazz"), Some(5));
    assert_eq!(aggregator.pod("jazz").streams, 0);
}

/// At shutdown what lies in our buffers is taken in, though its sidecar has made no room for
/// answers until then.
#[tokio::test]
async fn shutdown_takes_in_what_was_received() {
    let aggregator = Aggregator::start(Limits::default()).await;
    let hello = Frame::Hello(aggregator.hello("jazz", 1));
    let mut wire = Wire::open(aggregator.address, hello).await;
    until("connected", || aggregator.streams("jazz") == Some(1)).await;
    aggregator.a_second_later();
    let reports = (1..=10).map(|n| Frame::Report(aggregator.report(n, n * 10)));
    wire.send(reports.collect()).await;
    until("held up", || aggregator.requests("jazz") >= Some(40)).await;
    assert!(aggregator.requests("jazz") < Some(100), "answers have room");
    aggregator.shutdown.cancel();
    wire.make_room().await;
    until("taken in", || aggregator.requests("jazz") == Some(100)).await;
    drop(wire);
    aggregator.ended().await;
}

/// At shutdown every frame that was sent is taken in before the stream ends with UNAVAILABLE, and
/// the server ends without an error.
#[tokio::test]
async fn shutdown_takes_in_what_was_sent() {
    let aggregator = Aggregator::start(Limits::default()).await;
    let mut streams = Vec::new();
    for n in 0..8 {
        let hello = aggregator.hello(&format!("jazz-{n}"), 1);
        streams.push(aggregator.connect(hello).await);
    }
    aggregator.a_second_later();
    for stream in &mut streams {
        for seq in 1..=3 {
            let report = aggregator.report(seq, seq * 100);
            stream.send(Frame::Report(report)).await;
        }
    }
    for stream in &streams {
        until("the reports are on their way", || stream.is_sent()).await;
    }
    aggregator.shutdown.cancel();
    for (n, stream) in streams.iter_mut().enumerate() {
        let status = stream.status().await;
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert_eq!(status.message(), "the aggregator shuts down");
        assert_eq!(aggregator.requests(&format!("jazz-{n}")), Some(300));
    }
    drop(streams);
    aggregator.ended().await;
}
