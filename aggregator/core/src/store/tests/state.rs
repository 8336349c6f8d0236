//! How well a pod is known, from its first hello until it is forgotten.

use std::time::Duration;

use super::sidecar::{Sidecar, at, inbound, rate, read, state, status, store, total, value};
use crate::limits::FORGET_AFTER;
use crate::pod::PodKey;
use crate::query::NoValue;
use crate::report::StreamId;
use crate::status::PodState;
use crate::store::StoreRefusal;

/// An unknown pod, one that only connected, and one whose reports cover less than a second.
#[test]
fn new_until_a_second_was_seen() {
    let store = store();
    let sidecar = Sidecar::new("jazz", 1);
    let reading = |now| value(read(&store, now, "jazz", &rate(60)));
    assert_eq!(reading(at(0)), Err(NoValue::NeverReported));
    let link = sidecar.connect(&store, at(0), 1);
    assert_eq!(reading(at(500)), Err(NoValue::New));
    sidecar.says(&store, at(600), &link, 6);
    assert_eq!(reading(at(600)), Err(NoValue::New));
    assert_eq!(state(&store, at(600), "jazz"), PodState::New);
    sidecar.says(&store, at(1000), &link, 10);
    assert_eq!(reading(at(1000)), Ok((10_000, 1000)));
    assert_eq!(state(&store, at(1000), "jazz"), PodState::Live);
}

/// An idle sidecar that reports as it promised is live and reads 0.
#[test]
fn idle_is_zero() {
    let store = store();
    let mut sidecar = Sidecar::new("jazz", 1);
    sidecar.next_report_within = Duration::from_secs(10);
    let link = sidecar.connect(&store, at(0), 1);
    for second in [1, 11, 21] {
        let report = sidecar.report(at(second * 1000), Vec::new());
        store.apply(at(second * 1000), &link, &report).unwrap();
    }
    let reading = read(&store, at(30_000), "jazz", &rate(15)).unwrap();
    assert_eq!((reading.value.0, reading.held), (0, false));
    assert_eq!(reading.timestamp, at(21_000));
}

/// A lost stream: the last window is served on for 10 s, ageing, then the pod is left out.
#[test]
fn a_closed_stream_is_held_then_gone() {
    let store = store();
    let sidecar = Sidecar::new("jazz", 1);
    let link = sidecar.connect(&store, at(0), 1);
    for second in 1..=5 {
        sidecar.says(&store, at(second * 1000), &link, second * 10);
    }
    store.disconnect(at(5500), &link);
    let reading = read(&store, at(15_499), "jazz", &rate(2)).unwrap();
    assert_eq!((reading.value.0, reading.timestamp), (10_000, at(5000)));
    assert!(reading.held);
    assert_eq!(state(&store, at(15_499), "jazz"), PodState::Held);
    let reading = read(&store, at(15_500), "jazz", &rate(2));
    assert_eq!(value(reading), Err(NoValue::Gone));
    assert_eq!(state(&store, at(15_500), "jazz"), PodState::Gone);
}

/// A sidecar that breaks its promise on an open stream is as lost as one whose stream closed, from
/// two seconds after the promise on.
#[test]
fn a_broken_promise_is_held_then_gone() {
    let store = store();
    let sidecar = Sidecar::new("jazz", 1);
    let link = sidecar.connect(&store, at(0), 1);
    sidecar.says(&store, at(1000), &link, 10);
    assert_eq!(state(&store, at(3999), "jazz"), PodState::Live);
    assert_eq!(state(&store, at(4000), "jazz"), PodState::Held);
    assert_eq!(state(&store, at(13_999), "jazz"), PodState::Held);
    assert_eq!(state(&store, at(14_000), "jazz"), PodState::Gone);
}

/// A frame that says nothing new does not bring a gone pod back; news does, at once, with all its
/// totals.
#[test]
fn only_news_brings_a_pod_back() {
    let store = store();
    let sidecar = Sidecar::new("jazz", 1);
    let link = sidecar.connect(&store, at(0), 1);
    let old = sidecar.report(at(1000), vec![inbound(10)]);
    store.apply(at(1000), &link, &old).unwrap();
    store.apply(at(60_000), &link, &old).unwrap();
    assert_eq!(state(&store, at(60_000), "jazz"), PodState::Gone);
    store.disconnect(at(60_000), &link);
    let link = sidecar.connect(&store, at(60_500), 2);
    let mut report = sidecar.report(at(61_000), vec![inbound(70)]);
    report.interval = Duration::from_mins(1);
    store.apply(at(61_000), &link, &report).unwrap();
    assert_eq!(state(&store, at(61_000), "jazz"), PodState::Live);
    assert_eq!(total(&store, at(61_000), "jazz"), Some(70));
    // The gap's requests are spread over the gap.
    let reading = read(&store, at(61_000), "jazz", &rate(10));
    assert_eq!(value(reading), Ok((1000, 10_000)));
}

/// A sidecar that ended in order is held for two seconds only; one that opens another stream is
/// live again.
#[test]
fn a_final_report_is_held_shortly() {
    let store = store();
    let sidecar = Sidecar::new("jazz", 1);
    let link = sidecar.connect(&store, at(0), 1);
    let mut last = sidecar.report(at(2000), vec![inbound(10)]);
    last.is_final = true;
    store.apply(at(2000), &link, &last).unwrap();
    store.disconnect(at(2001), &link);
    assert_eq!(state(&store, at(3999), "jazz"), PodState::Held);
    assert_eq!(state(&store, at(4000), "jazz"), PodState::Gone);
    let link = sidecar.connect(&store, at(4100), 2);
    sidecar.says(&store, at(4500), &link, 11);
    assert_eq!(state(&store, at(4500), "jazz"), PodState::Live);
}

/// The final report of a stream that was superseded does not end the instance: its successor
/// streams on.
#[test]
fn a_superseded_stream_ends_nothing() {
    let store = store();
    let sidecar = Sidecar::new("jazz", 1);
    let first = sidecar.connect(&store, at(0), 1);
    sidecar.says(&store, at(1000), &first, 10);
    let connected = sidecar.try_connect(&store, at(1500), 2).unwrap();
    assert_eq!(connected.superseded, Some(StreamId(1)));
    let mut last = sidecar.report(at(1600), vec![inbound(16)]);
    last.is_final = true;
    store.apply(at(1600), &first, &last).unwrap();
    store.disconnect(at(1700), &first);
    let pod = status(&store, at(3500), "jazz");
    assert_eq!((pod.state, pod.streams), (PodState::Live, 1));
    assert_eq!(total(&store, at(3500), "jazz"), Some(16));
}

/// A pod is forgotten ten minutes after it was gone, totals and all, and its stream has to connect
/// again.
#[test]
fn a_gone_pod_is_forgotten() {
    let store = store();
    let sidecar = Sidecar::new("jazz", 1);
    let link = sidecar.connect(&store, at(0), 1);
    sidecar.says(&store, at(1000), &link, 10);
    let gone = at(14_000);
    let forgotten = gone + FORGET_AFTER;
    let mut now = at(2000);
    while now < forgotten {
        assert_eq!(store.expire(now), []);
        now = store.next_expiry().unwrap();
    }
    assert_eq!(now, forgotten);
    assert_eq!(store.expire(now), [PodKey::new("prod", "jazz")]);
    assert_eq!(store.next_expiry(), None);
    assert_eq!(store.inspect(now), []);
    let late = sidecar.try_say(&store, now, &link, 11);
    assert!(
        matches!(late, Err(StoreRefusal::UnknownStream { .. })),
        "{late:?}"
    );
}

/// A live pod is never forgotten, and what is out of reach of its windows is dropped on the way.
#[test]
fn a_live_pod_is_kept() {
    let store = store();
    let mut sidecar = Sidecar::new("jazz", 1);
    sidecar.next_report_within = Duration::from_secs(10);
    let link = sidecar.connect(&store, at(0), 1);
    for n in 1..200 {
        let now = at(n * 10_000);
        sidecar.says(&store, now, &link, n.min(20));
        assert_eq!(store.expire(now), []);
    }
    assert_eq!(state(&store, at(1_990_000), "jazz"), PodState::Live);
    assert_eq!(total(&store, at(1_990_000), "jazz"), Some(20));
}

/// Fewer live Wasm VMs than there should be: totals may be too low, so there is no value.
#[test]
fn a_lost_vm_is_unknown() {
    let store = store();
    let sidecar = Sidecar::new("jazz", 1);
    let link = sidecar.connect(&store, at(0), 1);
    for (second, live) in [(1, 3), (2, 2), (3, 3)] {
        let mut report = sidecar.report(at(second * 1000), vec![inbound(second * 10)]);
        (report.vms_expected, report.vms_live) = (3, live);
        store.apply(at(second * 1000), &link, &report).unwrap();
        let reading = value(read(&store, at(second * 1000), "jazz", &rate(1)));
        let expected = if live == 3 {
            Ok((10_000, 1000))
        } else {
            Err(NoValue::VmLost)
        };
        assert_eq!(reading, expected);
    }
}

/// Every pod is counted in one state.
#[test]
fn states_are_counted() {
    let store = store();
    for (n, name) in ["new", "live", "held", "gone"].into_iter().enumerate() {
        let sidecar = Sidecar::new(name, 1);
        let link = sidecar.connect(&store, at(0), n as u64);
        let reports: &[u64] = match name {
            "new" => &[],
            "gone" => &[2000],
            "held" => &[20_000],
            _ => &[20_000, 30_000],
        };
        for ms in reports {
            sidecar.says(&store, at(*ms), &link, 1);
        }
    }
    let counts = store.counts(at(30_000));
    let states = [
        counts.pods_new,
        counts.pods_live,
        counts.pods_held,
        counts.pods_gone,
    ];
    assert_eq!(states, [1, 1, 1, 1]);
    assert_eq!((counts.streams, counts.instances, counts.series), (4, 4, 3));
}
