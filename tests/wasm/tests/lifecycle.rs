//! The built modules through the life of an Envoy process: start, update, trap, end.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tests_wasm::deployment::Role;
use tests_wasm::envoy::{Envoy, Outcome, Setup};
use tests_wasm::plugin::Failure;
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
    envoy.aggregator("aggregator").totals().sum(What::Requests)
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
        let envoy = Envoy::start(Setup::new(vec![role.plugin()?]))?;
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

/// Whatever the number of workers there is one stream, and the totals are what was sent.
#[test]
fn one_stream_per_process_carries_exact_totals() -> Result<()> {
    let mut envoy = Envoy::start(Setup::new(vec![Role::Filter.plugin()?]).workers(3))?;
    envoy.run_seconds(2);
    load(&mut envoy, 3, 200);
    envoy.run_seconds(2);
    assert_eq!(requests(&envoy), Some(600));
    let aggregator = envoy.aggregator("aggregator");
    assert_eq!(aggregator.streams().len(), 1);
    assert_eq!(aggregator.totals().sum(What::Responses(2)), Some(600));
    assert_eq!(aggregator.totals().inflight(), Some(0));
    let stream = aggregator.streams()[0];
    let report = stream.last_report().expect("there were reports");
    assert_eq!((report.vms_expected, report.vms_live), (4, 4));
    let hello = stream.hello.as_ref().expect("the stream began with Hello");
    assert_eq!(hello.scope, 1, "of the process");
    let identity = hello.identity.as_ref().expect("Hello says who");
    assert_eq!(
        (identity.namespace.as_str(), identity.pod.as_str()),
        ("prod", "jazz-v1-0")
    );
    Ok(())
}

/// Counts that no tick has seen are in the final report: workers end before the main thread.
#[test]
fn sigterm_flushes_the_last_counts_of_every_worker() -> Result<()> {
    for seed in 0..10 {
        let mut setup = Setup::new(vec![Role::Filter.plugin()?]).workers(3);
        setup.seed = seed;
        let mut envoy = Envoy::start(setup)?;
        envoy.run_seconds(3);
        load(&mut envoy, 3, 50);
        for worker in 0..3 {
            for _ in 0..7 {
                envoy.request(worker, &Request::inbound());
            }
            envoy.begin(worker, &Request::inbound());
        }
        envoy.shut_down();
        assert_eq!(requests(&envoy), Some(150 + 21 + 3), "seed {seed}");
        let aggregator = envoy.aggregator("aggregator");
        let totals = aggregator.totals();
        assert_eq!(totals.sum(What::Responses(2)), Some(171), "seed {seed}");
        assert_eq!(
            totals.sum(What::Responses(0)),
            Some(3),
            "cut off, seed {seed}"
        );
        assert_eq!(totals.inflight(), Some(0), "seed {seed}");
        let streams = aggregator.streams();
        let last = streams.iter().filter_map(|stream| stream.last_report());
        assert!(last.clone().any(|report| report.r#final), "seed {seed}");
    }
    Ok(())
}

/// The same when the aggregator has not acknowledged the report before: the final one goes out all
/// the same.
#[test]
fn the_final_report_does_not_wait_for_an_acknowledgement() -> Result<()> {
    let mut envoy = Envoy::start(Setup::new(vec![Role::Filter.plugin()?]))?;
    envoy.run_seconds(3);
    envoy.script("aggregator", |script| {
        script.acks = tests_wasm::aggregator::Acks::Never;
    });
    load(&mut envoy, 2, 60);
    envoy.run_seconds(2);
    load(&mut envoy, 2, 10);
    envoy.shut_down();
    assert_eq!(requests(&envoy), Some(140));
    Ok(())
}

/// A bad configuration is told by the field's name; traffic flows and is counted as far as it can
/// be.
#[test]
fn a_bad_configuration_is_named_and_traffic_flows() -> Result<()> {
    let typo = Role::Filter.plugin_with(|json| {
        json["aggregatorss"] = json["aggregators"].take();
        json.as_object_mut().map(|map| map.remove("aggregators"));
    })?;
    let cases = [
        (typo, "aggregatorss"),
        (
            Role::Filter.plugin_with(|json| json["flush_interval_ms"] = json!(7))?,
            "flush_interval_ms",
        ),
        (
            Role::Filter.plugin_with(|json| json["responses"] = json!("all"))?,
            "responses",
        ),
        (
            Role::Filter.plugin_with(|json| json["aggregators"] = json!([{"name": "a"}]))?,
            "cluster",
        ),
        (
            Role::AccessLog.plugin_with(|json| json["identity"]["namespace"] = json!(7))?,
            "namespace",
        ),
        (Role::Filter.plugin_from("{\"role\":")?, "JSON"),
        (Role::AccessLog.plugin_from("")?, ""),
    ];
    for (mut plugin, field) in cases {
        plugin.failure = Failure::Closed;
        let configuration = plugin.configuration.clone();
        let mut envoy = Envoy::start(Setup::new(vec![plugin]))?;
        for _ in 0..20 {
            let outcome = envoy.request(0, &Request::inbound());
            assert_eq!(outcome, Outcome::Passed, "{configuration}");
            envoy.run_for(Duration::from_millis(100));
        }
        assert_eq!(envoy.dead(), [], "{configuration}");
        let logs = envoy.logs();
        let told = |line: &&str| line.contains(field);
        let lines: Vec<_> = logs.iter().map(|line| line.message.as_str()).collect();
        assert!(
            field.is_empty() || lines.iter().any(told),
            "{field}: {lines:?}"
        );
        let metrics = envoy.metrics();
        let mut metrics = metrics.iter().filter(|(_, name, _)| {
            name.ends_with("inbound.requests") || name.ends_with("inbound.completed")
        });
        let counted = metrics.next().map(|(.., value)| value);
        assert_eq!(counted, Some(20), "{configuration}");
    }
    Ok(())
}

/// An update changes roots, not counters: nothing is lost or counted twice, the instance stays,
/// requests that began on the old root end there.
#[test]
fn an_update_keeps_counters_and_instance() -> Result<()> {
    let mut envoy = Envoy::start(Setup::new(vec![Role::Filter.plugin()?]))?;
    envoy.run_seconds(2);
    load(&mut envoy, 2, 50);
    let long = envoy.begin(0, &Request::inbound());
    let cut = envoy.begin(1, &Request::inbound());
    let plugin = Role::Filter.plugin_with(|json| json["flush_interval_ms"] = json!(500))?;
    envoy.update(0, plugin)?;
    load(&mut envoy, 2, 50);
    envoy.finish(long);
    envoy.run_seconds(2);
    envoy.finish_drain();
    envoy.finish(cut);
    load(&mut envoy, 2, 50);
    envoy.run_seconds(3);
    assert_eq!(requests(&envoy), Some(302));
    let aggregator = envoy.aggregator("aggregator");
    assert_eq!(aggregator.totals().instances().len(), 1);
    assert_eq!(aggregator.totals().inflight(), Some(0));
    assert_eq!(
        aggregator.totals().sum(What::Responses(0)),
        Some(1),
        "cut off by the drain"
    );
    assert_eq!(aggregator.open_streams().len(), 1);
    let report = aggregator.open_streams()[0].last_report();
    let report = report.expect("the new root reports");
    assert_eq!((report.vms_expected, report.vms_live), (3, 3));
    Ok(())
}

/// New code means new VMs; the process-wide counters and their name outlive the old ones.
#[test]
fn new_code_keeps_counters_and_instance() -> Result<()> {
    let mut envoy = Envoy::start(Setup::new(vec![Role::Filter.plugin()?]))?;
    envoy.run_seconds(2);
    load(&mut envoy, 2, 50);
    let mut plugin = Role::Filter.plugin()?;
    plugin.vm_configuration = "another VM".to_owned();
    envoy.update(0, plugin)?;
    load(&mut envoy, 2, 50);
    envoy.finish_drain();
    load(&mut envoy, 2, 50);
    envoy.run_seconds(4);
    assert_eq!(requests(&envoy), Some(300));
    let aggregator = envoy.aggregator("aggregator");
    assert_eq!(aggregator.totals().instances().len(), 1);
    assert_eq!(aggregator.open_streams().len(), 1);
    let report = aggregator.open_streams()[0].last_report();
    let report = report.expect("the new VMs report");
    assert_eq!((report.vms_expected, report.vms_live), (3, 3));
    Ok(())
}

/// A worker's VM that traps is missed: fewer VMs live than expected. The others go on, and so does
/// traffic.
#[test]
fn a_trapped_worker_is_reported_and_the_others_go_on() -> Result<()> {
    let mut envoy = Envoy::start(Setup::new(vec![Role::Filter.plugin()?]).workers(3))?;
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
    let aggregator = envoy.aggregator("aggregator");
    let stream = aggregator.open_streams();
    let report = stream[0].last_report().expect("there were reports");
    assert_eq!((report.vms_expected, report.vms_live), (4, 3));
    Ok(())
}

/// If the VM that streams traps, another takes over with the same instance and the same totals.
#[test]
fn another_vm_takes_over_when_the_streaming_one_traps() -> Result<()> {
    let mut envoy = Envoy::start(Setup::new(vec![Role::Filter.plugin()?]).workers(3))?;
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
    let aggregator = envoy.aggregator("aggregator");
    assert_eq!(aggregator.totals().instances().len(), 1);
    let ends: Vec<_> = aggregator
        .streams()
        .iter()
        .map(|stream| stream.end)
        .collect();
    assert!(
        matches!(ends[..], [Some((_, End::Superseded)), .., None]),
        "the dead VM's stream is superseded: {ends:?}"
    );
    let streams = aggregator.open_streams();
    let report = streams[0].last_report().expect("it reports");
    assert_eq!((report.vms_expected, report.vms_live), (4, 3));
    Ok(())
}

/// A reloaded VM takes the place of the one that trapped: as many are live as are expected.
#[test]
fn a_reloaded_vm_takes_the_place_of_the_dead_one() -> Result<()> {
    let mut envoy = Envoy::start(Setup::new(vec![Role::AccessLog.plugin()?]))?;
    envoy.run_seconds(2);
    load(&mut envoy, 2, 20);
    envoy.run_seconds(1);
    envoy.trap(0, Thread::Worker(0), 5);
    load(&mut envoy, 2, 10);
    envoy.run_seconds(4);
    load(&mut envoy, 2, 20);
    envoy.run_seconds(4);
    assert_eq!(envoy.dead(), []);
    let aggregator = envoy.aggregator("aggregator");
    let streams = aggregator.open_streams();
    let report = streams[0].last_report().expect("it reports");
    assert_eq!((report.vms_expected, report.vms_live), (3, 3));
    assert_eq!(aggregator.totals().instances().len(), 1);
    Ok(())
}

/// The last report says that it is the last, also where two modules run beside each other: their
/// VMs on the main thread end one after the other.
#[test]
fn the_last_report_of_a_process_says_so() -> Result<()> {
    let both = [Role::Filter.plugin()?, Role::UpstreamLog.plugin()?];
    for plugins in [both[..1].to_vec(), both[1..].to_vec(), both.to_vec()] {
        let count = plugins.len();
        let mut envoy = Envoy::start(Setup::new(plugins))?;
        envoy.run_seconds(2);
        load(&mut envoy, 2, 10);
        envoy.shut_down();
        let aggregator = envoy.aggregator("aggregator");
        let streams = aggregator.streams();
        let finals = streams.iter().filter(|stream| {
            let last = stream.last_report();
            last.is_some_and(|report| report.r#final)
        });
        assert_eq!(finals.count(), 1, "{count} plugins");
    }
    Ok(())
}

/// The old VMs of an update end, but not the sidecar: their last report is not the last one.
#[test]
fn the_last_report_of_a_replaced_vm_is_not_final() -> Result<()> {
    let mut envoy = Envoy::start(Setup::new(vec![Role::Filter.plugin()?]))?;
    envoy.run_seconds(2);
    let mut plugin = Role::Filter.plugin()?;
    plugin.vm_configuration = "another VM".to_owned();
    envoy.update(0, plugin)?;
    envoy.run_seconds(2);
    envoy.finish_drain();
    envoy.run_seconds(2);
    let aggregator = envoy.aggregator("aggregator");
    let reports = aggregator.streams().into_iter().flat_map(|s| &s.reports);
    let mut reports = reports.map(|(_, report)| report).peekable();
    assert!(reports.peek().is_some());
    assert!(reports.all(|report| !report.r#final));
    Ok(())
}
