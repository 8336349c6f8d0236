//! What the store refuses, and that it counts it and goes on.

use std::time::Duration;

use super::sidecar::{
    Sidecar, at, inbound, key, rate, read, refused, requests, store, total, value,
};
use crate::limits::{StoreLimits, TOTAL_MAX};
use crate::query::NoValue;
use crate::report::{CounterScope, ProcessId, SeriesTotals};
use crate::series::Direction;
use crate::status::RefusedReason;
use crate::store::{Store, StoreRefusal};

/// A full store refuses a new pod; those it holds go on, and a forgotten one makes room.
#[test]
fn pods() {
    let store = Store::new(StoreLimits {
        pods: 1,
        ..StoreLimits::default()
    });
    let first = Sidecar::new("a", 1);
    let link = first.connect(&store, at(0), 1);
    let second = Sidecar::new("b", 1);
    let error = second.try_connect(&store, at(0), 2).unwrap_err();
    assert_eq!(
        error.to_string(),
        "pod prod/b: the aggregator holds 1 pods already"
    );
    assert_eq!(refused(&store, RefusedReason::Pods), 1);
    first.says(&store, at(1000), &link, 1);
    store.disconnect(at(1000), &link);
    let later = at(1_000_000);
    assert_eq!(store.expire(later).len(), 1);
    second.try_connect(&store, later, 3).unwrap();
}

/// A pod restarting again and again drops its oldest past; one with too many Wasm VMs at once is
/// refused.
#[test]
fn instances() {
    let store = Store::new(StoreLimits {
        instances_per_pod: 3,
        ..StoreLimits::default()
    });
    for n in 1..=10 {
        let sidecar = Sidecar::new("restarting", n).started(at(n * 1000));
        let link = sidecar.connect(&store, at(n * 1000), n);
        sidecar.says(&store, at(n * 1000 + 500), &link, n);
        store.disconnect(at(n * 1000 + 500), &link);
    }
    assert_eq!(total(&store, at(10_500), "restarting"), Some(10));
    assert_eq!(store.counts(at(10_500)).instances, 3);

    let vm = |n| {
        let mut vm = Sidecar::new("vms", n);
        vm.hello.process = ProcessId(7);
        vm.hello.scope = CounterScope::Vm;
        vm
    };
    for n in 1..=3 {
        vm(n).connect(&store, at(0), 100 + n);
    }
    let error = vm(4).try_connect(&store, at(0), 104).unwrap_err();
    assert_eq!(
        error,
        StoreRefusal::InstancesPerPod {
            pod: vm(4).hello.pod,
            max: 3
        }
    );
    assert_eq!(refused(&store, RefusedReason::InstancesPerPod), 1);
}

/// Series beyond the limit are refused, the rest of the report is taken; sums over the pod's series
/// are unknown then, until a snapshot fits.
#[test]
fn series() {
    let store = Store::new(StoreLimits {
        series_per_pod: 2,
        ..StoreLimits::default()
    });
    let sidecar = Sidecar::new("jazz", 1);
    let link = sidecar.connect(&store, at(0), 1);
    let many = |count: usize, total| {
        let series = |n| (key(Direction::Inbound, &format!("c{n}")), requests(total));
        (0..count).map(series).collect::<Vec<_>>()
    };
    let report = sidecar.report(at(1000), many(5, 10));
    let applied = store.apply(at(1000), &link, &report).unwrap();
    assert_eq!(applied.series_refused, 3);
    assert_eq!(refused(&store, RefusedReason::SeriesPerPod), 3);
    assert_eq!(total(&store, at(1000), "jazz"), Some(10));
    let reading = read(&store, at(1000), "jazz", &rate(60));
    assert_eq!(value(reading), Err(NoValue::Refused));
    let report = sidecar.report(at(2000), many(2, 20));
    store.apply(at(2000), &link, &report).unwrap();
    let reading = read(&store, at(2000), "jazz", &rate(60));
    assert_eq!(value(reading), Ok((20_000, 2000)));
}

/// A total that cannot be: the report is refused by name and value, and none of it is taken.
#[test]
fn impossible_totals() {
    let store = store();
    let sidecar = Sidecar::new("jazz", 1);
    let link = sidecar.connect(&store, at(0), 1);
    sidecar.says(&store, at(1000), &link, 10);
    let impossible = [
        SeriesTotals {
            requests: Some(TOTAL_MAX + 1),
            ..SeriesTotals::default()
        },
        requests(3_000_000_000),
        SeriesTotals {
            upstream_attempts: Some(u64::MAX),
            ..SeriesTotals::default()
        },
        SeriesTotals {
            inflight: Some(u64::MAX),
            ..SeriesTotals::default()
        },
        SeriesTotals {
            inflight_ns: Some(u64::MAX),
            ..SeriesTotals::default()
        },
    ];
    let names = [
        "requests",
        "requests",
        "upstream_attempts",
        "inflight",
        "inflight_ns",
    ];
    for (totals, name) in impossible.into_iter().zip(names) {
        let series = vec![inbound(20), (key(Direction::Inbound, "b"), totals)];
        let report = sidecar.report(at(2000), series);
        let error = store.apply(at(2000), &link, &report).unwrap_err();
        let text = error.to_string();
        let field = format!("report.series[1].{name}: ");
        assert!(text.starts_with(&field), "{text}");
        assert_eq!(error.reason(), RefusedReason::ImpossibleTotal);
        assert_eq!(total(&store, at(2000), "jazz"), Some(10));
    }
    assert_eq!(refused(&store, RefusedReason::ImpossibleTotal), 5);
    sidecar.says(&store, at(2000), &link, 20);
    assert_eq!(total(&store, at(2000), "jazz"), Some(20));
}

/// A high total is no impossible rise if its counters are old enough to have reached it.
#[test]
fn an_old_instance_may_have_a_high_total() {
    let store = store();
    let sidecar = Sidecar::new("jazz", 1);
    let day = 86_400_000;
    let link = sidecar.connect(&store, at(day), 1);
    sidecar.says(&store, at(day), &link, 50_000_000_000_000);
    assert_eq!(total(&store, at(day), "jazz"), Some(50_000_000_000_000));
    let young = Sidecar::new("young", 1).started(at(day - 1000));
    let link = young.connect(&store, at(day), 2);
    let error = young.try_say(&store, at(day), &link, 50_000_000_000_000);
    assert!(
        matches!(error, Err(StoreRefusal::RoseTooFast { .. })),
        "{error:?}"
    );
}

/// A report from the future is refused; after a reconnect the sidecar's new clock is taken.
#[test]
fn ahead_of_the_clock() {
    let store = store();
    let mut sidecar = Sidecar::new("jazz", 1);
    let link = sidecar.connect(&store, at(0), 1);
    sidecar.says(&store, at(1000), &link, 10);
    sidecar.skew_ms = 61_000;
    let error = sidecar.try_say(&store, at(2000), &link, 20).unwrap_err();
    assert_eq!(
        error,
        StoreRefusal::AheadOfClock {
            end_ms: at(63_000).0,
            ahead: Duration::from_secs(61)
        }
    );
    store.disconnect(at(2000), &link);
    let link = sidecar.connect(&store, at(2500), 2);
    sidecar.says(&store, at(3000), &link, 30);
    let reading = read(&store, at(3000), "jazz", &rate(60)).unwrap();
    assert_eq!((reading.value.0, reading.timestamp), (10_000, at(3000)));
}
