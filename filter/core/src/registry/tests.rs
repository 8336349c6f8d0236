//! What VMs conclude from what they tell each other.

use proptest::prelude::*;

use super::*;
use crate::testing::FakeProcess;

fn vm(id: u64, configured_at: u64, saw_request: bool) -> Vm {
    Vm {
        id: VmId(id),
        configured_at: Monotonic(configured_at),
        seen_at: Monotonic(0).plus_millis(10_000),
        saw_request,
        can_stream: true,
        module: ModuleTag(0),
    }
}

fn at(millis: u64) -> Monotonic {
    Monotonic(0).plus_millis(millis)
}

fn registry(vms: &[Vm]) -> Registry {
    let mut registry = Registry::default();
    for vm in vms {
        assert!(registry.renew(*vm));
    }
    registry
}

/// The first that was configured among those that never saw a request; one that did only if there
/// is no other.
#[test]
fn the_main_thread_leads() {
    let now = at(10_100);
    let all = [vm(3, 30, false), vm(9, 10, false), vm(1, 5, true)];
    assert_eq!(registry(&all).leader(now), Some(VmId(9)));
    assert_eq!(
        registry(&[vm(1, 5, true), vm(2, 4, true)]).leader(now),
        Some(VmId(2))
    );
    let mut silent = all;
    silent[1].can_stream = false;
    assert_eq!(registry(&silent).leader(now), Some(VmId(3)));
    assert_eq!(registry(&all).leader(at(12_000)), None, "all are dead");
}

/// A successor takes the place of the longest dead VM; while none comes, the dead one stays
/// expected.
#[test]
fn a_successor_takes_the_place_of_the_dead() {
    let mut registry = registry(&[vm(1, 1, false), vm(2, 2, true), vm(3, 3, true)]);
    let renewed = Vm {
        seen_at: at(11_000),
        ..vm(1, 1, false)
    };
    registry.renew(renewed);
    let now = at(12_500);
    assert_eq!(registry.live(now).count(), 1);
    assert_eq!(registry.expected(), 3);
    registry.renew(Vm {
        seen_at: now,
        ..vm(4, 4, false)
    });
    assert_eq!(registry.expected(), 3);
    assert_eq!(registry.live(now).count(), 2);
    assert!(registry.inflight_lost);
    registry.remove(VmId(1));
    assert_eq!(registry.expected(), 2);
}

/// The table has a limit.
#[test]
fn vms_have_a_limit() {
    let vms: Vec<Vm> = (1..=VMS_MAX as u64).map(|id| vm(id, id, false)).collect();
    let mut registry = registry(&vms);
    assert!(!registry.renew(vm(999, 1, false)));
    assert!(registry.renew(vm(7, 1, true)), "a known one is renewed");
}

/// The sidecar ends with a VM if only the main thread's VM of another module is left.
#[test]
fn the_end_of_the_sidecar_is_told_from_that_of_a_vm() {
    let now = at(10_100);
    let leaving = vm(1, 1, false);
    let other_module = Vm {
        module: ModuleTag(1),
        ..vm(2, 2, false)
    };
    assert!(registry(&[leaving, other_module]).is_last(&leaving, now));
    assert!(
        !registry(&[leaving, vm(3, 3, false)]).is_last(&leaving, now),
        "a successor"
    );
    let worker = Vm {
        saw_request: true,
        ..other_module
    };
    assert!(!registry(&[leaving, worker]).is_last(&leaving, now));
    assert!(
        registry(&[leaving, worker]).is_last(&leaving, at(13_000)),
        "a dead one"
    );
}

/// All VMs agree on the name of the process, whoever comes first.
#[test]
fn the_process_has_one_name() {
    let process = FakeProcess::new(3);
    let (one, two) = (process.host(), process.host());
    let first = Registry::update(&one, &mut |registry| {
        registry.renew(vm(1, 1, false));
    });
    let second = Registry::update(&two, &mut |registry| {
        registry.renew(vm(2, 2, false));
    });
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.process, second.process);
    assert_ne!(first.process, 0);
    assert_eq!(second.expected(), 2);
}

/// An update that another VM overtakes is done again on what that one wrote.
#[test]
fn an_overtaken_update_is_repeated() {
    let process = FakeProcess::new(3);
    let (one, two) = (process.host(), process.host());
    let mut overtaken = false;
    let updated = Registry::update(&one, &mut |registry| {
        if !std::mem::replace(&mut overtaken, true) {
            Registry::update(&two, &mut |registry| {
                registry.renew(vm(2, 2, false));
            });
        }
        registry.renew(vm(1, 1, false));
    });
    assert_eq!(updated.unwrap().expected(), 2);
}

proptest! {
    /// What is written is read.
    #[test]
    fn the_record_is_read_as_written(
        process in any::<u64>(),
        (each, lost) in any::<(bool, bool)>(),
        vms in proptest::collection::vec((any::<u64>(), any::<u64>(), any::<u64>(), any::<(bool, bool)>(), any::<u8>()), 0..20),
    ) {
        let registry = Registry {
            process,
            per_vm: each,
            inflight_lost: lost,
            vms: vms
                .into_iter()
                .map(|(id, configured, seen, (saw_request, can_stream), module)| Vm {
                    id: VmId(id),
                    configured_at: Monotonic(configured),
                    seen_at: Monotonic(seen),
                    saw_request,
                    can_stream,
                    module: ModuleTag(module),
                })
                .collect(),
        };
        prop_assert_eq!(Registry::decode(&registry.encode()), Some(registry));
    }

    #[test]
    fn garbage_does_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = Registry::decode(&bytes);
    }
}
