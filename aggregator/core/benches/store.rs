//! What the store does all day: take in a report, answer a query, forget.
//!
//! `cargo bench -p aggregator-core`. Compare runs of one machine only.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use aggregator_core::limits::StoreLimits;
use aggregator_core::pod::PodKey;
use aggregator_core::query::{Metric, MetricQuery, WindowChoice};
use aggregator_core::report::{
    CounterScope, Hello, InstanceId, ProcessId, Report, ResponseCode, SeriesTotals, StreamId,
};
use aggregator_core::series::{Direction, SeriesKey};
use aggregator_core::store::{Link, Store};
use common_time::{Monotonic, UnixMillis};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

const BEGIN: Monotonic = Monotonic(1_800_000_000_000);
/// Pods of a large cluster, and of the workload that is asked about.
const PODS: u64 = 50_000;
const ASKED: u64 = 1_000;

fn key(pod: u64) -> PodKey {
    PodKey::new("prod", &format!("jazz-v1-{pod:05}"))
}

fn connect(store: &Store, pod: u64) -> Link {
    let hello = Hello {
        pod: key(pod),
        uid: Arc::from(format!("uid-{pod}")),
        node: Arc::from("node"),
        labels: [("app".to_owned(), "jazz".to_owned())].into(),
        instance: InstanceId(pod + 1),
        process: ProcessId(pod + 1),
        scope: CounterScope::Process,
        started_at: UnixMillis(BEGIN.0),
        clock: UnixMillis(BEGIN.0),
        hot_restart: false,
    };
    let connected = store.connect(BEGIN, StreamId(pod + 1), &hello);
    connected.expect("the store has room").link
}

/// The report of second `second` of a busy pod: requests, two classes of responses, time in flight.
fn report(second: u64) -> Report {
    let totals = SeriesTotals {
        requests: Some(second * 25),
        responses: [(2, 24), (5, 1)]
            .map(|(class, count)| (ResponseCode::new(class).expect("a class"), second * count))
            .into(),
        inflight: Some(2),
        inflight_ns: Some(second * 40_000_000),
        ..SeriesTotals::default()
    };
    let inbound = SeriesKey {
        direction: Direction::Inbound,
        cluster: Arc::from(""),
    };
    Report {
        seq: second,
        interval_end: UnixMillis(BEGIN.0) + Duration::from_secs(second),
        interval: Duration::from_secs(1),
        series: vec![(inbound, totals)],
        vms_expected: 3,
        vms_live: 3,
        next_report_within: Duration::from_secs(1),
        snapshot: second == 1,
        is_final: false,
    }
}

/// A store of `pods` pods that reported for `seconds` seconds.
fn store(pods: u64, seconds: u64) -> Store {
    let store = Store::new(StoreLimits::default());
    for pod in 0..pods {
        let link = connect(&store, pod);
        for second in 1..=seconds {
            let report = report(second);
            let applied = store.apply(Monotonic(report.interval_end.0), &link, &report);
            applied.expect("the report is sound");
        }
    }
    store
}

fn apply(criterion: &mut Criterion) {
    let store = store(PODS, 1);
    let link = connect(&store, 7);
    let mut second = 1;
    criterion.bench_function("apply a report", |bencher| {
        bencher.iter_batched(
            || {
                second += 1;
                report(second)
            },
            |report| store.apply(Monotonic(report.interval_end.0), &link, &report),
            BatchSize::SmallInput,
        );
    });
}

fn query(criterion: &mut Criterion) {
    let store = store(PODS, 70);
    let now = BEGIN + Duration::from_secs(70);
    let query = MetricQuery {
        metric: Metric::RequestsPerSecond,
        direction: None,
        cluster: None,
        code_class: None,
        window: WindowChoice::Adaptive,
    };
    let pods: Vec<PodKey> = (0..ASKED).map(key).collect();
    criterion.bench_function("read 1,000 of 50,000 pods", |bencher| {
        bencher.iter(|| store.read(now, black_box(&pods), &query));
    });
    criterion.bench_function("read one pod", |bencher| {
        bencher.iter(|| store.read(now, black_box(&pods[..1]), &query));
    });
}

fn expiry(criterion: &mut Criterion) {
    let store = store(PODS, 2);
    let now = BEGIN + Duration::from_secs(10);
    // Most looks find nothing due: that is the price paid each second.
    criterion.bench_function("expire when nothing is due", |bencher| {
        bencher.iter(|| store.expire(black_box(now)));
    });
}

criterion_group!(benches, apply, query, expiry);
criterion_main!(benches);
