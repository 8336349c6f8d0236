//! A replica that is behind: what sidecars sent waits to be read.

use std::time::Duration;

use super::sidecar::{Sidecar, at, inbound, rate, read, state, store};
use crate::query::NoValue;
use crate::report::StreamId;
use crate::status::PodState;
use crate::store::Store;
use common_time::Monotonic;

/// Lets the replica be so late at each tick, due each 50 ms, from `from` to `until`.
fn ticks(store: &Store, from: u64, until: u64, late_ms: u64) {
    let mut now = from;
    while now <= until {
        store.lag().tick(at(now));
        now += 50 + late_ms;
    }
}

/// A sidecar of which each frame waits `wait_ms`, one report a second; returns the last moment.
fn reports_late(store: &Store, wait_ms: u64, reports: u64) -> Monotonic {
    let sidecar = Sidecar::new("jazz-1", 1);
    let mut hello = sidecar.hello.clone();
    hello.clock = sidecar.theirs(at(0));
    let connected = store.connect(at(wait_ms), StreamId(1), &hello);
    let link = connected.unwrap().link;
    for second in 1..=reports {
        let made = at(second * 1000);
        let report = sidecar.report(made, vec![inbound(10 * second)]);
        store
            .apply(made + Duration::from_millis(wait_ms), &link, &report)
            .unwrap();
    }
    at(reports * 1000 + wait_ms)
}

/// After a restart every frame waits for three seconds. A replica that knows it tells the true age
/// of the value; one that did not measure it would say that the value is of this moment.
#[test]
fn a_value_that_waited_is_not_young() {
    // What it measures is how long a frame may have waited at most.
    for (knows, ages_ms) in [(true, 3000..=4000), (false, 0..=0)] {
        let store = store();
        if knows {
            ticks(&store, 0, 60_000, 3000);
        }
        let now = reports_late(&store, 3000, 10);
        let reading = read(&store, now, "jazz-1", &rate(5)).unwrap();
        let age = now.since(reading.timestamp).as_millis();
        assert!(ages_ms.contains(&age), "{knows}: {age} ms");
        assert_eq!(reading.value.0, 10_000, "the rate is that of its own time");
    }
}

/// Further behind than a report promised and its grace, the value is held, and then there is none:
/// as if the sidecar had sent nothing.
#[test]
fn what_comes_too_late_is_held_and_then_gone() {
    for (late_ms, expected) in [
        (0, PodState::Live),
        (2000, PodState::Live),
        (4000, PodState::Held),
        (14_000, PodState::Gone),
    ] {
        let store = store();
        ticks(&store, 0, 60_000, late_ms);
        let now = reports_late(&store, late_ms, 20);
        assert_eq!(state(&store, now, "jazz-1"), expected, "{late_ms}");
        let value = read(&store, now, "jazz-1", &rate(5)).err();
        assert_eq!(value, (expected == PodState::Gone).then_some(NoValue::Gone));
    }
}

/// The rate is right on the way out of it, too: what was told before moves along when the first
/// frame that did not wait shows how old it was.
#[test]
fn the_way_back_leaves_no_hole() {
    let store = store();
    let sidecar = Sidecar::new("jazz-1", 1);
    // It is taken for late by three seconds, and its frames did not wait at all.
    ticks(&store, 0, 3000, 2950);
    let link = sidecar.connect(&store, at(0), 1);
    for second in 1..=3 {
        sidecar.says(&store, at(second * 1000), &link, 10 * second);
    }
    let early = read(&store, at(3000), "jazz-1", &rate(2)).unwrap();
    assert_eq!(at(3000).since(early.timestamp), Duration::from_millis(2950));
    for second in 4..=20 {
        ticks(&store, second * 1000 - 1000, second * 1000 - 50, 0);
        sidecar.says(&store, at(second * 1000), &link, 10 * second);
        let reading = read(&store, at(second * 1000), "jazz-1", &rate(5)).unwrap();
        assert_eq!(reading.value.0, 10_000, "{second}: {reading:?}");
    }
    let late = read(&store, at(20_000), "jazz-1", &rate(5)).unwrap();
    assert_eq!(late.timestamp, at(20_000));
}
