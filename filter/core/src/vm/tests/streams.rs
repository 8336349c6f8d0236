//! Who streams, and when what is sent.

use proto::v1;

use super::sidecar::{CONFIG, Network, Sidecar};
use super::usual as sidecar;
use super::*;

/// One VM streams, whichever ticks first: that of the main thread, which is configured first.
#[test]
fn the_main_thread_streams_for_all() {
    let mut sidecar = sidecar();
    sidecar.request(1, Some(200));
    sidecar.request(2, Some(503));
    // Workers tick before the main thread.
    for _ in 0..30 {
        sidecar.process.advance_ms(100);
        for vm in [2, 1, 0] {
            sidecar.tick(vm);
        }
        sidecar.deliver(Network::Fine);
    }
    assert_eq!(sidecar.aggregator.requests(), 2);
    assert_eq!(sidecar.aggregator.responses(2), 1);
    assert_eq!(sidecar.aggregator.responses(5), 1);
    let hello = sidecar.aggregator.only_hello();
    assert_eq!(hello.scope(), v1::CounterScope::Process);
    assert_eq!(hello.identity.as_ref().unwrap().pod, "dj-1");
    assert_eq!(hello.protocol, proto::PROTOCOL);
    let report = sidecar.aggregator.last_report();
    assert_eq!((report.vms_expected, report.vms_live), (3, 3));
    assert_eq!(sidecar.streaming(), [0]);
}

/// A VM that is configured and thrown away leaves no trace: no stream, no metric, no shared data.
#[test]
fn a_canary_leaves_no_trace() {
    let process = FakeProcess::new(1);
    let mut vm = Vm::new(process.host(), Module::Filter);
    vm.on_configure(RootId(1), CONFIG.as_bytes());
    assert_eq!(process.traces(), 0);
    assert_eq!(vm.host().take_calls(), []);
}

/// The first report of a stream has every series, a later one only what changed since the
/// acknowledged one.
#[test]
fn only_what_changed_is_sent_again() {
    let mut sidecar = sidecar();
    sidecar.request(1, Some(200));
    sidecar.run(20, Network::Fine);
    let reports = sidecar.aggregator.take_reports();
    assert!(reports[0].snapshot);
    assert_eq!(reports[0].seq, 1);
    assert_eq!(reports[0].series.len(), 1);
    // Without news reports go on, but hold nothing.
    sidecar.run(20, Network::Fine);
    let reports = sidecar.aggregator.take_reports();
    assert!(!reports.is_empty());
    assert!(
        reports
            .iter()
            .all(|report| report.series.is_empty() && !report.snapshot)
    );
    sidecar.request(2, None);
    sidecar.run(20, Network::Fine);
    let reports = sidecar.aggregator.take_reports();
    let series: Vec<_> = reports.iter().flat_map(|report| &report.series).collect();
    assert_eq!(series.len(), 1);
    assert_eq!(series[0].requests, Some(2));
    assert_eq!(series[0].inflight, Some(0));
    assert_eq!(
        series[0].responses,
        [
            v1::Responses { code: 0, total: 1 },
            v1::Responses { code: 2, total: 1 }
        ]
    );
}

/// Reports come each flush interval for a minute after a change, then every ten seconds; a change
/// after that is told at the next tick. Each report keeps the promise of the one before.
#[test]
fn reports_come_as_promised() {
    let mut sidecar = sidecar();
    sidecar.request(1, Some(200));
    sidecar.run(20, Network::Fine);
    sidecar.aggregator.take_reports();
    sidecar.run(300, Network::Fine);
    let reports = sidecar.aggregator.take_reports();
    assert!(
        (29..=31).contains(&reports.len()),
        "{} in 30 s",
        reports.len()
    );
    assert!(
        reports
            .iter()
            .all(|report| report.next_report_within_ms == 1000)
    );
    // A minute later it rests.
    sidecar.run(400, Network::Fine);
    sidecar.aggregator.take_reports();
    sidecar.run(300, Network::Fine);
    let reports = sidecar.aggregator.take_reports();
    assert_eq!(reports.len(), 3, "one each 10 s");
    assert!(
        reports
            .iter()
            .all(|report| report.next_report_within_ms == 10_000)
    );
    sidecar.run(15, Network::Fine);
    sidecar.aggregator.take_reports();
    sidecar.request(1, Some(200));
    sidecar.run(2, Network::Fine);
    let reports = sidecar.aggregator.take_reports();
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].series[0].requests, Some(2));
    assert!(reports[0].interval_ms <= 300, "{}", reports[0].interval_ms);
}

/// A report that is not acknowledged holds back the next one, and after five seconds costs the
/// stream its life.
#[test]
fn one_report_at_a_time() {
    let mut sidecar = sidecar();
    sidecar.run(20, Network::Fine);
    sidecar.aggregator.take_reports();
    sidecar.request(1, Some(200));
    sidecar.run(45, Network::LosesAcks);
    assert_eq!(sidecar.aggregator.take_reports().len(), 1);
    let lines = sidecar.vms[0].as_ref().unwrap().host().log_lines();
    assert!(lines.is_empty(), "{lines:?}");
    sidecar.run(30, Network::LosesAcks);
    let reports = sidecar.aggregator.take_reports();
    assert!(reports[0].snapshot, "a new stream begins with everything");
    assert_eq!(reports[0].series[0].requests, Some(1));
    let lines = sidecar.vms[0].as_ref().unwrap().host().log_lines();
    assert!(lines[0].1.contains("no acknowledgement"), "{lines:?}");
}

/// An acknowledgement that is late, but not too late, holds the next report back and costs neither
/// a count nor the stream.
#[test]
fn a_late_acknowledgement_holds_the_next_report_back() {
    let mut sidecar = sidecar();
    sidecar.run(20, Network::Fine);
    for _ in 0..5 {
        sidecar.aggregator.take_reports();
        for _ in 0..30 {
            sidecar.request(1, Some(200));
            sidecar.process.advance_ms(100);
            (0..3).for_each(|vm| sidecar.tick(vm));
        }
        sidecar.deliver(Network::Fine);
        assert_eq!(sidecar.aggregator.take_reports().len(), 1, "in 3 s");
    }
    sidecar.run(20, Network::Fine);
    assert_eq!(sidecar.aggregator.requests(), 150);
    sidecar.aggregator.only_hello();
}

/// Under load a report covers the time from the end of the one before to now: no gap, no overlap.
#[test]
fn reports_adjoin() {
    let mut sidecar = sidecar();
    let mut ends = Vec::new();
    for _ in 0..250 {
        sidecar.request(1, Some(200));
        sidecar.run(1, Network::Fine);
        for report in sidecar.aggregator.take_reports() {
            let end = report.interval_end_unix_ms;
            assert_eq!(end, sidecar.process.unix_ms());
            let begin = end - u64::from(report.interval_ms);
            assert!(
                ends.last().is_none_or(|last| *last == begin),
                "{begin}: {ends:?}"
            );
            ends.push(end);
        }
    }
    assert!(ends.len() > 20, "{ends:?}");
}

/// The aggregator's wish for another flush interval holds, within bounds, and for later streams
/// too.
#[test]
fn settings_are_adopted() {
    for (wish, interval) in [(0, 1000), (250, 250), (4000, 4000), (1, 100)] {
        let mut sidecar = sidecar();
        sidecar.aggregator.settings = wish;
        sidecar.request(1, Some(200));
        sidecar.run(20, Network::Fine);
        sidecar.aggregator.take_reports();
        for _ in 0..400 {
            sidecar.request(1, Some(200));
            sidecar.run(1, Network::Fine);
        }
        let reports = sidecar.aggregator.take_reports();
        // A report may come half a tick early.
        let (fewest, most) = (40_000 / interval * 8 / 10, 40_000 / (interval - 50));
        let reported = u32::try_from(reports.len()).unwrap();
        assert!(
            (fewest..=most).contains(&reported),
            "{wish}: {reported} in 40 s"
        );
        let as_promised = |report: &v1::Report| report.next_report_within_ms == interval;
        assert!(reports.iter().all(as_promised), "{wish}");
        sidecar.deliver(Network::Ends(14));
        sidecar.run(20, Network::Fine);
        assert_eq!(sidecar.aggregator.last_hello().flush_interval_ms, interval);
    }
}

/// Whatever status a stream ends with, another is opened within a second or so; an unexpected one
/// is logged once.
#[test]
fn an_ended_stream_is_opened_again() {
    let mut sidecar = sidecar();
    sidecar.run(20, Network::Fine);
    let host = sidecar.vms[0].as_ref().unwrap().host().clone();
    host.set_close_message("report.series[0].cluster: 300 bytes, at most 256");
    for _ in 0..5 {
        sidecar.deliver(Network::Ends(3));
        let before = sidecar.aggregator.hellos.len();
        sidecar.run(11, Network::Fine);
        assert_eq!(sidecar.aggregator.hellos.len(), before + 1);
        sidecar.deliver(Network::Ends(14));
        sidecar.run(11, Network::Fine);
        assert_eq!(host.streams_held(), 1, "ended streams are given back");
    }
    let lines = host.log_lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0].0, LogLevel::Warn);
    assert!(
        lines[0]
            .1
            .contains("status 3: report.series[0].cluster: 300 bytes")
    );
}

/// Ticks of 100 ms until the streaming VM says hello again.
fn ticks_to_hello(sidecar: &mut Sidecar) -> u64 {
    let before = sidecar.aggregator.hellos.len();
    (1..=100)
        .find(|_| {
            sidecar.run(1, Network::LosesAcks);
            sidecar.aggregator.hellos.len() > before
        })
        .unwrap()
}

/// An aggregator that takes in others first says for how long; it is heeded up to four seconds, and
/// said in the log only where it goes on. A sentence without a time, or another status, changes
/// nothing.
#[test]
fn a_time_to_retry_after_is_heeded() {
    let cases = [
        (8, "busy: retry after 2300 ms", 23..=24),
        (8, "busy: retry after 60000 ms", 40..=41),
        (8, "busy: retry after 0 ms", 1..=2),
        (8, "busy: retry after soon", 1..=11),
        (8, "busy: retry after 99999999999999999999 ms", 1..=11),
        (8, "the aggregator serves 10 streams already", 1..=11),
        (14, "busy: retry after 2300 ms", 1..=11),
    ];
    for (status, message, ticks) in cases {
        let mut sidecar = sidecar();
        sidecar.run(20, Network::Fine);
        let host = sidecar.vms[0].as_ref().unwrap().host().clone();
        host.set_close_message(message);
        sidecar.deliver(Network::Ends(status));
        let waited = ticks_to_hello(&mut sidecar);
        assert!(ticks.contains(&waited), "{status} {message}: {waited}");
    }
    let mut sidecar = sidecar();
    sidecar.run(20, Network::Fine);
    let host = sidecar.vms[0].as_ref().unwrap().host().clone();
    host.set_close_message("busy: retry after 500 ms");
    for refusals in 0..8 {
        sidecar.deliver(Network::Ends(8));
        ticks_to_hello(&mut sidecar);
        assert_eq!(
            host.log_lines().len(),
            usize::from(refusals >= 5),
            "{refusals}"
        );
    }
}

/// When an aggregator ends, the sidecars' streams are opened again spread over a second.
#[test]
fn lost_streams_are_opened_again_one_by_one() {
    let mut by_tick = [0; 12];
    for seed in 0..200 {
        let mut sidecar = Sidecar::new(seed, 1, CONFIG);
        sidecar.run(20, Network::Fine);
        sidecar.deliver(Network::Ends(14));
        let ticks = ticks_to_hello(&mut sidecar);
        by_tick[usize::try_from(ticks).unwrap()] += 1;
    }
    // 20 each on average.
    let most = by_tick.iter().max().unwrap();
    assert!(*most <= 40, "{by_tick:?}");
    assert!(
        by_tick[1..=10].iter().all(|opened| *opened >= 5),
        "{by_tick:?}"
    );
}

/// A stream that cannot be opened is tried again at most a second apart, and that is said once; the
/// end of a stream that was never named is no matter.
#[test]
fn a_stream_that_cannot_be_opened_is_tried_again() {
    let mut sidecar = sidecar();
    let host = sidecar.vms[0].as_ref().unwrap().host().clone();
    host.refuse_streams(true);
    sidecar.request(1, Some(200));
    sidecar.run(10, Network::Fine);
    sidecar.vms[0]
        .as_mut()
        .unwrap()
        .on_grpc_close(StreamToken(6), 14);
    sidecar.run(190, Network::Fine);
    assert!(sidecar.aggregator.hellos.is_empty());
    let attempts = host.stream_attempts();
    assert!((16..=120).contains(&attempts), "{attempts} in 20 s");
    let lines = host.log_lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    host.refuse_streams(false);
    sidecar.run(25, Network::Fine);
    assert_eq!(sidecar.aggregator.requests(), 1);
    sidecar.aggregator.only_hello();
}

/// Without an identity everything is counted and nothing streamed; one sentence says why.
#[test]
fn without_an_identity_nothing_is_streamed() {
    let mut sidecar = Sidecar::unstarted(7);
    sidecar.process.set_env("POD_NAME", "");
    sidecar.start(0, CONFIG);
    sidecar.start(1, CONFIG);
    sidecar.request(1, Some(200));
    sidecar.run(30, Network::Fine);
    assert_eq!(
        sidecar.process.metric("meshmeter.inbound.requests"),
        Some(1)
    );
    assert!(sidecar.aggregator.hellos.is_empty());
    let lines = sidecar.vms[0].as_ref().unwrap().host().log_lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].1.contains("the pod is unknown"));
}

/// A plugin without aggregators counts; it never streams, though the others would let it lead.
#[test]
fn without_aggregators_nothing_is_streamed() {
    let mut sidecar = Sidecar::new(7, 2, r#"{"role":"filter","direction":"inbound"}"#);
    sidecar.request(1, Some(200));
    sidecar.run(30, Network::Fine);
    assert!(sidecar.aggregator.hellos.is_empty());
    assert_eq!(
        sidecar.process.metric("meshmeter.inbound.requests"),
        Some(1)
    );
}

/// A tick without news costs the streaming VM five readings, and the others nothing.
#[test]
fn an_idle_tick_is_cheap() {
    let mut sidecar = sidecar();
    sidecar.request(1, Some(200));
    sidecar.run(20, Network::Fine);
    let cost = |sidecar: &Sidecar| -> Vec<u64> {
        let vms = sidecar.vms.iter().flatten();
        vms.map(|vm| vm.host().metric_calls()).collect()
    };
    let before = cost(&sidecar);
    sidecar.run(100, Network::Fine);
    let after = cost(&sidecar);
    let spent: Vec<u64> = after.iter().zip(before).map(|(a, b)| a - b).collect();
    assert_eq!(spent[1..], [0, 0]);
    assert!(spent[0] <= 5 * 100, "{spent:?}");
}

/// A report says since when its totals rose, as each aggregator was told: what it was not told yet
/// may be older than the last quiet tick, though another one was told of it.
#[test]
fn the_interval_reaches_back_to_what_was_not_told() {
    for hidden in [false, true] {
        let mut sidecar = Sidecar::unstarted(7);
        if hidden {
            sidecar.process.hide_metrics("meshmeter.");
        }
        sidecar.start(0, CONFIG);
        sidecar.request(0, Some(200));
        // The next report comes at the earliest ten ticks after this one; the request in between is
        // followed by quiet.
        sidecar.run(20, Network::Fine);
        sidecar.aggregator.take_reports();
        let told = |reports: &[v1::Report]| reports.iter().any(|report| !report.series.is_empty());
        while !told(&sidecar.aggregator.take_reports()) {
            sidecar.request(0, Some(200));
            sidecar.run(1, Network::Fine);
        }
        sidecar.run(1, Network::Fine);
        sidecar.request(0, Some(200));
        let mut ticks = 0;
        let interval_ms = loop {
            sidecar.run(1, Network::Fine);
            ticks += 1;
            let reports = sidecar.aggregator.take_reports();
            if let Some(report) = reports.iter().find(|report| !report.series.is_empty()) {
                break report.interval_ms;
            }
        };
        assert!(ticks > 5, "the report came {ticks} ticks after the request");
        let least = (ticks - 1) * 100;
        assert!(
            (least..=least + 300).contains(&interval_ms),
            "hidden {hidden}: {interval_ms} ms for a request {ticks} ticks ago"
        );
    }
}
