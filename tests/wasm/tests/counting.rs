//! What the built modules count, role by role.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tests_wasm::deployment::Role;
use tests_wasm::envoy::{Envoy, Setup};
use tests_wasm::metrics::StatsMatcher;
use tests_wasm::plugin::Direction;
use tests_wasm::request::Request;
use tests_wasm::totals::What;

fn sum(envoy: &Envoy, what: What) -> Option<u64> {
    envoy.aggregator("aggregator").totals().sum(what)
}

fn sum_of(envoy: &Envoy, direction: Direction, cluster: &str, what: What) -> Option<u64> {
    let aggregator = envoy.aggregator("aggregator");
    aggregator.totals().sum_where(|counter| {
        counter.direction == direction as i32 && counter.cluster == cluster && counter.what == what
    })
}

/// So many requests on one worker, with time in between.
fn send(envoy: &mut Envoy, worker: usize, count: u32, request: &Request) {
    for _ in 0..count {
        envoy.request(worker, request);
        envoy.run_for(Duration::from_millis(7));
    }
}

/// Role `filter` counts both directions apart, responses by class, and requests in flight.
#[test]
fn the_filter_counts_requests_responses_and_requests_in_flight() -> Result<()> {
    let mut envoy = Envoy::start(Setup::new(Role::Filter.both_ways()?))?;
    envoy.run_seconds(2);
    send(&mut envoy, 0, 30, &Request::inbound());
    send(&mut envoy, 1, 20, &Request::inbound().status(503));
    send(&mut envoy, 0, 10, &Request::inbound().status(404));
    send(&mut envoy, 1, 5, &Request::inbound().reset());
    send(&mut envoy, 1, 8, &Request::outbound().status(302));
    let open = envoy.begin(0, &Request::inbound());
    envoy.begin(1, &Request::inbound());
    envoy.run_seconds(2);
    assert_eq!(envoy.aggregator("aggregator").totals().inflight(), Some(2));
    envoy.finish(open);
    envoy.run_seconds(2);
    let inbound = |what| sum_of(&envoy, Direction::Inbound, "", what);
    let outbound = |what| sum_of(&envoy, Direction::Outbound, "", what);
    assert_eq!(inbound(What::Requests), Some(67));
    assert_eq!(inbound(What::Responses(2)), Some(31));
    assert_eq!(inbound(What::Responses(4)), Some(10));
    assert_eq!(inbound(What::Responses(5)), Some(20));
    assert_eq!(inbound(What::Responses(0)), Some(5));
    assert_eq!(outbound(What::Requests), Some(8));
    assert_eq!(outbound(What::Responses(3)), Some(8));
    assert_eq!(inbound(What::Attempts), None, "not this role's business");
    assert_eq!(envoy.aggregator("aggregator").totals().inflight(), Some(1));
    Ok(())
}

/// The integral of requests in flight is theirs and no more: two requests of three seconds are six
/// seconds.
#[test]
fn inflight_is_integrated_over_time() -> Result<()> {
    let mut envoy = Envoy::start(Setup::new(vec![Role::Filter.plugin()?]))?;
    envoy.run_seconds(2);
    let open = [0, 1].map(|worker| envoy.begin(worker, &Request::inbound()));
    envoy.run_seconds(3);
    for id in open {
        envoy.finish(id);
    }
    envoy.run_seconds(5);
    assert_eq!(sum(&envoy, What::InflightNs), Some(6_000_000_000));
    Ok(())
}

/// The end of a request whose headers were never seen is a response, but nothing leaves flight that
/// did not take off.
#[test]
fn an_end_without_a_beginning_leaves_inflight_alone() -> Result<()> {
    let mut envoy = Envoy::start(Setup::new(vec![Role::Filter.plugin()?]))?;
    envoy.run_seconds(2);
    envoy.begin(0, &Request::inbound());
    for _ in 0..50 {
        envoy.local_reply(0, &Request::inbound().status(401));
        envoy.local_reply(1, &Request::inbound().status(401));
        envoy.run_for(Duration::from_millis(20));
    }
    envoy.run_seconds(2);
    assert_eq!(envoy.aggregator("aggregator").totals().inflight(), Some(1));
    assert_eq!(
        sum(&envoy, What::Requests),
        Some(1),
        "they were not proxied"
    );
    Ok(())
}

/// Beyond the table of open requests counting stays exact; what is left out of flight is said.
#[test]
fn more_open_requests_than_the_table_holds_are_counted_all_the_same() -> Result<()> {
    let mut envoy = Envoy::start(Setup::new(vec![Role::Filter.plugin()?]).workers(1))?;
    envoy.run_seconds(2);
    let open: Vec<_> = (0..10_000)
        .map(|_| envoy.begin(0, &Request::inbound()))
        .collect();
    envoy.run_seconds(2);
    let inflight = envoy.aggregator("aggregator").totals().inflight();
    assert!(
        (8000..10_000).contains(&inflight.expect("reported")),
        "{inflight:?}"
    );
    for id in open {
        envoy.finish(id);
    }
    envoy.run_seconds(2);
    assert_eq!(sum(&envoy, What::Requests), Some(10_000));
    assert_eq!(sum(&envoy, What::Responses(2)), Some(10_000));
    let aggregator = envoy.aggregator("aggregator");
    assert_eq!(aggregator.totals().inflight(), Some(0));
    let report = aggregator.streams()[0].last_report().expect("reported");
    let untracked = report
        .refused
        .map_or(0, |refused| refused.untracked_streams);
    assert_eq!(untracked, 10_000 - inflight.unwrap_or(0));
    Ok(())
}

/// Role `access_log` counts completions and says so; in flight is absent, not 0.
#[test]
fn the_access_log_counts_completions_and_knows_nothing_in_flight() -> Result<()> {
    let mut envoy = Envoy::start(Setup::new(vec![Role::AccessLog.plugin()?]))?;
    envoy.run_seconds(2);
    send(&mut envoy, 0, 40, &Request::inbound());
    send(&mut envoy, 1, 2, &Request::inbound().reset());
    envoy.begin(0, &Request::inbound());
    envoy.run_seconds(2);
    assert_eq!(sum(&envoy, What::Requests), Some(42));
    assert_eq!(sum(&envoy, What::Responses(2)), Some(40));
    assert_eq!(sum(&envoy, What::Responses(0)), Some(2));
    assert_eq!(sum(&envoy, What::InflightNs), None);
    let aggregator = envoy.aggregator("aggregator");
    let reports = aggregator.streams().into_iter().flat_map(|s| &s.reports);
    let mut series = reports.flat_map(|(_, report)| &report.series).peekable();
    assert!(series.peek().is_some());
    for series in series {
        assert!(series.requests_at_completion || series.requests.is_none());
        assert_eq!(series.inflight, None);
        assert_eq!(series.upstream_attempts, None);
    }
    Ok(())
}

/// Access loggers of both listeners share a root if they are configured alike; requests are still
/// told apart.
#[test]
fn one_root_for_both_listeners_tells_directions_apart() -> Result<()> {
    let mut plugins = Role::AccessLog.both_ways()?;
    plugins.extend(Role::UpstreamLog.both_ways()?);
    let mut envoy = Envoy::start(Setup::new(plugins))?;
    envoy.run_seconds(2);
    for _ in 0..10 {
        for request in [Request::outbound(), Request::inbound(), Request::inbound()] {
            send(&mut envoy, 0, 1, &request);
            envoy.attempt(0, &request);
            envoy.attempt(0, &request);
        }
    }
    envoy.run_seconds(2);
    for (direction, requests) in [(Direction::Inbound, 20), (Direction::Outbound, 10)] {
        let of = |what| sum_of(&envoy, direction, "", what);
        assert_eq!(of(What::Requests), Some(requests), "{direction:?}");
        assert_eq!(of(What::Attempts), Some(requests * 2), "{direction:?}");
    }
    Ok(())
}

/// An access logger sees no status of a request that was reset, in whichever way Envoy says so.
#[test]
fn a_missing_status_is_no_status_either_way() -> Result<()> {
    for absent_header_is_empty in [false, true] {
        for role in [Role::Filter, Role::AccessLog] {
            let mut setup = Setup::new(vec![role.plugin()?]);
            setup.absent_header_is_empty = absent_header_is_empty;
            let mut envoy = Envoy::start(setup)?;
            envoy.run_seconds(2);
            send(&mut envoy, 0, 3, &Request::inbound().reset());
            envoy.run_seconds(2);
            assert_eq!(sum(&envoy, What::Responses(0)), Some(3), "{role:?}");
        }
    }
    Ok(())
}

/// Role `upstream_log` counts the attempts that have a local address, and nothing else.
#[test]
fn the_upstream_log_counts_attempts_that_reached_a_connection() -> Result<()> {
    let mut envoy = Envoy::start(Setup::new(vec![Role::UpstreamLog.plugin()?]))?;
    envoy.run_seconds(2);
    for index in 0..30 {
        envoy.attempt(index % 2, &Request::inbound().status(503));
        envoy.attempt(index % 2, &Request::inbound());
        envoy.attempt(index % 2, &Request::inbound().unconnected());
        envoy.run_for(Duration::from_millis(50));
    }
    envoy.run_seconds(2);
    assert_eq!(sum(&envoy, What::Attempts), Some(60));
    let aggregator = envoy.aggregator("aggregator");
    let reports = aggregator.streams().into_iter().flat_map(|s| &s.reports);
    for series in reports.flat_map(|(_, report)| &report.series) {
        assert_eq!((series.requests, series.inflight), (None, None));
        assert_eq!(series.inflight_ns, None);
        assert!(series.responses.is_empty());
    }
    Ok(())
}

/// Both modules in one process: still one stream, with the counters of both roles in one series.
#[test]
fn both_modules_share_one_stream() -> Result<()> {
    let mut plugins = Role::Filter.both_ways()?;
    plugins.push(Role::UpstreamLog.plugin()?);
    let mut envoy = Envoy::start(Setup::new(plugins).workers(3))?;
    envoy.run_seconds(3);
    for index in 0..300 {
        let worker = index % 3;
        let request = envoy.begin(worker, &Request::inbound());
        envoy.attempt(worker, &Request::inbound().status(503));
        envoy.attempt(worker, &Request::inbound());
        envoy.finish(request);
        envoy.request(worker, &Request::outbound());
        envoy.run_for(Duration::from_millis(9));
    }
    envoy.run_seconds(1);
    for worker in 0..3 {
        envoy.request(worker, &Request::inbound());
        envoy.attempt(worker, &Request::inbound());
    }
    envoy.shut_down();
    assert_eq!(
        sum_of(&envoy, Direction::Inbound, "", What::Requests),
        Some(303)
    );
    assert_eq!(
        sum_of(&envoy, Direction::Inbound, "", What::Attempts),
        Some(603)
    );
    assert_eq!(
        sum_of(&envoy, Direction::Outbound, "", What::Requests),
        Some(300)
    );
    let aggregator = envoy.aggregator("aggregator");
    assert_eq!(aggregator.streams().len(), 1);
    let stream = aggregator.streams()[0];
    assert!(
        stream
            .reports
            .iter()
            .any(|(_, report)| report.vms_expected == 8 && report.vms_live == 8)
    );
    Ok(())
}

/// With the dimension `cluster` each upstream cluster is a series; beyond a VM's limit they are
/// `other`, and nothing is lost.
#[test]
fn clusters_are_told_apart_up_to_a_limit() -> Result<()> {
    let plugin = Role::Filter.plugin_with(|json| {
        json["dimensions"] = json!(["cluster"]);
        json["max_series"] = json!(8);
    })?;
    let mut envoy = Envoy::start(Setup::new(vec![plugin]).workers(1))?;
    envoy.run_seconds(2);
    for index in 0..400 {
        let request = Request::inbound().to(&format!("cluster-{}", index % 20));
        envoy.request(0, &request);
        envoy.run_for(Duration::from_millis(3));
    }
    envoy.run_seconds(3);
    assert_eq!(sum(&envoy, What::Requests), Some(400));
    let of = |cluster| sum_of(&envoy, Direction::Inbound, cluster, What::Requests);
    assert_eq!(of("cluster-0"), Some(20));
    let other = of("other").expect("20 clusters do not fit");
    assert!(other >= 200, "{other}");
    let aggregator = envoy.aggregator("aggregator");
    let report = aggregator.streams()[0].last_report().expect("reported");
    let refused = report.refused.map_or(0, |refused| refused.series_overflow);
    assert_eq!(refused, other);
    assert_eq!(aggregator.totals().inflight(), Some(0));
    Ok(())
}

/// Exact codes are an option.
#[test]
fn exact_codes_are_an_option() -> Result<()> {
    let plugin = Role::AccessLog.plugin_with(|json| json["responses"] = json!("code"))?;
    let mut envoy = Envoy::start(Setup::new(vec![plugin]))?;
    envoy.run_seconds(2);
    for status in [200, 204, 301, 404, 404, 429, 503] {
        send(&mut envoy, 0, 1, &Request::inbound().status(status));
    }
    send(&mut envoy, 1, 2, &Request::inbound().reset());
    envoy.run_seconds(2);
    let count = |code| sum(&envoy, What::Responses(code));
    assert_eq!(
        (count(200), count(404), count(503)),
        (Some(1), Some(2), Some(1))
    );
    assert_eq!((count(0), count(2)), (Some(2), None));
    Ok(())
}

/// A `stats_matcher` hides process-wide counters: then each VM streams for itself, says so, and the
/// sum is exact, to the last request before SIGTERM.
#[test]
fn hidden_stats_make_each_vm_stream_for_itself() -> Result<()> {
    let matchers = [
        StatsMatcher::RejectAll,
        StatsMatcher::Reject(vec!["requests".to_owned()]),
        StatsMatcher::Reject(vec!["responses".to_owned()]),
    ];
    for matcher in matchers {
        let name = format!("{matcher:?}");
        let mut setup = Setup::new(vec![Role::Filter.plugin()?]).workers(3);
        setup.stats_matcher = matcher;
        let mut envoy = Envoy::start(setup)?;
        envoy.run_seconds(2);
        for _ in 0..100 {
            for worker in 0..3 {
                envoy.request(worker, &Request::inbound());
            }
            envoy.run_for(Duration::from_millis(37));
        }
        envoy.run_seconds(3);
        envoy.request(1, &Request::inbound());
        envoy.shut_down();
        let aggregator = envoy.aggregator("aggregator");
        let hellos = aggregator.streams().into_iter();
        let hellos: Vec<_> = hellos.filter_map(|stream| stream.hello.as_ref()).collect();
        let by_vm = hellos.iter().filter(|hello| hello.scope == 2);
        let instances: std::collections::BTreeSet<_> = by_vm.map(|h| h.instance).collect();
        assert!((3..=4).contains(&instances.len()), "{name}: {instances:x?}");
        let processes: std::collections::BTreeSet<_> = hellos.iter().map(|h| h.process).collect();
        assert_eq!(processes.len(), 1, "{name}");
        let of_process = aggregator.streams().into_iter();
        let mut of_process = of_process
            .filter(|stream| stream.hello.as_ref().is_some_and(|hello| hello.scope == 1))
            .map(|stream| stream.end.expect("it ends").0);
        let soon = Duration::from_secs(86_400 + 4);
        assert!(
            of_process.all(|end| end <= soon),
            "{name}: given up at once"
        );
        let totals = aggregator.totals();
        assert_eq!(
            totals.sum_of(&instances, What::Requests),
            Some(301),
            "{name}"
        );
        assert_eq!(
            totals.sum_of(&instances, What::Responses(2)),
            Some(301),
            "{name}"
        );
    }
    Ok(())
}

/// `/reset_counters` begins a new instance; nothing counted before or after is lost or doubled.
#[test]
fn a_reset_of_the_counters_begins_a_new_instance() -> Result<()> {
    let mut envoy = Envoy::start(Setup::new(vec![Role::Filter.plugin()?]))?;
    envoy.run_seconds(2);
    send(&mut envoy, 0, 100, &Request::inbound());
    envoy.run_seconds(3);
    envoy.reset_counters();
    envoy.run_seconds(3);
    send(&mut envoy, 1, 50, &Request::inbound());
    envoy.run_seconds(3);
    assert_eq!(sum(&envoy, What::Requests), Some(150));
    let aggregator = envoy.aggregator("aggregator");
    assert_eq!(aggregator.totals().instances().len(), 2);
    let streams = aggregator.open_streams();
    assert_eq!(streams.len(), 1);
    assert_eq!(aggregator.totals().inflight(), Some(0));
    Ok(())
}

/// Identity comes from the environment and the node where the configuration says nothing.
#[test]
fn identity_comes_from_environment_and_node() -> Result<()> {
    let plugin = Role::Filter.plugin_with(|json| json["identity"] = json!({"uid": "from-json"}))?;
    let mut setup = Setup::new(vec![plugin]);
    setup
        .environment
        .insert("POD_NAME".into(), "from-env".into());
    setup
        .environment
        .insert("POD_UID".into(), "not-this".into());
    let metadata = |key: &str| format!("xds.node.metadata.{key}");
    setup.node.insert(metadata("NAME"), "not-this".into());
    setup.node.insert(metadata("NAMESPACE"), "from-node".into());
    let mut envoy = Envoy::start(setup)?;
    envoy.run_seconds(3);
    let aggregator = envoy.aggregator("aggregator");
    let hello = aggregator.streams()[0]
        .hello
        .clone()
        .expect("it says Hello");
    let identity = hello.identity.expect("and who it is");
    assert_eq!(identity.pod, "from-env");
    assert_eq!(identity.pod_uid, "from-json");
    assert_eq!(identity.namespace, "from-node");
    Ok(())
}

/// Without an identity nothing is streamed, and the log says why once.
#[test]
fn without_an_identity_nothing_is_streamed() -> Result<()> {
    let plugin = Role::Filter.plugin_with(|json| json["identity"] = json!({}))?;
    let mut envoy = Envoy::start(Setup::new(vec![plugin]))?;
    send(&mut envoy, 0, 500, &Request::inbound());
    assert!(envoy.aggregator("aggregator").streams().is_empty());
    let logs = envoy.logs();
    let told = logs.iter().filter(|line| line.message.contains("POD_NAME"));
    let per_vm = told.fold(std::collections::BTreeMap::new(), |mut map, line| {
        *map.entry(line.thread).or_insert(0) += 1;
        map
    });
    assert!(!per_vm.is_empty(), "{logs:?}");
    assert!(per_vm.values().all(|count| *count == 1), "{per_vm:?}");
    Ok(())
}

/// Threads that write shared data at once cost retries, not counts.
#[test]
fn contention_for_shared_data_costs_no_counts() -> Result<()> {
    for seed in 0..5 {
        let plugin = Role::Filter.plugin_with(|json| json["dimensions"] = json!(["cluster"]))?;
        let mut setup = Setup::new(vec![plugin]).workers(4);
        setup.contention_percent = 60;
        setup.seed = seed;
        let mut envoy = Envoy::start(setup)?;
        envoy.run_seconds(3);
        for index in 0..400 {
            let request = Request::inbound().to(&format!("cluster-{}", index % 10));
            envoy.request(index % 4, &request);
            envoy.run_for(Duration::from_millis(5));
        }
        envoy.run_seconds(4);
        assert_eq!(sum(&envoy, What::Requests), Some(400), "seed {seed}");
        let aggregator = envoy.aggregator("aggregator");
        assert_eq!(aggregator.totals().instances().len(), 1, "seed {seed}");
        let streams = aggregator.open_streams();
        assert_eq!(streams.len(), 1, "seed {seed}");
        let report = streams[0].last_report().expect("reported");
        assert_eq!(
            (report.vms_expected, report.vms_live),
            (5, 5),
            "seed {seed}"
        );
    }
    Ok(())
}
