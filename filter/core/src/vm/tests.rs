//! Whole sidecars: the VMs of one process, requests in any order, an aggregator that loses what it
//! likes.

mod changes;
mod hot_restart;
mod sidecar;
mod streams;

use proptest::prelude::*;
use proto::v1;

use self::sidecar::{CONFIG, Network, Sidecar};
use super::*;
use crate::host::{LogLevel, StreamToken};
use crate::open_requests::OPEN_MAX;
use crate::testing::{Call, FakeProcess};

/// The usual sidecar: a VM on the main thread and two workers.
fn usual() -> Sidecar {
    Sidecar::new(7, 3, CONFIG)
}

/// A log entry for a stream whose request never came to the filter takes nothing out of what is in
/// flight.
#[test]
fn an_end_without_a_beginning_counts_nothing() {
    let mut sidecar = usual();
    let inflight = sidecar.begin(1);
    let vm = sidecar.vms[1].as_mut().unwrap();
    vm.on_context_create(ContextId(900), RootId(1));
    vm.on_log(ContextId(900));
    vm.on_done(ContextId(900));
    sidecar.run(20, Network::Fine);
    let series = sidecar.aggregator.last_series();
    assert_eq!(series.inflight, Some(1));
    assert_eq!(series.requests, Some(1));
    assert_eq!(series.responses, []);
    sidecar.finish(1, inflight, Some(200));
    sidecar.run(20, Network::Fine);
    assert_eq!(sidecar.aggregator.last_series().inflight, Some(0));
}

/// Beyond the table of open requests counting stays exact; how many are left out of flight is said.
#[test]
fn requests_beyond_the_table_of_open_ones_are_counted() {
    const MORE: usize = 1000;
    let all = u64::try_from(OPEN_MAX + MORE).unwrap();
    let mut sidecar = usual();
    sidecar.run(20, Network::Fine);
    let open: Vec<_> = (0..all).map(|_| sidecar.begin(1)).collect();
    sidecar.run(20, Network::Fine);
    let inflight = sidecar.aggregator.last_series().inflight.unwrap();
    assert!((all / 2..all).contains(&inflight), "{inflight} of {all}");
    for context in open {
        sidecar.finish(1, context, Some(200));
    }
    sidecar.run(20, Network::Fine);
    let series = sidecar.aggregator.last_series();
    assert_eq!((series.requests, series.inflight), (Some(all), Some(0)));
    assert_eq!(sidecar.aggregator.responses(2), all);
    let refused = sidecar.aggregator.last_report().refused.unwrap();
    assert_eq!(refused.untracked_streams, all - inflight);
}

/// With `responses` set to `code` each status is reported.
#[test]
fn exact_statuses_are_told() {
    let config = CONFIG.replace(r#""direction""#, r#""responses":"code","direction""#);
    let mut sidecar = Sidecar::new(7, 3, &config);
    for (vm, status) in [(1, 200), (2, 404), (1, 503), (1, 404)] {
        sidecar.request(vm, Some(status));
    }
    sidecar.request(2, None);
    sidecar.run(30, Network::Fine);
    let reported: Vec<(u32, u64)> = [0, 2, 4, 5, 200, 404, 503]
        .map(|code| (code, sidecar.aggregator.responses(code)))
        .into_iter()
        .filter(|(_, total)| *total > 0)
        .collect();
    assert_eq!(reported, [(0, 1), (200, 1), (404, 2), (503, 1)]);
}

/// The time integral of what is in flight is exact, whenever ticks come.
#[test]
fn inflight_is_integrated() {
    let mut sidecar = usual();
    sidecar.run(20, Network::Fine);
    let first = sidecar.begin(1);
    sidecar.process.advance_ms(30);
    let second = sidecar.begin(2);
    sidecar.run(10, Network::Fine);
    sidecar.finish(1, first, Some(200));
    sidecar.process.advance_ms(70);
    sidecar.finish(2, second, Some(200));
    sidecar.run(20, Network::Fine);
    let nanos = sidecar.aggregator.last_series().inflight_ns;
    assert_eq!(nanos, Some((1030 + 1070) * 1_000_000));
}

/// Access log and filter on the same key do not count a request twice; the filter's numbers are
/// those sent.
#[test]
fn roles_meet_on_the_wire_without_adding_up() {
    let mut sidecar = usual();
    sidecar.start_as(Module::Log, 3, &CONFIG.replace("filter", "access_log"));
    let vm = sidecar.vms[3].as_mut().unwrap();
    let access = r#"{"role":"access_log","direction":"inbound"}"#;
    let upstream = r#"{"role":"upstream_log","direction":"inbound"}"#;
    vm.on_configure(RootId(50), access.as_bytes());
    vm.on_configure(RootId(51), upstream.as_bytes());
    vm.host().set_status(Some(200));
    vm.on_log(ContextId(50));
    // Two attempts, one of which reached a connection.
    vm.on_log(ContextId(51));
    vm.host()
        .set_property("upstream.local_address", b"127.0.0.1:1");
    vm.on_log(ContextId(51));
    sidecar.request(1, Some(200));
    sidecar.run(20, Network::Fine);
    let series = sidecar.aggregator.last_series();
    assert_eq!(series.requests, Some(1));
    assert!(!series.requests_at_completion);
    assert_eq!(series.upstream_attempts, Some(1));
    assert_eq!(series.responses, [v1::Responses { code: 2, total: 1 }]);
}

/// Where only ends are counted, nothing is said of what is in flight.
#[test]
fn an_access_log_knows_nothing_in_flight() {
    let config = CONFIG.replace("filter", "access_log");
    let mut sidecar = Sidecar::unstarted(7);
    (0..2).for_each(|vm| sidecar.start_as(Module::Log, vm, &config));
    let vm = sidecar.vms[1].as_mut().unwrap();
    vm.on_log(ContextId(1));
    sidecar.run(20, Network::Fine);
    let series = sidecar.aggregator.last_series();
    assert_eq!(series.requests, Some(1));
    assert!(series.requests_at_completion);
    assert_eq!(series.inflight, None);
    assert_eq!(series.inflight_ns, None);
    assert_eq!(series.upstream_attempts, None);
}

/// Clusters beyond the limit are counted under "other", and how many requests that was is said.
#[test]
fn clusters_beyond_the_limit_are_other() {
    let config = CONFIG.replace(
        r#""direction""#,
        r#""dimensions":["cluster"],"max_series":2,"direction""#,
    );
    let mut sidecar = Sidecar::new(7, 2, &config);
    for cluster in ["a", "b", "c", "d", "a"] {
        let host = sidecar.vms[1].as_ref().unwrap().host().clone();
        host.set_property("xds.cluster_name", cluster.as_bytes());
        sidecar.request(1, Some(200));
    }
    sidecar.run(20, Network::Fine);
    let report = &sidecar.aggregator.reports[0];
    let mut counted: Vec<(&str, Option<u64>)> = report
        .series
        .iter()
        .map(|series| (series.cluster.as_str(), series.requests))
        .collect();
    counted.sort_unstable();
    assert_eq!(
        counted,
        [("a", Some(2)), ("b", Some(1)), ("other", Some(2))]
    );
    assert_eq!(report.refused.as_ref().unwrap().series_overflow, 2);
}

/// Envoy gives two listeners one root if their plugins are configured alike: each request is asked
/// for its side.
#[test]
fn one_root_counts_both_sides() {
    let config = CONFIG.replace("inbound", "auto");
    let mut sidecar = Sidecar::new(7, 2, &config);
    let host = sidecar.vms[1].as_ref().unwrap().host().clone();
    for side in [2_u64, 1, 2] {
        host.set_property("xds.listener_direction", &side.to_le_bytes());
        sidecar.request(1, Some(200));
    }
    // A listener that does not say counts as inbound.
    host.unset_property("xds.listener_direction");
    sidecar.request(1, Some(200));
    sidecar.run(20, Network::Fine);
    let counted = |direction| {
        let all = sidecar.aggregator.reports[0].series.iter();
        let mut of_side = all.filter(|series| series.direction() == direction);
        of_side.next().and_then(|series| series.requests)
    };
    assert_eq!(counted(v1::Direction::Inbound), Some(2));
    assert_eq!(counted(v1::Direction::Outbound), Some(2));
}

/// Garbage from the host or an aggregator does no harm.
#[test]
fn garbage_is_survived() {
    let mut sidecar = usual();
    sidecar.run(20, Network::Fine);
    let vm = sidecar.vms[0].as_mut().unwrap();
    vm.on_grpc_receive(StreamToken(6), b"\xff\xff\xff");
    vm.on_grpc_receive(StreamToken(99), b"");
    vm.on_grpc_close(StreamToken(77), 2);
    vm.on_tick(RootId(9));
    vm.on_log(ContextId(0));
    vm.on_done(ContextId(12345));
    vm.on_request_headers(ContextId(0));
    vm.on_context_create(ContextId(3), RootId(0));
    let calls = vm.host().take_calls();
    assert_eq!(calls, [Call::Cancel(StreamToken(6))]);
    sidecar.request(1, Some(200));
    sidecar.run(20, Network::Fine);
    // The request that never had a context counts for the only root there is: it was seen.
    assert_eq!(sidecar.aggregator.requests(), 2);
}

#[derive(Clone, Debug)]
enum Step {
    Begin(usize),
    Finish(usize, u16),
    Tick(usize),
    Advance(u64),
    Deliver(Network),
    Reconfigure,
    Restart(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1_usize..3).prop_map(Step::Begin),
        5 => (0_usize..8, prop_oneof![Just(0_u16), Just(200), Just(404), Just(503)])
            .prop_map(|(which, status)| Step::Finish(which, status)),
        8 => (0_usize..3).prop_map(Step::Tick),
        6 => prop_oneof![1_u64..200, Just(600_u64), Just(2500), Just(6000)].prop_map(Step::Advance),
        4 => prop_oneof![
            3 => Just(Network::Fine),
            1 => Just(Network::LosesAcks),
            1 => Just(Network::LosesAll),
            1 => Just(Network::Ends(14)),
            1 => Just(Network::Ends(10)),
        ].prop_map(Step::Deliver),
        1 => Just(Step::Reconfigure),
        1 => (0_usize..3).prop_map(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// However workers, ticks, lost frames, lost acknowledgements, reconnects, reconfigurations and
    /// orderly restarts of VMs interleave: no total is ever above what happened, and once all is
    /// reported, all is exact.
    #[test]
    fn sums_are_exact(
        seed in any::<u64>(),
        steps in proptest::collection::vec(step(), 0..150),
        hidden in prop::bool::weighted(0.2),
    ) {
        let mut sidecar = Sidecar::unstarted(seed);
        if hidden {
            sidecar.process.hide_metrics("meshmeter.");
        }
        (0..3).for_each(|vm| sidecar.start(vm, CONFIG));
        let mut open: Vec<(usize, ContextId)> = Vec::new();
        let mut begun = 0_u64;
        let mut ended = [0_u64; 6];
        for step in steps {
            match step {
                Step::Begin(vm) => {
                    open.push((vm, sidecar.begin(vm)));
                    begun += 1;
                }
                Step::Finish(which, status) => {
                    if which < open.len() {
                        let (vm, context) = open.swap_remove(which);
                        sidecar.finish(vm, context, (status > 0).then_some(status));
                        ended[usize::from(status / 100)] += 1;
                    }
                }
                Step::Tick(vm) => sidecar.tick(vm),
                Step::Advance(millis) => sidecar.process.advance_ms(millis),
                Step::Deliver(network) => sidecar.deliver(network),
                Step::Reconfigure => sidecar.reconfigure(CONFIG),
                Step::Restart(vm) => {
                    // In order: its requests end before it does. A VM's own totals end with it, so
                    // where each streams for itself a lost last report could not be made good.
                    if !hidden {
                        for (_, context) in open.extract_if(.., |(at, _)| *at == vm) {
                            sidecar.finish(vm, context, Some(200));
                            ended[2] += 1;
                        }
                        sidecar.end(vm);
                        sidecar.deliver(Network::Fine);
                        sidecar.start(vm, CONFIG);
                    }
                }
            }
            prop_assert!(sidecar.aggregator.requests() <= begun);
        }
        for (vm, context) in open {
            sidecar.finish(vm, context, Some(200));
            ended[2] += 1;
        }
        sidecar.run(130, Network::Fine);
        prop_assert_eq!(sidecar.aggregator.requests(), begun);
        for (class, total) in ended.iter().enumerate() {
            prop_assert_eq!(sidecar.aggregator.responses(u32::try_from(class).unwrap()), *total);
        }
        prop_assert_eq!(sidecar.aggregator.inflight(), 0);
        let report = sidecar.aggregator.last_report();
        prop_assert_eq!(report.vms_expected, report.vms_live);
        if !hidden {
            prop_assert_eq!(sidecar.streaming().len(), 1);
        }
    }
}
