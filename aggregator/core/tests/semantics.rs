//! Runs the examples of `docs/SEMANTICS.md` on the store, so that the document cannot say what is
//! not so.
//!
//! Each line of an `example` block is one step; the times are seconds on the aggregator's clock:
//!
//! - `at T POD connects`: a sidecar whose counters begin at 0 then;
//! - `at T POD reports N`: its running total, at the end of an interval of a second;
//! - `each second from T to U POD counts N`: such a report each second, each N higher;
//! - `at T POD disconnects`: its stream ends without a final report;
//! - `at T read POD window=W gives V over L as of U`, or `… gives no value: REASON`; W is
//!   `adaptive` or seconds.

use std::collections::BTreeMap;
use std::time::Duration;

use aggregator_core::limits::StoreLimits;
use aggregator_core::pod::{Labels, PodKey};
use aggregator_core::query::{Metric, MetricQuery, WindowChoice};
use aggregator_core::report::{
    CounterScope, Hello, InstanceId, ProcessId, Report, SeriesTotals, StreamId,
};
use aggregator_core::series::{Direction, SeriesKey};
use aggregator_core::store::{Link, Store};
use common_time::{Monotonic, UnixMillis};

const DOCUMENT: &str = include_str!("../../../docs/SEMANTICS.md");

/// Examples that the document must have at least: fewer mean that they are not found.
const EXAMPLES_MIN: usize = 6;

/// Time 0 of each example.
const START: Monotonic = Monotonic(1_800_000_000_000);

/// One example on its way.
struct Stage {
    store: Store,
    sidecars: BTreeMap<String, Sidecar>,
    streams: u64,
}

struct Sidecar {
    link: Link,
    total: u64,
    seq: u64,
}

/// Every example of the document holds, line by line.
#[test]
fn every_example_holds() {
    let examples = examples(DOCUMENT);
    assert!(examples.len() >= EXAMPLES_MIN, "{} found", examples.len());
    let reads: usize = examples
        .iter()
        .map(|lines| lines.iter().filter(|line| line.contains(" gives ")).count())
        .sum();
    assert!(reads >= examples.len(), "an example reads nothing");
    for lines in examples {
        let mut stage = Stage::new();
        for line in lines {
            stage.step(line);
        }
    }
}

/// A wrong number is noticed.
#[test]
#[should_panic(expected = "gives 9/s")]
fn a_wrong_example_fails() {
    let mut stage = Stage::new();
    stage.step("at 0 a connects");
    stage.step("each second from 1 to 5 a counts 10");
    stage.step("at 5 read a window=5 gives 9/s over 5 as of 5");
}

/// The lines of each block.
fn examples(document: &str) -> Vec<Vec<&str>> {
    let blocks = document.split("```example\n").skip(1);
    blocks
        .map(|rest| {
            let body = rest.split("```").next().unwrap_or_default();
            body.lines()
                .filter(|line| !line.trim().is_empty())
                .collect()
        })
        .collect()
}

// === impl Stage ===

impl Stage {
    fn new() -> Self {
        Self {
            store: Store::new(StoreLimits::default()),
            sidecars: BTreeMap::new(),
            streams: 0,
        }
    }

    fn step(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["at", time, pod, "connects"] => self.connect(at(time), pod),
            ["at", time, pod, "disconnects"] => {
                self.store.disconnect(at(time), &self.sidecars[*pod].link);
            }
            ["at", time, pod, "reports", total] => {
                self.report(at(time), pod, total.parse().expect(line));
            }
            [
                "each",
                "second",
                "from",
                from,
                "to",
                to,
                pod,
                "counts",
                more,
            ] => {
                let more: u64 = more.parse().expect(line);
                let mut now = at(from);
                while now <= at(to) {
                    let total = self.sidecars[*pod].total + more;
                    self.report(now, pod, total);
                    now = now + Duration::from_secs(1);
                }
            }
            ["at", time, "read", pod, window, "gives", expected @ ..] => {
                let given = self.read(at(time), pod, window);
                assert_eq!(given, expected.join(" "), "gives {}: {line}", expected[0]);
            }
            _ => panic!("no such step: {line}"),
        }
    }

    fn connect(&mut self, now: Monotonic, pod: &str) {
        self.streams += 1;
        let number = self.streams;
        let hello = Hello {
            pod: PodKey::new("prod", pod),
            uid: "".into(),
            node: "".into(),
            labels: Labels::default(),
            instance: InstanceId(number),
            process: ProcessId(number),
            scope: CounterScope::Process,
            started_at: UnixMillis(now.0),
            clock: UnixMillis(now.0),
            hot_restart: false,
        };
        let connected = self.store.connect(now, StreamId(number), &hello);
        let sidecar = Sidecar {
            link: connected.expect("accepted").link,
            total: 0,
            seq: 0,
        };
        self.sidecars.insert(pod.to_owned(), sidecar);
    }

    fn report(&mut self, now: Monotonic, pod: &str, total: u64) {
        let sidecar = self.sidecars.get_mut(pod).expect("connected before");
        sidecar.total = total;
        sidecar.seq += 1;
        let key = SeriesKey {
            direction: Direction::Inbound,
            cluster: "".into(),
        };
        let totals = SeriesTotals {
            requests: Some(total),
            ..SeriesTotals::default()
        };
        let report = Report {
            seq: sidecar.seq,
            interval_end: UnixMillis(now.0),
            interval: Duration::from_secs(1),
            series: vec![(key, totals)],
            vms_expected: 1,
            vms_live: 1,
            next_report_within: Duration::from_secs(1),
            snapshot: sidecar.seq == 1,
            is_final: false,
        };
        self.store
            .apply(now, &sidecar.link, &report)
            .expect("taken in");
    }

    fn read(&self, now: Monotonic, pod: &str, window: &str) -> String {
        let window = match window.strip_prefix("window=").expect("window=…") {
            "adaptive" => WindowChoice::Adaptive,
            seconds => WindowChoice::Fixed(at(seconds).since(START)),
        };
        let query = MetricQuery {
            metric: Metric::RequestsPerSecond,
            direction: None,
            cluster: None,
            code_class: None,
            window,
        };
        let pods = [PodKey::new("prod", pod)];
        let answer = self.store.read(now, &pods, &query);
        match (answer.readings.first(), answer.missing.first()) {
            (Some(reading), _) => format!(
                "{}/s over {} as of {}",
                thousandths(reading.value.0.into()),
                thousandths(reading.window.as_millis()),
                thousandths(reading.timestamp.since(START).as_millis())
            ),
            (None, Some((_, why))) => format!("no value: {why:?}"),
            (None, None) => "nothing".to_owned(),
        }
    }
}

/// The moment `seconds` after the start of the example.
fn at(seconds: &str) -> Monotonic {
    let seconds: f64 = seconds.parse().expect("seconds");
    START + Duration::from_secs_f64(seconds)
}

/// A number of thousandths, without needless zeros.
fn thousandths(number: u128) -> String {
    let text = format!("{}.{:03}", number / 1000, number % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
