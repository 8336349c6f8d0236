//! The 19 cases of the Remote-Write 1.0 sender compliance suite (`prometheus/compliance`,
//! `remotewrite/sender` at 7667b56d892f), with its assertions, against the production encoder,
//! queue, sender and client. What it expects of a scraper is [`tests_remote_write::scraper`].
//! `docs/REMOTE-WRITE.md` lists them.
#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use aggregator_remote_write::write_request::{STALE_BITS, Sample, TimeSeries};
use common_time::Clock;
use http::StatusCode;
use tests_remote_write::receiver::{Answers, Received, TestReceiver};
use tests_remote_write::scraper::{INSTANCE, scrape};

const OK: (StatusCode, Duration) = (StatusCode::NO_CONTENT, Duration::ZERO);

/// A time that only this test knows: as the suite, it checks that timestamps lie within the run.
fn clock() -> Clock {
    tests_support::clock::system()
}

/// All requests of so many scrapes.
async fn run_with(answers: Answers, scrapes: u32, target: impl Fn(u32) -> String) -> Vec<Received> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let receiver = TestReceiver::start(answers).await.unwrap();
    let sent = scrape(&receiver.url(), &clock(), scrapes, target).await;
    sent.unwrap();
    receiver.received()
}

async fn run(page: &'static str) -> Vec<Received> {
    run_with(Arc::new(|_| OK), 3, |_| page.to_owned()).await
}

/// Every series received, in order.
fn series(received: &[Received]) -> impl Iterator<Item = &TimeSeries> {
    received
        .iter()
        .flat_map(|received| &received.request.timeseries)
}

fn label<'a>(series: &'a TimeSeries, name: &str) -> Option<&'a str> {
    let label = series.labels.iter().find(|label| label.name == name);
    label.map(|label| label.value.as_str())
}

/// Samples of the series that have these labels, in the order they came.
fn samples(received: &[Received], wanted: &[(&str, &str)]) -> Vec<Sample> {
    series(received)
        .filter(|series| {
            wanted
                .iter()
                .all(|(name, value)| label(series, name) == Some(*value))
        })
        .flat_map(|series| series.samples.clone())
        .collect()
}

fn values(received: &[Received], wanted: &[(&str, &str)]) -> Vec<f64> {
    samples(received, wanted)
        .iter()
        .map(|sample| sample.value)
        .collect()
}

#[tokio::test]
async fn case_01_counter() {
    let received = run_with(Arc::new(|_| OK), 10, |nth| format!("counter {nth}\n")).await;
    let expected: Vec<f64> = (0..10).map(f64::from).collect();
    assert_eq!(values(&received, &[("__name__", "counter")]), expected);
}

#[tokio::test]
async fn case_02_gauge() {
    let now = clock();
    let target = move |_| format!("gauge {}\n", now.wall().0);
    let received = run_with(Arc::new(|_| OK), 5, target).await;
    let samples = samples(&received, &[("__name__", "gauge")]);
    assert_eq!(samples.len(), 5);
    for Sample { value, timestamp } in samples {
        let at = f64::from(u32::try_from(timestamp / 1000).unwrap()) * 1e3;
        assert!((value - at).abs() / at < 0.01, "{value} at {timestamp}");
    }
}

#[tokio::test]
async fn case_03_histogram() {
    let received = run("# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"2\"} 2\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n").await;
    for (name, le, value) in [
        ("h_bucket", "1", 1.0),
        ("h_bucket", "2", 2.0),
        ("h_bucket", "+Inf", 2.0),
        ("h_sum", "", 3.0),
        ("h_count", "", 2.0),
    ] {
        let mut wanted = vec![("__name__", name)];
        wanted.extend((!le.is_empty()).then_some(("le", le)));
        assert_eq!(values(&received, &wanted), [value; 3], "{name} {le}");
    }
}

#[tokio::test]
async fn case_04_summary() {
    let received = run("s{quantile=\"0.5\"} 2\ns{quantile=\"0.9\"} 3\ns{quantile=\"0.99\"} 3\ns_sum 6\ns_count 3\n").await;
    for (name, quantile, value) in [
        ("s", "0.5", 2.0),
        ("s", "0.9", 3.0),
        ("s", "0.99", 3.0),
        ("s_sum", "", 6.0),
        ("s_count", "", 3.0),
    ] {
        let mut wanted = vec![("__name__", name)];
        wanted.extend((!quantile.is_empty()).then_some(("quantile", quantile)));
        assert_eq!(values(&received, &wanted), [value; 3], "{name} {quantile}");
    }
}

#[tokio::test]
async fn case_05_up() {
    let received = run("test 1\n").await;
    assert_eq!(
        values(&received, &[("__name__", "up"), ("job", "test")]),
        [1.0; 3]
    );
}

#[tokio::test]
async fn case_06_invalid() {
    let received = run("this is not a page of metrics {\n").await;
    assert_eq!(values(&received, &[("__name__", "up")]), [0.0; 3]);
}

#[tokio::test]
async fn case_07_job_label() {
    let received = run("test 1\n").await;
    assert!(series(&received).all(|series| label(series, "job") == Some("test")));
    assert!(series(&received).count() >= 6);
}

#[tokio::test]
async fn case_08_instance_label() {
    let received = run("test 1\n").await;
    assert!(series(&received).all(|series| label(series, "instance") == Some(INSTANCE)));
}

#[tokio::test]
async fn case_09_sorted_labels() {
    let received = run("test{c=\"1\",a=\"2\",Z=\"3\",b=\"4\"} 1\n").await;
    for series in series(&received) {
        assert!(
            series.labels.is_sorted_by(|a, b| a.name < b.name),
            "{series:?}"
        );
    }
    assert_eq!(
        values(&received, &[("__name__", "test"), ("Z", "3")]),
        [1.0; 3]
    );
}

#[tokio::test]
async fn case_10_repeated_labels() {
    let received = run("test{a=\"1\",a=\"1\"} 1\n").await;
    assert!(values(&received, &[("__name__", "test")]).is_empty());
    assert_eq!(values(&received, &[("__name__", "up")]), [0.0; 3]);
}

#[tokio::test]
async fn case_11_empty_labels() {
    let received = run("test{a=\"\"} 1\n").await;
    assert_eq!(values(&received, &[("__name__", "test")]), [1.0; 3]);
    assert!(series(&received).all(|series| label(series, "a").is_none()));
}

#[tokio::test]
async fn case_12_name_label() {
    let received = run("{label=\"value\"} 1\n").await;
    assert!(series(&received).all(|series| label(series, "__name__").is_some()));
    assert!(values(&received, &[("label", "value")]).is_empty());
}

#[tokio::test]
async fn case_13_honor_labels() {
    let received = run("test{job=\"original\",instance=\"mine\"} 1\n").await;
    let wanted = [
        ("__name__", "test"),
        ("job", "test"),
        ("exported_job", "original"),
        ("exported_instance", "mine"),
    ];
    assert_eq!(values(&received, &wanted), [1.0; 3]);
}

#[tokio::test]
async fn case_14_staleness() {
    let target = |nth| {
        if nth < 2 {
            "test 1\n".to_owned()
        } else {
            String::new()
        }
    };
    let received = run_with(Arc::new(|_| OK), 4, target).await;
    let values = values(&received, &[("__name__", "test")]);
    let bits: Vec<_> = values.iter().map(|value| value.to_bits()).collect();
    assert_eq!(bits, [1f64.to_bits(), 1f64.to_bits(), STALE_BITS]);
}

#[tokio::test]
async fn case_15_timestamp() {
    let begun = clock().wall().0;
    let received = run("test 1\n").await;
    let ended = clock().wall().0;
    let samples = samples(&received, &[("__name__", "test")]);
    let times: Vec<_> = samples.iter().map(|sample| sample.timestamp).collect();
    assert!(times.is_sorted());
    for at in times {
        assert!(
            (begun..=ended).contains(&u64::try_from(at).unwrap()),
            "{at}"
        );
    }
}

#[tokio::test]
async fn case_16_headers() {
    for received in run("test 1\n").await {
        for (name, value) in [
            ("content-encoding", "snappy"),
            ("content-type", "application/x-protobuf"),
            ("x-prometheus-remote-write-version", "0.1.0"),
        ] {
            let all: Vec<_> = received.headers.get_all(name).iter().collect();
            assert_eq!(all, [value], "{name}");
        }
        let agent = received.headers["user-agent"].to_str().unwrap();
        assert!(agent.starts_with("meshmeter/"), "{agent}");
    }
}

/// A thousand series while answers take up to five seconds: each series in order.
#[tokio::test]
async fn case_17_ordering() {
    let slow: Answers = Arc::new(|nth| {
        let delay = (nth as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        (StatusCode::NO_CONTENT, Duration::from_millis(delay % 5_000))
    });
    let page = |nth| {
        (0..1_000).fold(String::new(), |mut page, i| {
            let _ = writeln!(page, "test{{i=\"{i}\"}} {nth}");
            page
        })
    };
    let received = run_with(slow, 5, page).await;
    let mut last: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for series in series(&received) {
        let times = last.entry(format!("{:?}", series.labels)).or_default();
        times.extend(series.samples.iter().map(|sample| sample.timestamp));
    }
    assert_eq!(last.len(), 1_001);
    for (labels, times) in last {
        assert_eq!(times.len(), 5, "{labels}");
        assert!(times.is_sorted_by(|a, b| a < b), "{labels}: {times:?}");
    }
}

/// What a request that is answered first with `status` holds, and what comes after it.
async fn first_answered(status: StatusCode) -> (BTreeSet<i64>, BTreeSet<i64>) {
    let answers = move |nth| {
        if nth == 0 {
            (status, Duration::ZERO)
        } else {
            OK
        }
    };
    let received = run_with(Arc::new(answers), 4, |nth| format!("test {nth}\n")).await;
    let wanted = received[0].request.timeseries[0].labels.clone();
    let times = |received: &[Received]| -> BTreeSet<i64> {
        let of = series(received).filter(|series| series.labels == wanted);
        of.flat_map(|series| series.samples.iter().map(|sample| sample.timestamp))
            .collect()
    };
    (times(&received[..1]), times(&received[1..]))
}

#[tokio::test]
async fn case_18_retries_500() {
    let (first, rest) = first_answered(StatusCode::INTERNAL_SERVER_ERROR).await;
    assert!(first.is_subset(&rest), "{first:?} {rest:?}");
}

#[tokio::test]
async fn case_19_retries_400() {
    let (first, rest) = first_answered(StatusCode::BAD_REQUEST).await;
    assert!(first.is_disjoint(&rest), "{first:?} {rest:?}");
    assert_eq!(rest.len(), 3);
}
