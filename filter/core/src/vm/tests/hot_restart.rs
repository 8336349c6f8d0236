//! Envoy's hot restart: the parent's counters and gauges are added to the child's for as long as it
//! drains.

use super::sidecar::{CONFIG, Network, Sidecar};
use super::*;

/// A parent that served `requests` and still runs.
fn parent(requests: usize) -> Sidecar {
    let mut parent = Sidecar::new(11, 3, CONFIG);
    for _ in 0..requests {
        parent.request(1, Some(200));
    }
    parent.run(20, Network::Fine);
    parent
}

/// When the parent's numbers come to the child.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Merge {
    /// Before its VMs are made.
    First,
    /// After its VMs were configured, before they tick.
    BeforeTicks,
    /// After they counted and reported for a while.
    Later,
}

/// Whenever the first merge comes: no total of the child ever holds a request of the parent, the
/// child says that it has a parent as long as there is one, and counts on exactly when there is
/// none.
#[test]
fn a_child_never_tells_its_parents_counts() {
    for merge in [Merge::First, Merge::BeforeTicks, Merge::Later] {
        let parent = parent(500);
        let mut child = Sidecar::unstarted(7);
        if merge == Merge::First {
            child.process.merge(&parent.process);
        }
        (0..3).for_each(|vm| child.start(vm, CONFIG));
        if merge == Merge::BeforeTicks {
            child.process.merge(&parent.process);
        }
        if merge == Merge::Later {
            child.run(20, Network::Fine);
            child.request(1, Some(200));
            child.run(20, Network::Fine);
            assert!(!child.aggregator.last_hello().hot_restart);
            child.process.merge(&parent.process);
        }
        child.run(20, Network::Fine);
        assert!(child.aggregator.last_hello().hot_restart, "{merge:?}");
        let before = child.aggregator.requests();
        // Further merges, and what the child serves itself, by two workers.
        for _ in 0..3 {
            child.process.merge(&parent.process);
            child.request(1, Some(200));
            child.request(2, Some(503));
            child.run(10, Network::Fine);
        }
        assert!(child.aggregator.last_hello().hot_restart, "{merge:?}");
        assert_eq!(child.aggregator.requests() - before, 6, "{merge:?}");
        child.process.end_parent();
        child.run(30, Network::Fine);
        assert!(!child.aggregator.last_hello().hot_restart, "{merge:?}");
        child.request(1, Some(200));
        child.run(30, Network::Fine);
        assert_eq!(child.aggregator.requests() - before, 7, "{merge:?}");
        assert_eq!(child.aggregator.responses(5), 3, "{merge:?}");
    }
}

/// A VM that begins after the parent is gone, also one that shares no data with the others, does
/// not take up counters that hold the parent's counts.
#[test]
fn a_vm_that_comes_later_knows() {
    let parent = parent(500);
    let mut child = Sidecar::new(7, 2, CONFIG);
    child.process.merge(&parent.process);
    child.run(20, Network::Fine);
    child.process.end_parent();
    child.run(20, Network::Fine);
    for forgets in [false, true] {
        if forgets {
            child.process.forget_shared_data();
        }
        let hellos = child.aggregator.hellos.len();
        child.start(2, CONFIG);
        child.run(30, Network::Fine);
        let hello = &child.aggregator.hellos[hellos];
        assert_eq!(hello.scope(), v1::CounterScope::Vm);
        assert!(!hello.hot_restart);
        assert_eq!(
            child.aggregator.requests(),
            0,
            "shared data lost: {forgets}"
        );
    }
}

/// What looks alike and is no hot restart: VMs that are replaced, one by one and all together, with
/// and without the loss of shared data, a second group of VMs with shared data of its own, and
/// counters that are set back.
#[test]
fn other_changes_are_no_hot_restart() {
    let mut sidecar = Sidecar::new(7, 3, CONFIG);
    sidecar.request(1, Some(200));
    sidecar.run(20, Network::Fine);
    for vm in [2, 1, 0, 2, 1] {
        sidecar.end(vm);
        sidecar.start(vm, CONFIG);
        sidecar.run(7, Network::Fine);
    }
    for forgets in [false, true, true] {
        if forgets {
            sidecar.process.forget_shared_data();
        }
        (0..3).for_each(|vm| sidecar.start(vm, CONFIG));
        sidecar.run(25, Network::Fine);
        sidecar.request(1, Some(200));
        sidecar.run(25, Network::Fine);
    }
    sidecar.process.reset_counters();
    sidecar.run(25, Network::Fine);
    let is_as_ever =
        |hello: &v1::Hello| hello.scope() == v1::CounterScope::Process && !hello.hot_restart;
    assert!(sidecar.aggregator.hellos.iter().all(is_as_ever));
    assert_eq!(sidecar.aggregator.requests(), 4);
}
