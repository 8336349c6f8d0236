//! What Remote-Write 2.0 demands of a sender, and of one that also speaks 1.0: each MUST of the
//! public sender suite (`prometheus/compliance`, `remotewrite/sender`) that concerns what is sent
//! here, against the production encoder, queue, sender and client. `docs/REMOTE-WRITE.md` lists
//! them.
#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aggregator_remote_write::protocol::Version;
use aggregator_remote_write::write_request::{STALE_BITS, v2};
use http::{Method, StatusCode};
use tests_remote_write::receiver::{Answers, Received, TestReceiver, Written};
use tests_remote_write::scraper::scrape_in;

const OK: (StatusCode, Duration) = (StatusCode::NO_CONTENT, Duration::ZERO);

/// As a receiver of 2.0: all of it, if it is stored.
const ALL: Written = |received| {
    let series = &received.request_v2.timeseries;
    let samples = series.iter().map(|series| series.samples.len()).sum();
    Some(if received.status.is_success() {
        samples
    } else {
        0
    })
};

async fn run_with(answers: Answers, written: Written, scrapes: u32, page: &str) -> Vec<Received> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let receiver = TestReceiver::start_with(answers, written).await.unwrap();
    let clock = tests_support::clock::system();
    let url = receiver.url();
    let sent = scrape_in(Version::V2, &url, &clock, scrapes, |_| page.to_owned());
    sent.await.unwrap();
    receiver.received()
}

async fn run(page: &str) -> Vec<Received> {
    run_with(Arc::new(|_| OK), ALL, 2, page).await
}

/// The answer `first` to the first requests, so many, and 204 to all others.
fn first(status: StatusCode, times: usize) -> Answers {
    Arc::new(move |nth| {
        (
            if nth < times {
                status
            } else {
                StatusCode::NO_CONTENT
            },
            Duration::ZERO,
        )
    })
}

/// Labels of a series by name, and its samples' bits and times.
type Read = (BTreeMap<String, String>, Vec<(u64, i64)>);

fn read(request: &v2::Request) -> Vec<Read> {
    let text = |index: &u32| request.symbols[*index as usize].clone();
    let series = request.timeseries.iter().map(|series| {
        let labels = series.labels_refs.chunks(2);
        let labels = labels.map(|pair| (text(&pair[0]), text(&pair[1])));
        let samples = series.samples.iter();
        let samples = samples.map(|sample| (sample.value.to_bits(), sample.timestamp));
        (labels.collect(), samples.collect())
    });
    series.collect()
}

fn values(received: &[Received], name: &str) -> Vec<u64> {
    let all = received
        .iter()
        .flat_map(|received| read(&received.request_v2));
    let named = all.filter(|(labels, _)| labels["__name__"] == name);
    named
        .flat_map(|(_, samples)| samples)
        .map(|(bits, _)| bits)
        .collect()
}

/// Of the file `protocol`: method, headers, block format, message.
#[tokio::test]
async fn protocol() {
    let received = run("a 1\n").await;
    assert_eq!(received.len(), 2);
    for received in received {
        assert_eq!(received.method, Method::POST);
        for (name, value) in [
            ("content-encoding", "snappy"),
            (
                "content-type",
                "application/x-protobuf;proto=io.prometheus.write.v2.Request",
            ),
            ("x-prometheus-remote-write-version", "2.0.0"),
        ] {
            let all: Vec<_> = received.headers.get_all(name).iter().collect();
            assert_eq!(all, [value], "{name}");
        }
        assert!(
            received.headers["user-agent"]
                .to_str()
                .unwrap()
                .starts_with("meshmeter/")
        );
        // Decoded, or it would not be here: `TestReceiver` takes nothing but Snappy's block format.
        assert!(!received.request_v2.timeseries.is_empty());
    }
}

/// A flush of some series is one request: what looks for one of them in the last request finds it.
#[tokio::test]
async fn a_small_flush_is_one_request() {
    let received = run("a 1\nb 2\nc 3\nd{x=\"1\"} 4\ne 5\n").await;
    assert_eq!(received.len(), 2, "two scrapes of six series");
    assert!(
        received
            .iter()
            .all(|one| one.request_v2.timeseries.len() == 6)
    );
}

/// Of `samples` and `edge_cases`: every value as its bits, in the order of time.
#[tokio::test]
async fn samples() {
    let page = "float 1.5\ninteger 7\nzero 0\nnegative -3.25\ninf +Inf\nneg_inf -Inf\nnan NaN\nlarge 1.7976931348623157e308\nsmall 4.9e-324\nscientific 1.234e-5\nwith:colons 1\n";
    let received = run(page).await;
    for (name, value) in [
        ("float", 1.5),
        ("integer", 7.0),
        ("zero", 0.0),
        ("negative", -3.25),
        ("inf", f64::INFINITY),
        ("neg_inf", f64::NEG_INFINITY),
        ("large", f64::MAX),
        ("small", f64::from_bits(1)),
        ("scientific", 1.234e-5),
        ("with:colons", 1.0),
    ] {
        assert_eq!(values(&received, name), [value.to_bits(); 2], "{name}");
    }
    let nan = values(&received, "nan");
    assert!(
        nan.iter()
            .all(|bits| f64::from_bits(*bits).is_nan() && *bits != STALE_BITS)
    );
    let now = i64::try_from(tests_support::clock::unix().0).unwrap();
    let mut last: BTreeMap<String, i64> = BTreeMap::new();
    for received in &received {
        for (labels, samples) in read(&received.request_v2) {
            for (_, at) in samples {
                assert!(now - at < 60_000 && at <= now, "milliseconds of now: {at}");
                let before = last.insert(format!("{labels:?}"), at);
                assert!(before < Some(at), "in order");
            }
        }
    }
}

/// Of `labels`, `symbols` and `metadata`.
#[tokio::test]
async fn labels_and_symbols() {
    let received =
        run("m{z=\"1\",a=\"日本語\",b=\"a b;c/d\",e=\"\"} 1\nother{a=\"日本語\"} 2\n").await;
    for received in &received {
        let request = &received.request_v2;
        assert_eq!(request.symbols[0], "");
        let count = u32::try_from(request.symbols.len()).unwrap();
        for series in &request.timeseries {
            assert!(series.labels_refs.len().is_multiple_of(2));
            assert!(
                series
                    .labels_refs
                    .iter()
                    .all(|index| *index < count && *index > 0)
            );
            assert!(series.metadata.unwrap().help_ref < count);
            let names: Vec<_> = series.labels_refs.iter().step_by(2).collect();
            let names: Vec<_> = names
                .iter()
                .map(|at| request.symbols[**at as usize].as_str())
                .collect();
            assert!(
                names.is_sorted_by(|a, b| a < b),
                "sorted, and none twice: {names:?}"
            );
            assert!(names.contains(&"__name__"));
        }
        let found = read(request);
        let (labels, _) = found
            .iter()
            .find(|(labels, _)| labels["__name__"] == "m")
            .unwrap();
        assert_eq!(labels["a"], "日本語");
        assert_eq!(labels["b"], "a b;c/d");
        assert!(!labels.contains_key("e"));
    }
}

/// How often a request that is answered first with `status` comes, and how many follow it, in which
/// version.
async fn after(status: StatusCode, times: usize) -> (usize, Vec<Received>) {
    let received = run_with(first(status, times), ALL, 3, "a 1\n").await;
    let at = read(&received[0].request_v2)[0].1[0].1;
    let same = |one: &&Received| {
        read(&one.request_v2)
            .iter()
            .any(|(_, samples)| samples.iter().any(|(_, t)| *t == at))
    };
    (received.iter().filter(same).count(), received)
}

/// Of `retry`, `backoff`, `error_handling` and `response`: 5xx again and with growing waits, 400
/// never, and it goes on.
#[tokio::test]
async fn retries() {
    for status in [500, 503] {
        let (times, received) = after(StatusCode::from_u16(status).unwrap(), 2).await;
        assert_eq!((times, received.len()), (3, 5), "{status}");
    }
    for status in [400, 409, 422] {
        let (times, received) = after(StatusCode::from_u16(status).unwrap(), 1).await;
        assert_eq!((times, received.len()), (1, 3), "{status}");
        assert!(
            received.iter().all(|one| one.version == Version::V2),
            "{status}"
        );
    }
    for status in [200, 204] {
        let (times, received) = after(StatusCode::from_u16(status).unwrap(), 1).await;
        assert_eq!((times, received.len()), (1, 3), "{status}");
        assert!(
            received.iter().all(|one| one.version == Version::V2),
            "no fallback on 2xx"
        );
    }
}

/// Of `fallback` and `rw1_compat`: after 415, and after a 2xx without a word on what was written,
/// the same samples in 1.0, with the headers and the message of 1.0, and everything after them too.
#[tokio::test]
async fn fallback() {
    let unsupported = first(StatusCode::UNSUPPORTED_MEDIA_TYPE, 1);
    let silent: Answers = Arc::new(|_| OK);
    for (answers, written) in [(unsupported, ALL), (silent, |_| None)] {
        let received = run_with(answers, written, 3, "a{b=\"日本語\"} 1.5\n").await;
        let versions: Vec<_> = received.iter().map(|one| one.version).collect();
        assert_eq!(
            versions,
            [Version::V2, Version::V1, Version::V1, Version::V1]
        );
        let (labels, samples) = read(&received[0].request_v2).remove(0);
        let again = &received[1];
        assert_eq!(again.headers["content-type"], "application/x-protobuf");
        assert_eq!(again.headers["x-prometheus-remote-write-version"], "0.1.0");
        let series = &again.request.timeseries[0];
        let told: BTreeMap<_, _> = series
            .labels
            .iter()
            .map(|label| (label.name.clone(), label.value.clone()))
            .collect();
        assert_eq!(told, labels);
        let told: Vec<_> = series
            .samples
            .iter()
            .map(|s| (s.value.to_bits(), s.timestamp))
            .collect();
        assert_eq!(told, samples);
        assert!(again.request_v2.symbols.is_empty());
    }
}

/// A receiver that knows 2.0 and refuses the first request in part goes on to get 2.0, and nothing
/// twice.
#[tokio::test]
async fn a_partial_refusal_is_no_fallback() {
    for written in [ALL, |_| Some(1), |one| one.status.is_success().then_some(2)] {
        let answers = first(StatusCode::BAD_REQUEST, 1);
        let received = run_with(answers, written, 3, "a 1\n").await;
        assert_eq!(received.len(), 3);
        assert!(received.iter().all(|one| one.version == Version::V2));
    }
}
