use super::*;

fn hello_frame() -> v1::Hello {
    v1::Hello {
        identity: Some(v1::Identity {
            namespace: "prod".to_owned(),
            pod: "jazz-v1-abc.0".to_owned(),
            pod_uid: "5e4b8a1c".to_owned(),
            node: "node-1".to_owned(),
            labels: [("app".to_owned(), "jazz".to_owned())].into(),
        }),
        instance: 1,
        process: 2,
        scope: v1::CounterScope::Vm.into(),
        started_at_unix_ms: 1_000,
        clock_unix_ms: 2_000,
        flush_interval_ms: 1000,
        build: "0.1.0+ab12cd3".to_owned(),
        protocol: 1,
        hot_restart: false,
    }
}

fn report_frame() -> v1::Report {
    v1::Report {
        seq: 1,
        interval_end_unix_ms: 2_000,
        interval_ms: 1000,
        series: vec![series_frame("a"), series_frame("b")],
        vms_expected: 3,
        vms_live: 2,
        next_report_within_ms: 1000,
        snapshot: true,
        r#final: false,
        refused: None,
    }
}

fn series_frame(cluster: &str) -> v1::Series {
    v1::Series {
        direction: v1::Direction::Outbound.into(),
        cluster: cluster.to_owned(),
        requests: Some(3),
        responses: vec![
            v1::Responses { code: 0, total: 1 },
            v1::Responses {
                code: 503,
                total: 2,
            },
        ],
        ..v1::Series::default()
    }
}

/// Each change of a good frame makes an error.
macro_rules! refused {
    ($parse:ident, $good:ident, $frame:ty; $($change:expr => $expected:expr;)+) => {$(
        let mut frame = $good();
        let change: fn(&mut $frame) = $change;
        change(&mut frame);
        assert_eq!($parse(frame).unwrap_err().to_string(), $expected);
    )+};
}

/// Every field of a good hello arrives.
#[test]
fn a_good_hello() {
    let hello = hello(hello_frame()).unwrap();
    assert_eq!(hello.pod, PodKey::new("prod", "jazz-v1-abc.0"));
    assert_eq!((&*hello.uid, &*hello.node), ("5e4b8a1c", "node-1"));
    assert_eq!(hello.labels["app"], "jazz");
    assert_eq!(
        (hello.instance, hello.process),
        (InstanceId(1), ProcessId(2))
    );
    assert_eq!(hello.scope, CounterScope::Vm);
    assert_eq!(hello.started_at, UnixMillis(1_000));
    assert_eq!(hello.clock, UnixMillis(2_000));
}

/// Every field of a good report arrives; a counter that is not reported stays `None`.
#[test]
fn a_good_report() {
    let report = report(report_frame()).unwrap();
    assert_eq!((report.seq, report.interval_end), (1, UnixMillis(2_000)));
    assert_eq!(report.interval, Duration::from_secs(1));
    assert_eq!((report.vms_expected, report.vms_live), (3, 2));
    assert_eq!(report.next_report_within, Duration::from_secs(1));
    assert_eq!((report.snapshot, report.is_final), (true, false));
    let (key, totals) = &report.series[0];
    assert_eq!((key.direction, &*key.cluster), (Direction::Outbound, "a"));
    assert_eq!(totals.requests, Some(3));
    assert_eq!(totals.upstream_attempts, None);
    assert_eq!(totals.inflight_ns, None);
    assert_eq!(totals.responses[&ResponseCode::new(503).unwrap()], 2);
}

/// Every bad value of a hello is refused by field and value.
#[test]
fn bad_hellos() {
    fn identity(hello: &mut v1::Hello) -> &mut v1::Identity {
        hello.identity.as_mut().unwrap()
    }
    refused! { hello, hello_frame, v1::Hello;
        |h| h.identity = None => "hello.identity: missing";
        |h| identity(h).namespace.clear() => "hello.identity.namespace: missing";
        |h| identity(h).namespace = "n".repeat(64)
            => "hello.identity.namespace: 64 bytes, at most 63";
        |h| identity(h).pod.clear() => "hello.identity.pod: missing";
        |h| identity(h).pod = "p".repeat(254) => "hello.identity.pod: 254 bytes, at most 253";
        |h| identity(h).pod = "Jazz".to_owned()
            => "hello.identity.pod: \"Jazz\", expected lower-case letters, digits, '-' and '.'";
        |h| identity(h).pod = "jazz-.1".to_owned()
            => "hello.identity.pod: \"jazz-.1\", expected a letter or a digit at the beginning, at the end and beside each '.'";
        |h| identity(h).namespace = "dj.app".to_owned()
            => "hello.identity.namespace: \"dj.app\", expected lower-case letters, digits and '-'";
        |h| identity(h).pod_uid = "u".repeat(65) => "hello.identity.pod_uid: 65 bytes, at most 64";
        |h| identity(h).node = "a\nb".to_owned()
            => "hello.identity.node: \"a\\nb\", expected no control characters";
        |h| {
            let label = |n| (format!("label-{n}"), String::new());
            identity(h).labels = (0..65).map(label).collect();
        } => "hello.identity.labels: 65 elements, at most 64";
        |h| identity(h).labels = [("k".repeat(318), String::new())].into()
            => "hello.identity.labels key \"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk\": 318 bytes, at most 317";
        |h| identity(h).labels = [("app".to_owned(), "v".repeat(64))].into()
            => "hello.identity.labels[\"app\"]: 64 bytes, at most 63";
        |h| {
            let label = |n| (format!("{}{n:02}", "k".repeat(300)), String::new());
            identity(h).labels = (0..60).map(label).collect();
        } => "hello.identity.labels: 18120 bytes, at most 16384";
        |h| h.instance = 0 => "hello.instance: 0, expected at least 1";
        |h| h.process = 0 => "hello.process: 0, expected at least 1";
        |h| h.scope = 0 => "hello.scope: 0, expected 1 (process) or 2 (VM)";
        |h| h.scope = 9 => "hello.scope: 9, expected 1 (process) or 2 (VM)";
        |h| h.started_at_unix_ms = 0
            => "hello.started_at_unix_ms: 0, expected 1 to 253402300799999";
        |h| h.clock_unix_ms = u64::MAX
            => "hello.clock_unix_ms: 18446744073709551615, expected 1 to 253402300799999";
        |h| h.flush_interval_ms = 99 => "hello.flush_interval_ms: 99, expected 100 to 60000";
        |h| h.build = "b".repeat(129) => "hello.build: 129 bytes, at most 128";
        |h| h.protocol = 0 => "hello.protocol: 0, expected at least 1";
    }
}

/// Every bad value of a report is refused by field and value.
#[test]
fn bad_reports() {
    refused! { report, report_frame, v1::Report;
        |r| r.seq = 0 => "report.seq: 0, expected at least 1";
        |r| r.interval_end_unix_ms = 0
            => "report.interval_end_unix_ms: 0, expected 1 to 253402300799999";
        |r| r.next_report_within_ms = 0 => "report.next_report_within_ms: 0, expected 1 to 120000";
        |r| r.vms_expected = 5000 => "report.vms_expected: 5000, expected 0 to 4096";
        |r| r.vms_live = 5000 => "report.vms_live: 5000, expected 0 to 4096";
        |r| r.series = vec![v1::Series::default(); 257]
            => "report.series: 257 elements, at most 256";
        |r| r.series[1].direction = 3
            => "report.series[1].direction: 3, expected 1 (inbound) or 2 (outbound)";
        |r| r.series[1].cluster = "a".to_owned()
            => "report.series[1]: outbound \"a\", the same series as report.series[0]";
        |r| r.series[1].responses = vec![v1::Responses::default(); 507]
            => "report.series[1].responses: 507 elements, at most 506";
        |r| r.series[0].responses[1].code = 99
            => "report.series[0].responses[1].code: 99, expected 0 (none), 1 to 5 (a class) or 100 to 599 (a status)";
        |r| r.series[0].responses[1].code = 0
            => "report.series[0].responses[1].code: 0, reported twice";
    }
}

/// The last report of a sidecar promises nothing.
#[test]
fn a_final_report_needs_no_promise() {
    let mut frame = report_frame();
    (frame.r#final, frame.next_report_within_ms) = (true, 0);
    assert!(report(frame).unwrap().is_final);
}

/// As a search from the front finds it, in all lists of up to five entries of three series.
#[test]
fn the_first_repeated_series_is_found() {
    let key = |number: usize| SeriesKey {
        direction: Direction::Outbound,
        cluster: ["c", "a", "b"][number].into(),
    };
    let mut seen = 0;
    for length in 0..=5_u32 {
        for number in 0..3_usize.pow(length) {
            let digits = (0..length).map(|place| number / 3_usize.pow(place) % 3);
            let all: Vec<_> = digits.map(|digit| (key(digit), ())).collect();
            let expected = (0..all.len()).find_map(|again| {
                let first = (0..again).find(|first| all[*first].0 == all[again].0)?;
                Some((first, again))
            });
            assert_eq!(first_repeated(&all), expected, "{all:?}");
            seen += usize::from(expected.is_some());
        }
    }
    assert!(seen > 300);
}
