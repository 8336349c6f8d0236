//! Two Envoy processes of one pod: what one of them counts is never taken for the pod's.

use super::sidecar::{Sidecar, at, rate, read, store, value};
use crate::query::NoValue;
use crate::report::{CounterScope, InstanceId, ProcessId};
use crate::store::{Link, Store};

/// Milliseconds after which a refused sidecar says hello again.
const RETRY_MS: u64 = 1200;

/// A parent that is refused as long as its child is live, and tries again.
struct Parent {
    sidecar: Sidecar,
    link: Option<Link>,
    retry_at: u64,
    stream: u64,
}

impl Parent {
    fn new(store: &Store) -> Self {
        let sidecar = Sidecar::new("jazz", 1);
        let link = sidecar.connect(store, at(0), 1);
        Self {
            sidecar,
            link: Some(link),
            retry_at: 0,
            stream: 100,
        }
    }

    fn report(&mut self, store: &Store, now: u64, requests: u64) {
        if self.link.is_none() && now >= self.retry_at {
            self.stream += 1;
            let connected = self.sidecar.try_connect(store, at(now), self.stream);
            self.link = connected.ok().map(|connected| connected.link);
            self.retry_at = now + RETRY_MS;
        }
        if let Some(link) = &self.link
            && self
                .sidecar
                .try_say(store, at(now), link, requests)
                .is_err()
        {
            self.link = None;
            self.retry_at = now + RETRY_MS;
        }
    }
}

/// A parent serves 90/s and drains for 20 s, its child serves 10/s meanwhile and 100/s from then
/// on; the child's Envoy does not say that there is a parent (`stats_flush_interval` is long, or
/// the parent's statistics are skipped). The pod's true rate is 100/s all the time: each read is
/// that or unknown.
#[test]
fn a_draining_parent_makes_the_pod_unknown() {
    let store = store();
    let mut parent = Parent::new(&store);
    let child = Sidecar::new("jazz", 2).started(at(10_000));
    let mut link = None;
    let (mut old, mut new) = (0, 0);
    for now in (1000..=60_000).step_by(1000) {
        let drains = (10_001..=30_000).contains(&now);
        old += if now <= 10_000 {
            100
        } else if drains {
            90
        } else {
            0
        };
        new += if now <= 10_000 {
            0
        } else if drains {
            10
        } else {
            100
        };
        if now <= 30_000 {
            parent.report(&store, now, old);
        }
        if now == 10_000 {
            link = Some(child.connect(&store, at(now), 2));
        } else if let Some(link) = &link {
            child.says(&store, at(now), link, new);
        }
        for (window, later) in [(2, 0), (5, 300), (60, 700)] {
            let reading = value(read(&store, at(now + later), "jazz", &rate(window)));
            match reading {
                Ok((milli, _)) => assert_eq!(milli, 100_000, "{now} ms, window {window} s"),
                Err(why) if drains || now > 30_000 => {
                    assert!(matches!(why, NoValue::HotRestart | NoValue::New), "{why:?}");
                    assert!(now < 38_000, "{why:?} at {now} ms");
                }
                Err(why) => assert_eq!((why, now), (NoValue::New, 1000)),
            }
        }
        if (12_000..=30_000).contains(&now) {
            let reading = value(read(&store, at(now), "jazz", &rate(5)));
            assert_eq!(reading, Err(NoValue::HotRestart), "{now} ms");
        }
    }
}

/// A child that says itself that it has a parent is unknown as long as it says so, whether or not
/// the parent is heard, and exact from then on.
#[test]
fn a_child_says_so() {
    let store = store();
    let vm = |instance, began, hot_restart| {
        let mut sidecar = Sidecar::new("jazz", instance).started(at(began));
        sidecar.hello.instance = InstanceId(instance);
        sidecar.hello.process = ProcessId(9);
        sidecar.hello.scope = CounterScope::Vm;
        sidecar.hello.hot_restart = hot_restart;
        sidecar
    };
    let parent = Sidecar::new("jazz", 1);
    let parent_link = parent.connect(&store, at(0), 1);
    parent.says(&store, at(1000), &parent_link, 100);
    parent.says(&store, at(2000), &parent_link, 200);
    let flagged = [vm(2, 2000, true), vm(3, 2000, true)];
    let links = [
        flagged[0].connect(&store, at(2500), 2),
        flagged[1].connect(&store, at(2500), 3),
    ];
    let unknown = |now| {
        assert_eq!(
            value(read(&store, at(now), "jazz", &rate(2))),
            Err(NoValue::HotRestart)
        );
    };
    unknown(2600);
    store.disconnect(at(2700), &parent_link);
    for second in 3..20 {
        for (sidecar, link) in flagged.iter().zip(&links) {
            sidecar.says(&store, at(1000 * second), link, 5 * second);
        }
        unknown(1000 * second + 500);
    }
    // The parent is gone; one VM notices before the other.
    let first = vm(2, 2000, false);
    let first_link = first.connect(&store, at(20_100), 4);
    first.says(&store, at(20_200), &first_link, 100);
    unknown(20_200);
    let second = vm(3, 2000, false);
    let second_link = second.connect(&store, at(20_300), 5);
    second.says(&store, at(20_400), &second_link, 100);
    for seconds in 21..30 {
        for (sidecar, link) in [(&first, &first_link), (&second, &second_link)] {
            let total = 100 + 50 * (seconds - 20);
            sidecar.says(&store, at(1000 * seconds + 400), link, total);
        }
        let reading = value(read(&store, at(1000 * seconds + 400), "jazz", &rate(60)));
        if seconds >= 22 {
            let (milli, window) = reading.unwrap();
            // 50/s by each VM, but for the tenth of a second before the second one's report.
            assert!((93_000..=100_000).contains(&milli), "{milli}");
            assert!(window <= u128::from(1000 * seconds - 20_000 + 400));
        }
    }
}

/// A sidecar that is restarted after its stream closed is no hot restart.
#[test]
fn a_restart_is_none() {
    let store = store();
    let old = Sidecar::new("jazz", 1);
    let link = old.connect(&store, at(0), 1);
    for second in 1..=10 {
        old.says(&store, at(1000 * second), &link, 100 * second);
    }
    store.disconnect(at(10_000), &link);
    let new = Sidecar::new("jazz", 2).started(at(10_000));
    let link = new.connect(&store, at(10_300), 2);
    for second in 11..=20 {
        new.says(&store, at(1000 * second), &link, 100 * (second - 10));
        let reading = value(read(&store, at(1000 * second), "jazz", &rate(5)));
        assert_eq!(reading, Ok((100_000, 5000)));
    }
}

/// Counters that begin again within a process (`/reset_counters`, or each VM streams for itself
/// from now on) leave a gap: unreported counts are lost, and the new totals may include reported
/// ones.
#[test]
fn a_process_that_begins_again_leaves_a_hole() {
    // Set back at 10.9 s, when 90 were not reported; or VMs continue with totals already reported.
    for (instance, total) in [(2, 10), (3, 510)] {
        let store = store();
        let old = Sidecar::new("jazz", 1);
        let link = old.connect(&store, at(0), 1);
        for second in 1..=10 {
            old.says(&store, at(1000 * second), &link, 100 * second);
        }
        let mut new = Sidecar::new("jazz", instance).started(at(10_900));
        new.hello.process = ProcessId(1);
        let link = new.connect(&store, at(11_000), instance);
        new.says(&store, at(11_000), &link, total);
        assert_eq!(
            value(read(&store, at(11_000), "jazz", &rate(5))),
            Err(NoValue::New)
        );
        new.says(&store, at(12_000), &link, total + 100);
        for window in [2, 60] {
            let reading = value(read(&store, at(12_000), "jazz", &rate(window)));
            assert_eq!(reading, Ok((100_000, 1000)));
        }
    }
}
