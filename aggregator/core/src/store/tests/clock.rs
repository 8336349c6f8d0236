//! Clocks of sidecars that are set while they report, and sidecars that restart after that.

use std::time::Duration;

use proptest::prelude::*;

use super::sidecar::{Sidecar, at, inbound, rate, read, refused, state, store, total, value};
use crate::history::float;
use crate::status::{PodState, RefusedReason};
use crate::store::StoreRefusal;
use common_time::Monotonic;

/// Requests per second in these tests.
const RATE: u64 = 100;
/// Longest way of a frame, in milliseconds.
const WAY_MAX: u64 = 300;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// However often and however far a sidecar's clock is set, as its reports show it: no rate is
    /// off by more than the ways of frames can make it, no age is lower than the truth by more than
    /// a way, and no value is from the future.
    #[test]
    fn steps_change_nothing(
        seconds in prop::collection::vec(
            (0..WAY_MAX, prop::option::weighted(0.1, prop_oneof![-3_600_000i64..-3000, 3000i64..59_000])),
            10..120,
        ),
        skew in -10_000_000i64..10_000_000,
    ) {
        let store = store();
        let mut sidecar = Sidecar::new("jazz", 1).skewed(skew);
        let link = sidecar.connect(&store, at(0), 1);
        for (second, (way, step)) in (1..).zip(seconds) {
            // From the third report on: before that nothing bounds the clock from below.
            sidecar.skew_ms += step.filter(|_| second > 3).unwrap_or(0);
            let made = at(second * 1000);
            let now = made + Duration::from_millis(way);
            let mut report = sidecar.report(made, vec![inbound(second * RATE)]);
            report.seq = second;
            store.apply(now, &link, &report).unwrap();
            if second < 3 {
                continue;
            }
            let reading = read(&store, now, "jazz", &rate(5)).unwrap();
            prop_assert!(reading.timestamp <= now);
            prop_assert!(now.since(reading.timestamp) + Duration::from_millis(WAY_MAX) >= now.since(made));
            let served = float(reading.value.0) / 1000.0 * reading.window.as_secs_f64();
            let due = float(RATE) * reading.window.as_secs_f64();
            let most = float(RATE) * 2.0 * float(WAY_MAX) / 1000.0;
            prop_assert!((served - due).abs() <= most + 0.1, "{served} of {due}, {reading:?}");
            prop_assert_eq!(state(&store, now, "jazz"), PodState::Live);
        }
    }
}

/// A sidecar that restarts after its clock was set back by an hour is the newer one, and what the
/// old one said is late.
#[test]
fn the_newer_instance_is_the_one_that_came_later() {
    let store = store();
    let old = Sidecar::new("jazz", 1);
    let old_link = old.connect(&store, at(0), 1);
    for second in 1..=5 {
        old.says(&store, at(second * 1000), &old_link, second * RATE);
    }
    store.disconnect(at(6000), &old_link);
    let new = Sidecar::new("jazz", 2).skewed(-3_600_000).started(at(6000));
    let link = new.connect(&store, at(6000), 2);
    for second in 7..=9 {
        new.says(&store, at(second * 1000), &link, (second - 6) * RATE);
    }
    let reading = read(&store, at(9000), "jazz", &rate(2));
    assert_eq!(value(reading), Ok((RATE * 1000, 2000)));
    let late = old.try_say(&store, at(9100), &old_link, 900);
    assert!(
        matches!(late, Err(StoreRefusal::OlderInstance { .. })),
        "{late:?}"
    );
    assert!(old.try_connect(&store, at(9200), 3).is_err());
    assert_eq!(refused(&store, RefusedReason::OlderInstance), 2);
    assert_eq!(total(&store, at(9200), "jazz"), Some(3 * RATE));
}

/// One that was replaced is known for that after its past is of no use any more.
#[test]
fn a_former_instance_does_not_come_back() {
    let store = store();
    let old = Sidecar::new("jazz", 1);
    let old_link = old.connect(&store, at(0), 1);
    old.says(&store, at(1000), &old_link, 10);
    let new = Sidecar::new("jazz", 2).started(at(2000));
    let link = new.connect(&store, at(2000), 2);
    let mut now = Monotonic::default();
    for second in 3..=400 {
        now = at(second * 1000);
        new.says(&store, now, &link, second);
        store.expire(now);
    }
    let again = old.try_connect(&store, now, 3);
    assert!(
        matches!(again, Err(StoreRefusal::OlderInstance { .. })),
        "{again:?}"
    );
    assert_eq!(total(&store, now, "jazz"), Some(400));
}

/// A stream that is opened anew after the clock was set back is not late.
#[test]
fn a_new_stream_may_have_another_clock() {
    let store = store();
    let mut sidecar = Sidecar::new("jazz", 1);
    let link = sidecar.connect(&store, at(0), 1);
    for second in 1..=5 {
        sidecar.says(&store, at(second * 1000), &link, second * RATE);
    }
    store.disconnect(at(5100), &link);
    sidecar.skew_ms -= 1_800_000;
    let link = sidecar.connect(&store, at(5500), 2);
    for second in 6..=8 {
        sidecar.says(&store, at(second * 1000), &link, second * RATE);
    }
    let reading = read(&store, at(8000), "jazz", &rate(5)).unwrap();
    assert_eq!(
        (reading.timestamp, reading.value.0),
        (at(8000), RATE * 1000)
    );
}

/// A stream that is opened while another one reports may be heard late: that is no clock that was
/// set.
#[test]
fn a_late_hello_moves_nothing() {
    let store = store();
    let sidecar = Sidecar::new("jazz", 1);
    let link = sidecar.connect(&store, at(0), 1);
    for second in 1..=6 {
        sidecar.says(&store, at(second * 1000), &link, second * RATE);
    }
    let mut late = Sidecar::new("jazz", 1);
    late.skew_ms = -4000;
    let link = late.connect(&store, at(6000), 2);
    for second in 7..=9 {
        sidecar.says(&store, at(second * 1000), &link, second * RATE);
    }
    let reading = read(&store, at(9000), "jazz", &rate(5)).unwrap();
    assert_eq!(
        (reading.timestamp, reading.value.0),
        (at(9000), RATE * 1000)
    );
}
