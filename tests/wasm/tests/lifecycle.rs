//! The built modules where only a host of our own can look: what a canary calls, and VMs that trap.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use tests_wasm::envoy::{Envoy, Outcome, Setup};
use tests_wasm::plugin::{Plugin, Role};
use tests_wasm::process::{Life, Thread};
use tests_wasm::request::Request;
use tests_wasm::stream::End;
use tests_wasm::totals::What;

/// Requests to each worker in turn, `each` for every worker, with pauses so that ticks fall in
/// between.
fn load(envoy: &mut Envoy, workers: usize, each: u32) {
    for _ in 0..each {
        for worker in 0..workers {
            envoy.request(worker, &Request::inbound());
        }
        envoy.run_for(Duration::from_millis(17));
    }
}

fn requests(envoy: &Envoy) -> Option<u64> {
    envoy.aggregator().totals().sum(What::Requests)
}

/// The canary and the base VM call nothing that stays behind.
#[test]
fn the_canary_leaves_no_trace() -> Result<()> {
    let harmless = [
        "(callback)",
        "(allocator)",
        "clock_time_get",
        "environ_get",
        "environ_sizes_get",
        "proxy_get_buffer_bytes",
        "proxy_get_current_time_nanoseconds",
        "proxy_get_property",
        "proxy_log",
        "proxy_set_tick_period_milliseconds",
        "random_get",
    ];
    for role in [Role::Filter, Role::AccessLog, Role::UpstreamLog] {
        let envoy = Envoy::start(Setup::new(vec![Plugin::deployed(role)?]))?;
        let calls = envoy.calls();
        let by_canary = calls.keys().filter(|(life, ..)| *life != Life::Live);
        let called: BTreeSet<_> = by_canary.map(|(.., name)| *name).collect();
        assert!(called.contains("(callback)"), "a canary ran");
        let harmful: Vec<_> = called
            .iter()
            .filter(|name| !harmless.contains(name))
            .collect();
        assert!(harmful.is_empty(), "{role:?}: {harmful:?}");
        assert_eq!(envoy.metrics().iter().count(), 0, "before the first tick");
    }
    Ok(())
}

/// A worker's VM that traps is missed: fewer VMs live than expected. The others go on, and so does
/// traffic.
#[test]
fn a_trapped_worker_is_reported_and_the_others_go_on() -> Result<()> {
    let mut envoy = Envoy::start(Setup::new(vec![Plugin::deployed(Role::Filter)?]).workers(3))?;
    envoy.run_seconds(2);
    load(&mut envoy, 3, 20);
    envoy.run_seconds(1);
    envoy.trap(0, Thread::Worker(1), 5);
    load(&mut envoy, 3, 100);
    envoy.run_seconds(4);
    assert_eq!(envoy.dead(), [Thread::Worker(1)]);
    assert_eq!(envoy.request(1, &Request::inbound()), Outcome::Passed);
    assert_eq!(
        requests(&envoy),
        Some(60 + 200),
        "those of the dead VM are not counted"
    );
    let aggregator = envoy.aggregator();
    let stream = aggregator.open_streams();
    let report = stream[0].last.as_ref().expect("there were reports");
    assert_eq!((report.vms_expected, report.vms_live), (4, 3));
    Ok(())
}

/// If the VM that streams traps, another takes over with the same instance and the same totals.
#[test]
fn another_vm_takes_over_when_the_streaming_one_traps() -> Result<()> {
    let mut envoy = Envoy::start(Setup::new(vec![Plugin::deployed(Role::Filter)?]).workers(3))?;
    envoy.run_seconds(2);
    load(&mut envoy, 3, 50);
    envoy.run_seconds(1);
    envoy.trap(0, Thread::Main, 5);
    load(&mut envoy, 3, 50);
    envoy.run_seconds(5);
    load(&mut envoy, 3, 50);
    envoy.run_seconds(2);
    assert_eq!(envoy.dead(), [Thread::Main]);
    assert_eq!(requests(&envoy), Some(450));
    let aggregator = envoy.aggregator();
    assert_eq!(aggregator.totals().instances().len(), 1);
    let ends: Vec<_> = aggregator
        .streams()
        .iter()
        .map(|stream| stream.end)
        .collect();
    assert!(
        matches!(ends[..], [Some(End::Superseded), .., None]),
        "the dead VM's stream is superseded: {ends:?}"
    );
    let streams = aggregator.open_streams();
    let report = streams[0].last.as_ref().expect("it reports");
    assert_eq!((report.vms_expected, report.vms_live), (4, 3));
    Ok(())
}

/// A reloaded VM takes the place of the one that trapped: as many are live as are expected.
#[test]
fn a_reloaded_vm_takes_the_place_of_the_dead_one() -> Result<()> {
    let mut envoy = Envoy::start(Setup::new(vec![Plugin::deployed(Role::AccessLog)?]))?;
    envoy.run_seconds(2);
    load(&mut envoy, 2, 20);
    envoy.run_seconds(1);
    envoy.trap(0, Thread::Worker(0), 5);
    load(&mut envoy, 2, 10);
    envoy.run_seconds(4);
    load(&mut envoy, 2, 20);
    envoy.run_seconds(4);
    assert_eq!(envoy.dead(), []);
    let aggregator = envoy.aggregator();
    let streams = aggregator.open_streams();
    let report = streams[0].last.as_ref().expect("it reports");
    assert_eq!((report.vms_expected, report.vms_live), (3, 3));
    assert_eq!(aggregator.totals().instances().len(), 1);
    Ok(())
}
