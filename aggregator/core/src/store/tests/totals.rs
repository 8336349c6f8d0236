//! Running totals: of one instance, of several, across restarts.

use super::sidecar::{
    Sidecar, at, inbound, key, rate, read, refused, requests, status, store, total, value,
};
use crate::query::NoValue;
use crate::report::{CounterScope, ProcessId, ResponseCode, SeriesTotals, StreamId};
use crate::series::{CodeClass, Direction};
use crate::status::{PodState, RefusedReason};
use crate::store::StoreRefusal;

/// Frames that come twice, late or not at all change nothing but what they are news of.
#[test]
fn totals_are_maxima() {
    let store = store();
    let sidecar = Sidecar::new("jazz", 1);
    let link = sidecar.connect(&store, at(0), 1);
    let first = sidecar.report(at(1000), vec![inbound(10)]);
    let third = sidecar.report(at(3000), vec![inbound(30)]);
    for (now, report) in [
        (3000, &third),
        (3001, &first),
        (3002, &third),
        (3003, &first),
    ] {
        store.apply(at(now), &link, report).unwrap();
    }
    assert_eq!(total(&store, at(3003), "jazz"), Some(30));
    let reading = read(&store, at(3003), "jazz", &rate(60));
    assert_eq!(value(reading), Ok((10_000, 3000)));
}

/// A counter that is not reported stays unknown; it is not 0.
#[test]
fn unreported_is_not_zero() {
    let store = store();
    let sidecar = Sidecar::new("jazz", 1);
    let link = sidecar.connect(&store, at(0), 1);
    let attempts = SeriesTotals {
        upstream_attempts: Some(7),
        ..SeriesTotals::default()
    };
    let series = vec![(key(Direction::Outbound, "metal"), attempts), inbound(3)];
    let report = sidecar.report(at(1000), series);
    store.apply(at(1000), &link, &report).unwrap();
    let series = status(&store, at(1000), "jazz").series;
    assert_eq!(series[0].requests, Some(3));
    assert_eq!(series[0].upstream_attempts, None);
    assert_eq!(series[1].requests, None);
    assert_eq!(series[1].upstream_attempts, Some(7));
    assert!(series[1].inflight.is_none() && series[1].responses.is_empty());
}

/// Exact codes and the class they spill over into add up to the class.
#[test]
fn codes_add_up_to_classes() {
    let store = store();
    let sidecar = Sidecar::new("jazz", 1);
    let link = sidecar.connect(&store, at(0), 1);
    let totals = |codes: &[(u32, u64)]| SeriesTotals {
        requests: Some(1000),
        responses: codes
            .iter()
            .map(|(code, total)| (ResponseCode::new(*code).unwrap(), *total))
            .collect(),
        ..SeriesTotals::default()
    };
    for (second, codes) in [
        (1, vec![(0, 1), (200, 5), (2, 3), (503, 2)]),
        (2, vec![(201, 4), (2, 6)]),
    ] {
        let now = at(second * 1000);
        let series = vec![(key(Direction::Inbound, ""), totals(&codes))];
        let report = sidecar.report(now, series);
        store.apply(now, &link, &report).unwrap();
    }
    let series = status(&store, at(2000), "jazz").series;
    let expected = [
        (CodeClass::None, 1),
        (CodeClass::Success, 15),
        (CodeClass::ServerError, 2),
    ];
    assert_eq!(series[0].responses, expected);
}

/// A sidecar that restarts begins at 0 again, and the rate goes on over both instances.
#[test]
fn a_newer_instance_replaces_the_older() {
    let store = store();
    let old = Sidecar::new("jazz", 1);
    let link = old.connect(&store, at(0), 1);
    for second in 1..=5 {
        old.says(&store, at(second * 1000), &link, second * 100);
    }
    store.disconnect(at(5000), &link);
    let new = Sidecar::new("jazz", 2).started(at(6000));
    let link = new.connect(&store, at(6200), 2);
    assert_eq!(total(&store, at(6200), "jazz"), Some(500));
    let report = new.report(at(7000), vec![inbound(50)]);
    let applied = store.apply(at(7000), &link, &report).unwrap();
    assert_eq!(applied.replaced, []);
    assert_eq!(total(&store, at(7000), "jazz"), Some(50));
    let reading = read(&store, at(7000), "jazz", &rate(5));
    assert_eq!(value(reading), Ok((70_000, 5000)));
}

/// An instance that began earlier is refused while a newer one is live. When that is lost, whoever
/// speaks is right: a clock that was set back must not lock the pod's sidecar out.
#[test]
fn an_older_instance_waits_until_the_newer_is_lost() {
    let store = store();
    let old = Sidecar::new("jazz", 1);
    let old_link = old.connect(&store, at(0), 1);
    old.says(&store, at(1000), &old_link, 10);
    let new = Sidecar::new("jazz", 2).started(at(1500));
    let new_link = new.connect(&store, at(1500), 2);
    let report = new.report(at(2000), vec![inbound(1)]);
    let applied = store.apply(at(2000), &new_link, &report).unwrap();
    assert_eq!(applied.replaced, [StreamId(1)]);
    let late = old.try_say(&store, at(2100), &old_link, 900);
    assert!(
        matches!(late, Err(StoreRefusal::OlderInstance { .. })),
        "{late:?}"
    );
    let again = old.try_connect(&store, at(2200), 3);
    assert!(
        matches!(again, Err(StoreRefusal::OlderInstance { .. })),
        "{again:?}"
    );
    assert_eq!(refused(&store, RefusedReason::OlderInstance), 2);
    assert_eq!(total(&store, at(2200), "jazz"), Some(1));

    store.disconnect(at(2300), &new_link);
    let link = old.connect(&store, at(2400), 4);
    old.says(&store, at(3000), &link, 14);
    assert_eq!(total(&store, at(3000), "jazz"), Some(14));
}

/// Where each Wasm VM counts for itself, the VMs of a process add up, and a newer process replaces
/// them all.
#[test]
fn vms_of_a_process_add_up() {
    let store = store();
    let vm = |instance, process, started| {
        let mut vm = Sidecar::new("jazz", instance).started(at(started));
        vm.hello.process = ProcessId(process);
        vm.hello.scope = CounterScope::Vm;
        vm
    };
    let (a, b) = (vm(1, 7, 0), vm(2, 7, 10));
    let (link_a, link_b) = (a.connect(&store, at(20), 1), b.connect(&store, at(20), 2));
    for second in 1..=3 {
        a.says(&store, at(second * 1000), &link_a, second * 10);
        b.says(&store, at(second * 1000 + 100), &link_b, second * 5);
    }
    assert_eq!(total(&store, at(3100), "jazz"), Some(45));
    assert_eq!(status(&store, at(3100), "jazz").streams, 2);
    let (value, _) = value(read(&store, at(3100), "jazz", &rate(2))).unwrap();
    assert!((14_000..=15_500).contains(&value), "{value}");

    let next = vm(3, 8, 4000);
    let link = next.connect(&store, at(4000), 3);
    let report = next.report(at(5000), vec![inbound(2)]);
    let mut replaced = store.apply(at(5000), &link, &report).unwrap().replaced;
    replaced.sort_unstable();
    assert_eq!(replaced, [StreamId(1), StreamId(2)]);
    assert_eq!(total(&store, at(5000), "jazz"), Some(2));
}

/// Counters older than the aggregator knows are a baseline: they show in the total and are no
/// burst.
#[test]
fn an_old_total_is_no_burst() {
    let store = store();
    let sidecar = Sidecar::new("jazz", 1);
    let hour = 3_600_000;
    let link = sidecar.connect(&store, at(hour), 1);
    sidecar.says(&store, at(hour + 500), &link, 1_000_000);
    assert_eq!(total(&store, at(hour + 500), "jazz"), Some(1_000_000));
    let reading = read(&store, at(hour + 500), "jazz", &rate(60));
    assert_eq!(value(reading), Err(NoValue::New));
    sidecar.says(&store, at(hour + 1500), &link, 1_000_020);
    let reading = read(&store, at(hour + 1500), "jazz", &rate(60));
    assert_eq!(value(reading), Ok((20_000, 1000)));
}

/// Counters that began lately are known since then: their increase is real, as a sum, and never cut
/// within the time before the first report.
#[test]
fn a_young_total_counts_from_its_start() {
    let store = store();
    let sidecar = Sidecar::new("jazz", 1).started(at(0));
    let link = sidecar.connect(&store, at(8000), 1);
    sidecar.says(&store, at(8000), &link, 80);
    // All of it or nothing: where in the 8 s the requests came is not known.
    let reading = read(&store, at(8000), "jazz", &rate(2));
    assert_eq!(value(reading), Ok((10_000, 8000)));
    sidecar.says(&store, at(9000), &link, 180);
    let reading = read(&store, at(9000), "jazz", &rate(2));
    assert_eq!(value(reading), Ok((100_000, 1000)));
    let reading = read(&store, at(9000), "jazz", &rate(60));
    assert_eq!(value(reading), Ok((20_000, 9000)));
}

/// A first report that is no snapshot proves nothing about what it leaves out.
#[test]
fn without_a_snapshot_all_is_baseline() {
    let store = store();
    let sidecar = Sidecar::new("jazz", 1);
    let link = sidecar.connect(&store, at(0), 1);
    let mut report = sidecar.report(at(1000), vec![inbound(100)]);
    report.snapshot = false;
    store.apply(at(1000), &link, &report).unwrap();
    let mut report = sidecar.report(
        at(2000),
        vec![inbound(110), (key(Direction::Inbound, "b"), requests(5000))],
    );
    report.snapshot = false;
    store.apply(at(2000), &link, &report).unwrap();
    let reading = read(&store, at(2000), "jazz", &rate(60));
    assert_eq!(value(reading), Ok((10_000, 1000)));
}

/// A pod of the same name with another uid is another pod.
#[test]
fn another_uid_is_another_pod() {
    let store = store();
    let mut old = Sidecar::new("jazz-0", 1);
    old.hello.uid = "uid-1".into();
    let old_link = old.connect(&store, at(0), 1);
    old.says(&store, at(2000), &old_link, 2000);
    let mut new = Sidecar::new("jazz-0", 2).started(at(2500));
    new.hello.uid = "uid-2".into();
    let connected = new.try_connect(&store, at(2500), 2).unwrap();
    assert_eq!(connected.replaced, [StreamId(1)]);
    let late = old.try_say(&store, at(2600), &old_link, 3000);
    assert!(
        matches!(late, Err(StoreRefusal::UnknownStream { .. })),
        "{late:?}"
    );
    new.says(&store, at(3500), &connected.link, 5);
    let pod = status(&store, at(3500), "jazz-0");
    assert_eq!((&*pod.uid, pod.state), ("uid-2", PodState::Live));
    let reading = read(&store, at(3500), "jazz-0", &rate(60));
    assert_eq!(value(reading), Ok((5000, 1000)));
}

/// A sidecar whose clock is hours off is read on the aggregator's clock, and one whose clock is set
/// back while it streams goes on.
#[test]
fn clocks_are_mapped() {
    let store = store();
    let mut sidecar = Sidecar::new("jazz", 1).skewed(-7_200_000);
    let link = sidecar.connect(&store, at(0), 1);
    for second in 1..=4 {
        sidecar.says(&store, at(second * 1000), &link, second * 10);
    }
    let reading = read(&store, at(4000), "jazz", &rate(2)).unwrap();
    assert_eq!((reading.timestamp, reading.value.0), (at(4000), 10_000));
    sidecar.skew_ms -= 30_000;
    for second in 5..=8 {
        sidecar.says(&store, at(second * 1000), &link, second * 10);
    }
    let reading = read(&store, at(8000), "jazz", &rate(5)).unwrap();
    assert_eq!((reading.timestamp, reading.value.0), (at(8000), 10_000));
}
