//! Counters and streams through the end of a VM, another configuration, a reset, metrics that are
//! hidden.

use proto::v1;

use super::sidecar::{CONFIG, Network, Sidecar};
use super::usual as sidecar;
use super::*;

/// When the sidecar ends, workers first, the last report holds what every worker counted, though
/// one report is unacknowledged, and says that it is the last.
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

/// Whichever modules run in a process: one stream tells of all VMs, and its last report, and no
/// other, says that it is the last, though the main thread's VMs end one after the other.
#[test]
fn the_last_vm_of_a_process_says_so() {
    let log = CONFIG.replace("filter", "upstream_log");
    for modules in [
        vec![Module::Filter],
        vec![Module::Log],
        vec![Module::Filter, Module::Log],
    ] {
        let mut sidecar = Sidecar::unstarted(7);
        let count = modules.len();
        // The main thread's VMs first, then those of each worker.
        for vm in 0..3 * count {
            match modules[vm % count] {
                Module::Filter => sidecar.start(vm, CONFIG),
                module => sidecar.start_as(module, vm, &log),
            }
        }
        let attempt = |sidecar: &mut Sidecar| {
            for vm in (count..3 * count).filter(|vm| modules[vm % count] == Module::Log) {
                let vm = sidecar.vms[vm].as_mut().unwrap();
                let host = vm.host().clone();
                host.set_property("upstream.local_address", b"127.0.0.1:1");
                vm.on_log(ContextId(1));
            }
        };
        attempt(&mut sidecar);
        sidecar.run(30, Network::Fine);
        let report = sidecar.aggregator.last_report();
        let all = u32::try_from(3 * count).unwrap();
        assert_eq!((report.vms_expected, report.vms_live), (all, all));
        attempt(&mut sidecar);
        for vm in (count..3 * count).chain(0..count) {
            sidecar.end(vm);
        }
        let finals: Vec<bool> = sidecar
            .aggregator
            .reports
            .iter()
            .map(|r| r.r#final)
            .collect();
        assert_eq!(
            finals.iter().filter(|last| **last).count(),
            1,
            "{modules:?}"
        );
        assert_eq!(finals.last(), Some(&true), "{modules:?}");
        if modules.contains(&Module::Log) {
            let attempts = sidecar.aggregator.last_series().upstream_attempts;
            assert_eq!(attempts, Some(4), "{modules:?}");
        }
    }
}

/// A plugin configuration that replaces another: counters and their name go on, the stream moves to
/// the new root when the old one is done, and no report claims that the sidecar ends.
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

/// New code makes new VMs beside the old ones: counters and their name go on, one VM streams, and
/// no report claims that the sidecar ends.
#[test]
fn new_vms_take_the_place_of_the_old_ones() {
    let mut sidecar = sidecar();
    sidecar.request(1, Some(200));
    sidecar.run(20, Network::Fine);
    let instance = sidecar.aggregator.only_hello().instance;
    (3..6).for_each(|vm| sidecar.start(vm, CONFIG));
    sidecar.request(1, Some(200));
    sidecar.request(4, Some(200));
    sidecar.run(20, Network::Fine);
    sidecar.request(2, Some(200));
    for vm in [1, 2, 0] {
        sidecar.end(vm);
    }
    sidecar.request(5, Some(200));
    sidecar.run(30, Network::Fine);
    assert_eq!(sidecar.aggregator.requests(), 5);
    assert_eq!(sidecar.aggregator.requests_of(instance), 5);
    assert_eq!(sidecar.streaming().len(), 1);
    let report = sidecar.aggregator.last_report();
    assert_eq!((report.vms_expected, report.vms_live), (3, 3));
    let reports = &sidecar.aggregator.reports;
    assert!(reports.iter().all(|report| !report.r#final));
}

/// The process stood still, as when its machine moves: whichever VM is the first to go on takes
/// none of the others for dead, and streams for none of them. One that does not go on is found out
/// when it had its time.
#[test]
fn a_process_that_stood_still_has_lost_no_vm() {
    for order in [[0, 1, 2], [2, 1, 0]] {
        let mut sidecar = sidecar();
        sidecar.request(1, Some(200));
        sidecar.run(30, Network::Fine);
        sidecar.aggregator.take_reports();
        sidecar.process.advance_ms(30_000);
        for _ in 0..50 {
            for vm in order {
                sidecar.tick(vm);
                sidecar.deliver(Network::Fine);
            }
            sidecar.process.advance_ms(100);
        }
        let reports = sidecar.aggregator.take_reports();
        let all = |report: &v1::Report| report.vms_live == 3 && report.vms_expected == 3;
        assert!(
            !reports.is_empty() && reports.iter().all(all),
            "{reports:?}"
        );
        sidecar.aggregator.only_hello();
        sidecar.process.advance_ms(30_000);
        sidecar.vms[2] = None;
        sidecar.request(1, Some(200));
        sidecar.run(30, Network::Fine);
        assert_eq!(sidecar.aggregator.last_report().vms_live, 2);
    }
}

/// A worker's VM that died stays expected until a successor takes its place; what is in flight is
/// unknown then.
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
    // To the last request before the end.
    sidecar.request(1, Some(200));
    for vm in [1, 2, 0] {
        sidecar.end(vm);
    }
    assert_eq!(sidecar.aggregator.requests(), 4);
}

/// One hidden counter is noticed when it is first added to: from then on each VM streams, no stream
/// of the process is left, and nothing that was counted is lost.
#[test]
fn one_hidden_counter_is_noticed() {
    for counter in ["requests", "responses"] {
        let mut sidecar = sidecar();
        let name = format!("meshmeter.inbound.{counter}");
        sidecar.process.hide_metrics(&name);
        sidecar.run(20, Network::Fine);
        sidecar.request(1, Some(200));
        sidecar.run(40, Network::Fine);
        assert_eq!(sidecar.streaming(), [0, 1, 2], "{name}");
        let hellos = sidecar.aggregator.hellos.iter();
        let of_vms = hellos.filter(|hello| hello.scope() == v1::CounterScope::Vm);
        let reported = of_vms.map(|hello| sidecar.aggregator.requests_of(hello.instance));
        assert_eq!(reported.sum::<u64>(), 1, "{name}");
    }
}

/// Between `/reset_counters` and the end of the sidecar lies less than a flush interval: the totals
/// after it go out on a stream of their own name, not on that of the counters before, where they
/// would be taken for old ones.
#[test]
fn what_comes_after_a_reset_is_not_told_under_the_old_name() {
    // Wherever in the flush interval it happens.
    for ticks in 20..30 {
        let mut sidecar = sidecar();
        for _ in 0..5 {
            sidecar.request(1, Some(200));
        }
        sidecar.run(ticks, Network::Fine);
        let first = sidecar.aggregator.only_hello().instance;
        sidecar.process.reset_counters();
        for _ in 0..8 {
            sidecar.request(1, Some(200));
        }
        sidecar.run(4, Network::Fine);
        sidecar.request(1, Some(200));
        for vm in [1, 2, 0] {
            sidecar.end(vm);
        }
        sidecar.deliver(Network::Fine);
        let second = sidecar.aggregator.last_hello().instance;
        assert_ne!(first, second);
        assert_eq!(sidecar.aggregator.requests_of(first), 5);
        assert_eq!(sidecar.aggregator.requests_of(second), 9);
        assert!(sidecar.aggregator.last_report().r#final);
    }
}

/// A new configuration after `/reset_counters` hands over the streams, whoever leads then.
#[test]
fn a_reset_before_a_new_configuration_is_noticed() {
    for (counted, ticks, later) in (0..2).flat_map(|counted| {
        (5..30).flat_map(move |ticks| (0..12).map(move |later| (counted, ticks, later)))
    }) {
        let mut sidecar = sidecar();
        (0..counted).for_each(|_| sidecar.request(1, Some(200)));
        sidecar.run(ticks, Network::Fine);
        let first = sidecar.aggregator.only_hello().instance;
        sidecar.process.reset_counters();
        for vm in 0..3 {
            sidecar.request(vm, Some(200));
        }
        sidecar.run(later, Network::Fine);
        sidecar.request(1, Some(200));
        sidecar.reconfigure(CONFIG);
        sidecar.run(30, Network::Fine);
        let when = format!("{counted}, {ticks}, {later}");
        assert_eq!(sidecar.aggregator.requests_of(first), counted, "{when}");
        let second = sidecar.aggregator.last_hello().instance;
        assert_eq!(sidecar.aggregator.requests_of(second), 4, "{when}");
    }
}

/// The wall clock is set while the sidecar reports: the times in its frames go on as if nobody had.
#[test]
fn a_wall_clock_that_is_set_changes_no_time() {
    for step in [-3_600_000, -400, 30_000, 3_600_000] {
        let mut sidecar = sidecar();
        sidecar.request(1, Some(200));
        sidecar.run(30, Network::Fine);
        let before = sidecar.aggregator.last_report().interval_end_unix_ms;
        let reports = sidecar.aggregator.reports.len();
        sidecar.process.step_unix_ms(step);
        sidecar.request(1, Some(200));
        sidecar.run(30, Network::Fine);
        let after = sidecar.aggregator.last_report().interval_end_unix_ms;
        assert!(sidecar.aggregator.reports.len() > reports);
        assert!(
            (1..=4000).contains(&(after - before)),
            "{step}: {}",
            after - before
        );
    }
}
