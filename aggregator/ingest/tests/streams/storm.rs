//! Many sidecars at once, and a replica that is behind.

use std::time::Duration;

use aggregator_ingest::Limits;
use common_time::Monotonic;
use proto::v1;
use proto::v1::aggregator_frame;
use proto::v1::sidecar_frame::Frame;
use tonic::Code;

use crate::support::{Aggregator, Stream, until};

const WAITING: &str = "meshmeter_ingest_waiting";

fn line(at_once: usize, waiting: usize) -> Limits {
    Limits {
        at_once,
        waiting,
        ..Limits::default()
    }
}

async fn first_report(aggregator: &Aggregator, stream: &mut Stream) {
    stream.report(aggregator.report(1, 10)).await.unwrap();
}

/// Beyond those that begin and those that wait a sidecar is told when to come back, as the filter
/// reads it; it gets in once another one's first report is in the store.
#[tokio::test]
async fn a_sidecar_too_many_is_told_when_to_come_back() {
    let aggregator = Aggregator::start(line(1, 0)).await;
    let mut first = aggregator.connect(aggregator.hello("jazz", 1)).await;
    let refused = aggregator.stream().await.err().unwrap();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let text = refused.message();
    let rest = text.strip_prefix("other sidecars are taken in first: retry after ");
    let millis = rest.and_then(|rest| rest.strip_suffix(" ms")).unwrap();
    let millis: u64 = millis.parse().unwrap();
    assert!((500..=4000).contains(&millis), "{text}");
    assert_eq!(aggregator.refused("busy"), 1);
    first_report(&aggregator, &mut first).await;
    let mut second = aggregator.connect(aggregator.hello("metal", 2)).await;
    first_report(&aggregator, &mut second).await;
}

/// One that waits begins when another has begun, or has given up, and is not refused.
#[tokio::test]
async fn a_sidecar_waits_for_its_turn() {
    let aggregator = Aggregator::start(line(1, 1)).await;
    for gives_up in [false, true] {
        let mut first = aggregator.connect(aggregator.hello("jazz", 1)).await;
        let first = async {
            until("one waits", || aggregator.metric(WAITING) == 1).await;
            if gives_up {
                drop(first);
                return None;
            }
            first_report(&aggregator, &mut first).await;
            Some(first)
        };
        let second = aggregator.connect(aggregator.hello("metal", 2));
        let (first, mut second) = tokio::join!(first, second);
        first_report(&aggregator, &mut second).await;
        assert_eq!(
            (aggregator.metric(WAITING), aggregator.refused("busy")),
            (0, 0)
        );
        drop((first, second));
        until("both are over", || {
            aggregator.metric("meshmeter_ingest_streams") == 0
        })
        .await;
    }
}

/// While the replica is behind, open streams are asked for longer intervals with their next
/// acknowledgement, and new ones with the answer to their hello; then for their own again. Who
/// reports less often anyway is asked for nothing.
#[tokio::test]
async fn a_replica_that_is_behind_asks_for_fewer_reports() {
    let aggregator = Aggregator::start(Limits::default()).await;
    let mut stream = aggregator.connect(aggregator.hello("jazz", 1)).await;
    first_report(&aggregator, &mut stream).await;
    let mut now = Monotonic(aggregator.now().0);
    let mut ticks = |seconds: u64, late_ms: u64| {
        let from = now;
        while now.since(from) < Duration::from_secs(seconds) {
            now = now + Duration::from_millis(50 + late_ms);
            aggregator.pulse.tick(now);
        }
    };
    let settings = |flush_interval_ms| {
        aggregator_frame::Frame::Settings(v1::Settings {
            flush_interval_ms,
            protocol: proto::PROTOCOL,
        })
    };
    ticks(20, 1000);
    stream.report(aggregator.report(2, 20)).await.unwrap();
    assert_eq!(stream.answer().await.unwrap(), settings(5000));
    // Once told, it is not told again.
    stream.report(aggregator.report(3, 30)).await.unwrap();
    stream.report(aggregator.report(4, 40)).await.unwrap();
    for (own_ms, asked_ms) in [(1000, 5000), (60_000, 0)] {
        let mut hello = aggregator.hello("metal", 2);
        hello.flush_interval_ms = own_ms;
        let mut other = aggregator.stream().await.unwrap();
        other.send(Frame::Hello(hello)).await;
        assert_eq!(
            other.answer().await.unwrap(),
            settings(asked_ms),
            "{own_ms}"
        );
    }
    ticks(65, 0);
    stream.report(aggregator.report(5, 50)).await.unwrap();
    assert_eq!(stream.answer().await.unwrap(), settings(0));
}
