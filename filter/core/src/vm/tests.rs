//! Whole sidecars: the VMs of one process, requests in any order, an aggregator that loses what it likes.

mod sidecar;

use proptest::prelude::*;
use proto::v1;

use self::sidecar::{CONFIG, Network, Sidecar};
use super::*;
use crate::host::{LogLevel, StreamToken};
use crate::testing::{Call, FakeProcess};

/// The usual sidecar: a VM on the main thread and two workers.
fn sidecar() -> Sidecar {
    Sidecar::new(7, 3, CONFIG)
}

/// One VM streams, whichever ticks first: that of the main thread, which is configured first.
#[test]
fn the_main_thread_streams_for_all() {
    let mut sidecar = sidecar();
    sidecar.request(1, Some(200));
    sidecar.request(2, Some(503));
    // Workers tick before the main thread.
    for _ in 0..30 {
        sidecar.process.advance_ms(100);
        for vm in [2, 1, 0] {
            sidecar.tick(vm);
        }
        sidecar.deliver(Network::Fine);
    }
    assert_eq!(sidecar.aggregator.requests(), 2);
    assert_eq!(sidecar.aggregator.responses(2), 1);
    assert_eq!(sidecar.aggregator.responses(5), 1);
    let hello = sidecar.aggregator.only_hello();
    assert_eq!(hello.scope(), v1::CounterScope::Process);
    assert_eq!(hello.identity.as_ref().unwrap().pod, "dj-1");
    assert_eq!(hello.protocol, 1);
    let report = sidecar.aggregator.last_report();
    assert_eq!((report.vms_expected, report.vms_live), (3, 3));
    assert_eq!(sidecar.streaming(), [0]);
}

/// A VM that is configured and thrown away leaves no trace: no stream, no metric, no shared data.
#[test]
fn a_canary_leaves_no_trace() {
    let process = FakeProcess::new(1);
    let mut vm = Vm::new(process.host(), Module::Filter);
    vm.on_configure(RootId(1), CONFIG.as_bytes());
    assert_eq!(process.traces(), 0);
    assert_eq!(vm.host().take_calls(), []);
}

/// The first report of a stream has every series, a later one only what changed since the acknowledged one.
#[test]
fn only_what_changed_is_sent_again() {
    let mut sidecar = sidecar();
    sidecar.request(1, Some(200));
    sidecar.run(20, Network::Fine);
    let reports = sidecar.aggregator.take_reports();
    assert!(reports[0].snapshot);
    assert_eq!(reports[0].seq, 1);
    assert_eq!(reports[0].series.len(), 1);
    // Without news reports go on, but hold nothing.
    sidecar.run(20, Network::Fine);
    let reports = sidecar.aggregator.take_reports();
    assert!(!reports.is_empty());
    assert!(
        reports
            .iter()
            .all(|report| report.series.is_empty() && !report.snapshot)
    );
    sidecar.request(2, None);
    sidecar.run(20, Network::Fine);
    let reports = sidecar.aggregator.take_reports();
    let series: Vec<_> = reports.iter().flat_map(|report| &report.series).collect();
    assert_eq!(series.len(), 1);
    assert_eq!(series[0].requests, Some(2));
    assert_eq!(series[0].inflight, Some(0));
    assert_eq!(
        series[0].responses,
        [
            v1::Responses { code: 0, total: 1 },
            v1::Responses { code: 2, total: 1 }
        ]
    );
}

/// Reports come each flush interval for a minute after a change, then every ten seconds; a change after that is
/// told at the next tick. Each report keeps the promise of the one before.
#[test]
fn reports_come_as_promised() {
    let mut sidecar = sidecar();
    sidecar.request(1, Some(200));
    sidecar.run(20, Network::Fine);
    sidecar.aggregator.take_reports();
    sidecar.run(300, Network::Fine);
    let reports = sidecar.aggregator.take_reports();
    assert!(
        (29..=31).contains(&reports.len()),
        "{} in 30 s",
        reports.len()
    );
    assert!(
        reports
            .iter()
            .all(|report| report.next_report_within_ms == 1000)
    );
    // A minute later it rests.
    sidecar.run(400, Network::Fine);
    sidecar.aggregator.take_reports();
    sidecar.run(300, Network::Fine);
    let reports = sidecar.aggregator.take_reports();
    assert_eq!(reports.len(), 3, "one each 10 s");
    assert!(
        reports
            .iter()
            .all(|report| report.next_report_within_ms == 10_000)
    );
    sidecar.run(15, Network::Fine);
    sidecar.aggregator.take_reports();
    sidecar.request(1, Some(200));
    sidecar.run(2, Network::Fine);
    let reports = sidecar.aggregator.take_reports();
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].series[0].requests, Some(2));
    assert!(reports[0].interval_ms <= 300, "{}", reports[0].interval_ms);
}

/// A report that is not acknowledged holds back the next one, and after five seconds costs the stream its life.
#[test]
fn one_report_at_a_time() {
    let mut sidecar = sidecar();
    sidecar.run(20, Network::Fine);
    sidecar.aggregator.take_reports();
    sidecar.request(1, Some(200));
    sidecar.run(45, Network::LosesAcks);
    assert_eq!(sidecar.aggregator.take_reports().len(), 1);
    let lines = sidecar.vms[0].as_ref().unwrap().host().log_lines();
    assert!(lines.is_empty(), "{lines:?}");
    sidecar.run(30, Network::LosesAcks);
    let reports = sidecar.aggregator.take_reports();
    assert!(reports[0].snapshot, "a new stream begins with everything");
    assert_eq!(reports[0].series[0].requests, Some(1));
    let lines = sidecar.vms[0].as_ref().unwrap().host().log_lines();
    assert!(lines[0].1.contains("no acknowledgement"), "{lines:?}");
}

/// The aggregator's wish for another flush interval holds, within bounds, and for later streams too.
#[test]
fn settings_are_adopted() {
    let mut sidecar = sidecar();
    sidecar.aggregator.settings = 250;
    sidecar.request(1, Some(200));
    sidecar.run(20, Network::Fine);
    sidecar.aggregator.take_reports();
    sidecar.run(30, Network::Fine);
    let reports = sidecar.aggregator.take_reports();
    assert!(
        (10..=15).contains(&reports.len()),
        "{} in 3 s",
        reports.len()
    );
    assert!(
        reports
            .iter()
            .all(|report| report.next_report_within_ms == 250)
    );
    sidecar.deliver(Network::Ends(14));
    sidecar.run(20, Network::Fine);
    assert_eq!(sidecar.aggregator.last_hello().flush_interval_ms, 250);
}

/// Whatever status a stream ends with, another is opened within a second or so; an unexpected one is logged once.
#[test]
fn an_ended_stream_is_opened_again() {
    let mut sidecar = sidecar();
    sidecar.run(20, Network::Fine);
    let host = sidecar.vms[0].as_ref().unwrap().host().clone();
    host.set_close_message("report.series[0].cluster: 300 bytes, at most 256");
    for _ in 0..5 {
        sidecar.deliver(Network::Ends(3));
        let before = sidecar.aggregator.hellos.len();
        sidecar.run(11, Network::Fine);
        assert_eq!(sidecar.aggregator.hellos.len(), before + 1);
        sidecar.deliver(Network::Ends(14));
        sidecar.run(11, Network::Fine);
    }
    let lines = host.log_lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0].0, LogLevel::Warn);
    assert!(
        lines[0]
            .1
            .contains("status 3: report.series[0].cluster: 300 bytes")
    );
}

/// A stream that cannot be opened is tried again; the end of a stream that was never named is no matter.
#[test]
fn a_stream_that_cannot_be_opened_is_tried_again() {
    let mut sidecar = sidecar();
    let host = sidecar.vms[0].as_ref().unwrap().host().clone();
    host.refuse_streams(true);
    sidecar.request(1, Some(200));
    sidecar.run(10, Network::Fine);
    sidecar.vms[0]
        .as_mut()
        .unwrap()
        .on_grpc_close(StreamToken(6), 14);
    sidecar.run(30, Network::Fine);
    assert!(sidecar.aggregator.hellos.is_empty());
    host.refuse_streams(false);
    sidecar.run(25, Network::Fine);
    assert_eq!(sidecar.aggregator.requests(), 1);
}

/// When the sidecar ends, workers first, the last report holds what every worker counted, though one report is
/// unacknowledged, and says that it is the last.
#[test]
fn the_last_report_holds_everything() {
    let mut sidecar = sidecar();
    sidecar.run(20, Network::Fine);
    sidecar.request(1, Some(200));
    sidecar.run(11, Network::LosesAcks);
    sidecar.request(1, Some(200));
    sidecar.request(2, Some(200));
    for vm in [1, 2, 0] {
        sidecar.end(vm);
    }
    sidecar.deliver(Network::LosesAcks);
    assert_eq!(sidecar.aggregator.requests(), 3);
    let report = sidecar.aggregator.last_report();
    assert!(report.r#final);
    assert_eq!(report.vms_expected, report.vms_live);
}

/// A plugin configuration that replaces another: counters and their name go on, the stream moves to the new root
/// when the old one is done, and no report claims that the sidecar ends.
#[test]
fn a_new_configuration_changes_no_number() {
    let mut sidecar = sidecar();
    sidecar.request(1, Some(200));
    sidecar.run(20, Network::Fine);
    let instance = sidecar.aggregator.only_hello().instance;
    for vm in sidecar.vms.iter_mut().flatten() {
        vm.on_configure(RootId(2), CONFIG.as_bytes());
    }
    sidecar.root = RootId(2);
    sidecar.request(1, Some(200));
    sidecar.run(5, Network::Fine);
    for vm in sidecar.vms.iter_mut().flatten() {
        vm.on_done(ContextId(1));
        assert_eq!(
            vm.host().tick_ms(),
            0,
            "the timer of the old root is stopped"
        );
    }
    sidecar.roots = vec![RootId(2)];
    sidecar.run(20, Network::Fine);
    assert_eq!(sidecar.aggregator.requests(), 2);
    assert_eq!(sidecar.aggregator.last_hello().instance, instance);
    assert!(
        sidecar
            .aggregator
            .reports
            .iter()
            .all(|report| !report.r#final)
    );
    assert_eq!(sidecar.aggregator.last_report().vms_expected, 3);
}

/// A worker's VM that died stays expected until a successor takes its place; what is in flight is unknown then.
#[test]
fn a_dead_vm_is_missed() {
    let mut sidecar = sidecar();
    sidecar.begin(2);
    sidecar.run(20, Network::Fine);
    assert_eq!(sidecar.aggregator.last_series().inflight, Some(1));
    sidecar.vms[2] = None;
    sidecar.run(40, Network::Fine);
    let report = sidecar.aggregator.last_report();
    assert_eq!((report.vms_expected, report.vms_live), (3, 2));
    sidecar.start(2, CONFIG);
    sidecar.request(2, Some(200));
    sidecar.run(20, Network::Fine);
    let report = sidecar.aggregator.last_report();
    assert_eq!((report.vms_expected, report.vms_live), (3, 3));
    assert_eq!(sidecar.aggregator.requests(), 2);
    // What the dead one had in flight will never end: the sum is not known any more.
    assert_eq!(sidecar.aggregator.last_series().inflight, None);
}

/// When the streaming VM dies, another takes over under the same name.
#[test]
fn another_vm_takes_over() {
    let mut sidecar = sidecar();
    sidecar.request(1, Some(200));
    sidecar.run(20, Network::Fine);
    sidecar.vms[0] = None;
    sidecar.request(2, Some(200));
    sidecar.run(60, Network::Fine);
    assert_eq!(sidecar.aggregator.requests(), 2);
    let instances: Vec<u64> = sidecar
        .aggregator
        .hellos
        .iter()
        .map(|h| h.instance)
        .collect();
    assert!(instances.len() >= 2);
    assert!(instances.iter().all(|instance| *instance == instances[0]));
}

/// Counters that were set back go on under a new name: neither a fall nor a burst.
#[test]
fn a_reset_begins_a_new_instance() {
    let mut sidecar = sidecar();
    for _ in 0..100 {
        sidecar.request(1, Some(200));
    }
    sidecar.run(20, Network::Fine);
    assert_eq!(sidecar.aggregator.requests(), 100);
    let first = sidecar.aggregator.only_hello().clone();
    sidecar.process.reset_counters();
    sidecar.request(1, Some(200));
    sidecar.request(2, Some(200));
    sidecar.run(30, Network::Fine);
    let second = sidecar.aggregator.last_hello().clone();
    assert_ne!(first.instance, second.instance);
    assert_eq!(first.process, second.process);
    assert!(second.started_at_unix_ms > first.started_at_unix_ms);
    assert_eq!(sidecar.aggregator.requests_of(second.instance), 2);
}

/// Metrics that cannot be read back make each VM stream its own totals, from its own beginning.
#[test]
fn hidden_metrics_make_each_vm_stream() {
    let mut sidecar = Sidecar::unstarted(7);
    sidecar.process.hide_metrics("meshmeter.");
    (0..3).for_each(|vm| sidecar.start(vm, CONFIG));
    sidecar.request(1, Some(200));
    sidecar.request(2, Some(200));
    sidecar.request(2, Some(200));
    sidecar.run(30, Network::Fine);
    assert_eq!(sidecar.aggregator.requests(), 3);
    assert_eq!(sidecar.streaming(), [0, 1, 2]);
    let hellos = &sidecar.aggregator.hellos;
    assert!(
        hellos
            .iter()
            .all(|hello| hello.scope() == v1::CounterScope::Vm)
    );
    assert!(
        hellos
            .iter()
            .all(|hello| hello.process == hellos[0].process)
    );
    let lines = sidecar.vms[1].as_ref().unwrap().host().log_lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
}

/// One hidden counter is noticed when it is first added to; nothing that was counted is lost.
#[test]
fn one_hidden_counter_is_noticed() {
    let mut sidecar = sidecar();
    sidecar.process.hide_metrics("meshmeter.inbound.requests");
    sidecar.run(20, Network::Fine);
    sidecar.request(1, Some(200));
    sidecar.run(40, Network::Fine);
    let hello = sidecar.aggregator.last_hello();
    assert_eq!(hello.scope(), v1::CounterScope::Vm);
    let vms: u64 = sidecar
        .aggregator
        .hellos
        .iter()
        .filter(|hello| hello.scope() == v1::CounterScope::Vm)
        .map(|hello| sidecar.aggregator.requests_of(hello.instance))
        .sum();
    assert_eq!(vms, 1);
}

/// Without an identity everything is counted and nothing streamed; one sentence says why.
#[test]
fn without_an_identity_nothing_is_streamed() {
    let mut sidecar = Sidecar::unstarted(7);
    sidecar.process.set_env("POD_NAME", "");
    sidecar.start(0, CONFIG);
    sidecar.start(1, CONFIG);
    sidecar.request(1, Some(200));
    sidecar.run(30, Network::Fine);
    assert_eq!(
        sidecar.process.metric("meshmeter.inbound.requests"),
        Some(1)
    );
    assert!(sidecar.aggregator.hellos.is_empty());
    let lines = sidecar.vms[0].as_ref().unwrap().host().log_lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].1.contains("the pod is unknown"));
}

/// A plugin without aggregators counts; it never streams, though the others would let it lead.
#[test]
fn without_aggregators_nothing_is_streamed() {
    let mut sidecar = Sidecar::new(7, 2, r#"{"role":"filter","direction":"inbound"}"#);
    sidecar.request(1, Some(200));
    sidecar.run(30, Network::Fine);
    assert!(sidecar.aggregator.hellos.is_empty());
    assert_eq!(
        sidecar.process.metric("meshmeter.inbound.requests"),
        Some(1)
    );
}

/// A log entry for a stream whose request never came to the filter takes nothing out of what is in flight.
#[test]
fn an_end_without_a_beginning_counts_nothing() {
    let mut sidecar = sidecar();
    let inflight = sidecar.begin(1);
    let vm = sidecar.vms[1].as_mut().unwrap();
    vm.on_context_create(ContextId(900), RootId(1));
    vm.on_log(ContextId(900));
    vm.on_done(ContextId(900));
    sidecar.run(20, Network::Fine);
    let series = sidecar.aggregator.last_series();
    assert_eq!(series.inflight, Some(1));
    assert_eq!(series.responses, []);
    sidecar.finish(1, inflight, Some(200));
    sidecar.run(20, Network::Fine);
    assert_eq!(sidecar.aggregator.last_series().inflight, Some(0));
}

/// The time integral of what is in flight is exact, whenever ticks come.
#[test]
fn inflight_is_integrated() {
    let mut sidecar = sidecar();
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

/// Access log and filter on the same key do not count a request twice; the filter's numbers are those sent.
#[test]
fn roles_meet_on_the_wire_without_adding_up() {
    let mut sidecar = sidecar();
    let vm = sidecar.vms[1].as_mut().unwrap();
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
    let mut sidecar = Sidecar::new(7, 2, &config);
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

/// Envoy gives two listeners one root if their plugins are configured alike: each request is asked for its side.
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

/// A tick without news costs the streaming VM five readings, and the others nothing.
#[test]
fn an_idle_tick_is_cheap() {
    let mut sidecar = sidecar();
    sidecar.request(1, Some(200));
    sidecar.run(20, Network::Fine);
    let cost = |sidecar: &Sidecar| -> Vec<u64> {
        let vms = sidecar.vms.iter().flatten();
        vms.map(|vm| vm.host().metric_calls()).collect()
    };
    let before = cost(&sidecar);
    sidecar.run(100, Network::Fine);
    let after = cost(&sidecar);
    let spent: Vec<u64> = after.iter().zip(before).map(|(a, b)| a - b).collect();
    assert_eq!(spent[1..], [0, 0]);
    assert!(spent[0] <= 5 * 100, "{spent:?}");
}

/// Garbage from the host or an aggregator does no harm.
#[test]
fn garbage_is_survived() {
    let mut sidecar = sidecar();
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

    /// However workers, ticks, lost frames, lost acknowledgements, reconnects, reconfigurations and orderly
    /// restarts of VMs interleave: no total is ever above what happened, and once all is told, all is exact.
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
                    // In order: its requests end before it does. A VM's own totals end with it, so where
                    // each streams for itself a lost last report could not be made good.
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
