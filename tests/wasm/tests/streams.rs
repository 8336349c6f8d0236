//! How the built modules stream: what they do when the network or the aggregator misbehaves, and
//! how often they report.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tests_wasm::aggregator::{Acks, Reach};
use tests_wasm::deployment::Role;
use tests_wasm::envoy::{Envoy, Setup};
use tests_wasm::process::Life;
use tests_wasm::request::Request;
use tests_wasm::stream::{End, Stream};
use tests_wasm::totals::What;

const UNAVAILABLE: u32 = 14;
/// gRPC status: a frame was refused.
const INVALID_ARGUMENT: u32 = 3;
/// A tick of the module and the way to the aggregator.
const SLACK: Duration = Duration::from_millis(105);

fn start() -> Result<Envoy> {
    Envoy::start(Setup::new(vec![Role::Filter.plugin()?]))
}

/// A hundred requests a second for so many seconds, on both workers.
fn load(envoy: &mut Envoy, seconds: u32) {
    for index in 0..seconds * 100 {
        envoy.request((index % 2) as usize, &Request::inbound());
        envoy.run_for(Duration::from_millis(10));
    }
}

fn requests(envoy: &Envoy) -> Option<u64> {
    envoy.aggregator("aggregator").totals().sum(What::Requests)
}

/// Opens of streams, by all VMs.
fn opens(envoy: &Envoy) -> u64 {
    let key = (Life::Live, "proxy_on_tick", "proxy_grpc_stream");
    envoy.calls().get(&key).copied().unwrap_or(0)
}

fn warnings(envoy: &Envoy) -> Vec<String> {
    let logs = envoy.logs();
    let loud = logs.iter().filter(|line| line.level >= 3);
    loud.map(|line| line.message.clone()).collect()
}

/// Whatever keeps the stream from opening, the module tries again at most a second apart, says
/// little, and reports everything once it gets through.
#[test]
fn a_sidecar_that_cannot_reach_its_aggregator_keeps_counting_and_trying() -> Result<()> {
    for reach in [Reach::Refused, Reach::NoHealthyHost] {
        let mut envoy = start()?;
        envoy.script("aggregator", |script| script.reach = reach);
        load(&mut envoy, 20);
        let tries = opens(&envoy);
        assert!(
            (16..=120).contains(&tries),
            "{reach:?}: {tries} tries in 20 s"
        );
        assert!(warnings(&envoy).len() <= 3, "{:?}", warnings(&envoy));
        assert_eq!(envoy.dead(), []);
        assert!(
            envoy.streams_held() <= 1,
            "{reach:?}: closed streams are given back"
        );
        envoy.script("aggregator", |script| script.reach = Reach::Up);
        envoy.run_seconds(3);
        assert_eq!(requests(&envoy), Some(2000), "{reach:?}");
        let aggregator = envoy.aggregator("aggregator");
        assert_eq!(aggregator.streams().len(), 1, "{reach:?}");
    }
    Ok(())
}

/// A cluster that does not exist is tried again too, and does not disturb the one that does.
#[test]
fn a_missing_cluster_does_not_disturb_the_other_aggregator() -> Result<()> {
    let plugin = Role::Filter.plugin_with(|json| {
        json["aggregators"] = json!([{"cluster": "missing"}, {"cluster": "aggregator"}]);
    })?;
    let mut envoy = Envoy::start(Setup::new(vec![plugin]))?;
    load(&mut envoy, 10);
    envoy.run_seconds(2);
    assert_eq!(requests(&envoy), Some(1000));
    assert_eq!(envoy.aggregator("aggregator").streams().len(), 1);
    assert_eq!(envoy.dead(), []);
    Ok(())
}

/// Each aggregator gets everything; one that stalls costs the other nothing.
#[test]
fn each_aggregator_gets_everything() -> Result<()> {
    let plugin = Role::Filter.plugin_with(|json| {
        json["aggregators"] = json!([{"cluster": "one"}, {"cluster": "two", "authority": "b"}]);
    })?;
    let mut setup = Setup::new(vec![plugin]);
    setup.aggregators = vec!["one".into(), "two".into()];
    let mut envoy = Envoy::start(setup)?;
    load(&mut envoy, 5);
    envoy.script("one", |script| script.stalled = true);
    load(&mut envoy, 10);
    envoy.run_seconds(2);
    for (cluster, authority) in [("one", "one"), ("two", "b")] {
        let aggregator = envoy.aggregator(cluster);
        let streams = aggregator.streams();
        assert!(streams.iter().all(|stream| stream.authority == authority));
    }
    let sum = |cluster| envoy.aggregator(cluster).totals().sum(What::Requests);
    assert_eq!(sum("two"), Some(1500));
    assert_eq!(envoy.aggregator("two").streams().len(), 1);
    assert!(sum("one").expect("it reported before") < 600);
    envoy.script("one", |script| script.stalled = false);
    envoy.run_seconds(10);
    assert_eq!(
        envoy.aggregator("one").totals().sum(What::Requests),
        Some(1500)
    );
    Ok(())
}

/// What was sent after the aggregator closed is lost without a word; the next stream says it again.
#[test]
fn what_was_sent_into_a_closed_stream_is_sent_again() -> Result<()> {
    for status in [0, UNAVAILABLE, INVALID_ARGUMENT] {
        let mut envoy = start()?;
        for _ in 0..5 {
            load(&mut envoy, 3);
            envoy.close_streams("aggregator", status, "going away");
        }
        envoy.run_seconds(4);
        assert_eq!(requests(&envoy), Some(1500), "status {status}");
        let aggregator = envoy.aggregator("aggregator");
        assert_eq!(aggregator.open_streams().len(), 1, "status {status}");
        assert_eq!(aggregator.streams().len(), 6, "status {status}");
        let gaps = aggregator.streams();
        let gaps = gaps.windows(2).map(|pair| {
            let ended = pair[0].end.expect("only the last is open").0;
            pair[1].opened.saturating_sub(ended)
        });
        let longest = gaps.max().expect("there are gaps");
        assert!(
            longest <= Duration::from_millis(1300),
            "{status}: {longest:?}"
        );
        assert!(envoy.streams_held() <= 1, "closed streams are given back");
    }
    Ok(())
}

/// A status that means trouble is told once, with its message.
#[test]
fn a_refusal_is_told_once() -> Result<()> {
    let mut envoy = start()?;
    for _ in 0..5 {
        load(&mut envoy, 3);
        envoy.close_streams(
            "aggregator",
            INVALID_ARGUMENT,
            "`series.cluster` is too long",
        );
    }
    envoy.run_seconds(2);
    let told = warnings(&envoy);
    let naming = told
        .iter()
        .filter(|line| line.contains("`series.cluster` is too long"));
    assert_eq!(naming.count(), 1, "{told:?}");
    Ok(())
}

/// Without an acknowledgement the stream is given up; the next one begins with a full snapshot.
#[test]
fn a_missing_acknowledgement_leads_to_a_new_stream() -> Result<()> {
    let mut envoy = start()?;
    load(&mut envoy, 3);
    envoy.script("aggregator", |script| script.acks = Acks::Never);
    load(&mut envoy, 12);
    envoy.script("aggregator", |script| script.acks = Acks::AtOnce);
    load(&mut envoy, 8);
    envoy.run_seconds(2);
    assert_eq!(requests(&envoy), Some(2300));
    let aggregator = envoy.aggregator("aggregator");
    let streams = aggregator.streams();
    assert!(
        (3..=4).contains(&streams.len()),
        "{} streams",
        streams.len()
    );
    assert!(matches!(
        streams[0].end,
        Some((_, End::Reset | End::HalfClosed))
    ));
    for stream in streams.iter().filter(|stream| !stream.reports.is_empty()) {
        let (_, first) = &stream.reports[0];
        assert!(first.snapshot);
    }
    Ok(())
}

/// A slow acknowledgement holds the next report back, but not the counts.
#[test]
fn a_slow_acknowledgement_holds_the_next_report_back() -> Result<()> {
    let mut envoy = start()?;
    envoy.script("aggregator", |script| {
        script.acks = Acks::After(Duration::from_secs(3));
    });
    load(&mut envoy, 20);
    envoy.run_seconds(8);
    assert_eq!(requests(&envoy), Some(2000));
    let aggregator = envoy.aggregator("aggregator");
    assert_eq!(aggregator.streams().len(), 1);
    let reports = aggregator.streams()[0].reports.len();
    assert!((6..=10).contains(&reports), "{reports} reports in 28 s");
    Ok(())
}

/// An aggregator that reads nothing costs the sidecar one report at a time, whatever the traffic.
#[test]
fn a_stalled_aggregator_costs_no_memory() -> Result<()> {
    let mut envoy = start()?;
    load(&mut envoy, 5);
    envoy.script("aggregator", |script| script.stalled = true);
    load(&mut envoy, 20);
    let before = envoy.memory();
    load(&mut envoy, 120);
    assert_eq!(envoy.memory(), before);
    let aggregator = envoy.aggregator("aggregator");
    for stream in aggregator.streams() {
        assert!(
            stream.unread <= 2,
            "Hello and one report: {}",
            stream.unread
        );
    }
    assert_eq!(aggregator.open_streams().len(), 1);
    assert!(aggregator.unread_bytes() < 32 * 1024, "in 29 streams");
    Ok(())
}

fn gaps(stream: &Stream, from: Duration, to: Duration) -> Vec<Duration> {
    let times = stream.reports.iter().map(|(at, _)| *at);
    let times: Vec<_> = times.filter(|at| (from..to).contains(at)).collect();
    times
        .windows(2)
        .map(|pair| pair[1].saturating_sub(pair[0]))
        .collect()
}

/// While anything changed in the last minute a report goes out each second; then a heartbeat every
/// ten. The sidecar keeps each promise, and the first request after idleness is told at the next
/// tick.
#[test]
fn reports_come_each_second_then_as_heartbeats() -> Result<()> {
    let mut envoy = start()?;
    load(&mut envoy, 10);
    let quiet = envoy.now();
    envoy.run_seconds(150);
    let again = envoy.now();
    envoy.request(1, &Request::inbound());
    envoy.run_seconds(2);
    let aggregator = envoy.aggregator("aggregator");
    assert_eq!(
        aggregator.streams().len(),
        1,
        "a heartbeat keeps the stream"
    );
    let stream = aggregator.streams()[0];
    assert!(stream.worst_delay() <= SLACK, "{:?}", stream.worst_delay());
    let second = Duration::from_secs(1);
    let active = gaps(stream, quiet, quiet + Duration::from_secs(58));
    assert!(active.len() >= 50, "{active:?}");
    assert!(
        active.iter().all(|gap| *gap <= second + SLACK),
        "{active:?}"
    );
    let idle = gaps(stream, quiet + Duration::from_secs(75), again);
    assert!((5..=9).contains(&idle.len()), "{idle:?}");
    assert!(
        idle.iter().all(|gap| *gap <= second * 10 + SLACK),
        "{idle:?}"
    );
    let mut later = stream.reports.iter().filter(|(at, _)| *at >= again);
    let (at, report) = later.next().expect("the request is told");
    let delay = at.saturating_sub(again);
    // The worker adds on its tick, the streaming VM reads on its own.
    assert!(delay <= Duration::from_millis(210), "{delay:?}");
    assert_eq!(report.series.len(), 1);
    let covers = Duration::from_millis(report.interval_ms.into());
    assert!(
        covers <= Duration::from_millis(310),
        "not the idle time: {covers:?}"
    );
    Ok(())
}

/// The aggregator's wish for another interval is followed within bounds.
#[test]
fn the_aggregator_sets_the_flush_interval() -> Result<()> {
    for (wish, expected) in [(0, 20), (500, 40), (4000, 5), (1, 200)] {
        let mut envoy = start()?;
        envoy.script("aggregator", |script| script.flush_interval_ms = wish);
        load(&mut envoy, 5);
        let from = envoy.now();
        load(&mut envoy, 20);
        let aggregator = envoy.aggregator("aggregator");
        let reports = gaps(aggregator.streams()[0], from, envoy.now()).len();
        let few = expected * 8 / 10 - 1;
        assert!(
            (few..=expected).contains(&reports),
            "{wish}: {reports} reports"
        );
    }
    Ok(())
}

/// A report covers no more than the time since the one before: no gap of the wall clock, no
/// overlap.
#[test]
fn reports_cover_the_time_between_them() -> Result<()> {
    let mut envoy = start()?;
    load(&mut envoy, 20);
    let aggregator = envoy.aggregator("aggregator");
    let reports = &aggregator.streams()[0].reports;
    for pair in reports.windows(2) {
        let (before, after) = (&pair[0].1, &pair[1].1);
        let begin = after.interval_end_unix_ms - u64::from(after.interval_ms);
        assert_eq!(begin, before.interval_end_unix_ms, "report {}", after.seq);
    }
    let (at, last) = reports.last().expect("there are reports");
    let age = envoy.now().saturating_sub(*at);
    let end = Duration::from_millis(last.interval_end_unix_ms);
    let behind = envoy.system_time().saturating_sub(age + end);
    assert!(behind <= Duration::from_millis(5), "{behind:?}");
    Ok(())
}

/// The system clock may jump; reports go on, totals stay, and no interval is absurd.
#[test]
fn a_jump_of_the_system_clock_harms_nothing() -> Result<()> {
    for forward in [true, false] {
        let mut envoy = start()?;
        load(&mut envoy, 5);
        let hour = Duration::from_hours(1);
        let now = envoy.system_time();
        let jumped = if forward {
            now + hour
        } else {
            now.saturating_sub(hour)
        };
        envoy.set_system_time(jumped);
        load(&mut envoy, 10);
        envoy.run_seconds(2);
        assert_eq!(requests(&envoy), Some(1500), "forward {forward}");
        let aggregator = envoy.aggregator("aggregator");
        let reports = aggregator.streams().into_iter().flat_map(|s| &s.reports);
        for (_, report) in reports {
            assert!(report.interval_ms <= 2000, "{}", report.interval_ms);
        }
        let streams = aggregator.open_streams();
        let report = streams[0].last_report().expect("reports go on");
        assert_eq!((report.vms_expected, report.vms_live), (3, 3));
    }
    Ok(())
}
