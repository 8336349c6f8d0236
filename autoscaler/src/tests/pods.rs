//! Which pods count, and for what: values of pods, in whole numbers, against a target of 10.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{
    Behavior, Decision, Hpa, Memory, Metric, Observed, Phase, Pod, Source, Startup, Target, Values,
};

const TARGET: i128 = 10_000;

/// `9` a value, `-` no value, `p9` Pending with a value, `p-` Pending without one, `d9` being
/// deleted, `f9` failed, `u9` a value of a pod that the controller does not know.
type Pods = &'static str;

/// Pods, replicas that there are, replicas wanted.
const TABLE: [(&str, Pods, u32, Option<u32>); 22] = [
    ("up, rounded up", "20 10 21", 3, Some(6)),
    (
        "the tolerance is a tenth, inclusive",
        "11 11 11",
        3,
        Some(3),
    ),
    ("beyond it", "11.001 11.001 11.001", 3, Some(4)),
    ("and below", "9 9 9 9 9 9 9 9 9 9", 10, Some(10)),
    (
        "below it",
        "8.99 8.99 8.99 8.99 8.99 8.99 8.99 8.99 8.99 8.99",
        10,
        Some(9),
    ),
    (
        "the average loses what is less than a thousandth",
        "11 11 11.002",
        3,
        Some(3),
    ),
    ("missing count as 0 on the way up", "40 - - -", 4, Some(4)),
    ("missing on the way up, still up", "60 40 -", 3, Some(10)),
    ("missing never turn up into down", "12 -", 2, Some(2)),
    (
        "missing count as the target on the way down",
        "2 2 2 -",
        4,
        Some(2),
    ),
    ("missing hold on the way down", "8 - - -", 4, Some(4)),
    (
        "exactly on target missing count for nothing",
        "10 -",
        2,
        Some(2),
    ),
    (
        "pending count as 0 on the way up",
        "50 10 30 p-",
        4,
        Some(9),
    ),
    (
        "pending are left out on the way down",
        "4 4 4 p99",
        4,
        Some(2),
    ),
    ("values of pending pods are left out", "10 p99", 2, Some(2)),
    (
        "deleted and failed ones are ignored",
        "20 20 d1 f1",
        2,
        Some(4),
    ),
    ("only these", "d9 f9", 2, None),
    ("no pods at all", "u9", 2, None),
    (
        "values of unknown pods are in the average alone",
        "20 u40",
        1,
        Some(3),
    ),
    (
        "missing pods and few values never scale down",
        "15 15 15 15 -",
        10,
        Some(10),
    ),
    ("without missing ones they do", "15 15 15 15", 10, Some(6)),
    ("no value of a known pod", "- -", 2, None),
];

#[test]
fn counts_pods_as_the_controller_does() {
    check().unwrap();
}

/// Fails with the first difference.
pub(super) fn check() -> Result<(), String> {
    for (name, pods, here, expected) in TABLE {
        let decision = decide(pods, here);
        if decision.replicas != expected {
            return Err(format!("{name}: {pods} makes {:?}", decision.replicas));
        }
    }
    Ok(())
}

fn decide(pods: Pods, here: u32) -> Decision {
    let (mut known, mut values) = (Vec::new(), BTreeMap::new());
    for (index, pod) in pods.split(' ').enumerate() {
        let name = format!("pod-{index}");
        let value = pod.trim_start_matches(|c: char| c.is_ascii_lowercase());
        let milli = crate::Quantity::parse(value).map(crate::Quantity::milli);
        if let Some(milli) = milli {
            values.insert(name.clone(), milli);
        }
        known.extend(match pod.chars().next() {
            Some('u') => None,
            Some('p') => Some(Pod::pending(name)),
            Some('d') => Some(Pod {
                deleting: true,
                ..Pod::running(name)
            }),
            Some('f') => Some(Pod {
                phase: Phase::Failed,
                ..Pod::running(name)
            }),
            _ => Some(Pod::running(name)),
        });
    }
    sync(&pods_hpa(TARGET), here, &known, Values::PerPod(values))
}

fn pods_hpa(target: i128) -> Hpa {
    let mut behavior = Behavior::default();
    // No limit in these tables.
    behavior.up.policies[0].value = 1000;
    Hpa {
        behavior: Some(behavior),
        ..Hpa::new(1, 1000, vec![Metric::pods("queue", target)])
    }
}

fn sync(hpa: &Hpa, here: u32, pods: &[Pod], values: Values) -> Decision {
    // Old enough for what the first sync remembers to be of no matter.
    let mut memory = Memory::default();
    let mut decide = |now, answer| {
        let observed = Observed {
            now,
            replicas: here,
            status_replicas: None,
            pods,
            answers: &[answer],
        };
        hpa.decide(&mut memory, &observed)
    };
    decide(Duration::ZERO, Err(String::new()));
    decide(Duration::from_hours(1), Ok(values))
}

/// The controller multiplies rounded ratios, and rounds up what is too much by the last place.
#[test]
fn floats_round_up_where_whole_numbers_would_not() {
    for (average, target, pods, wanted) in [(11_000, 10_000, 110, 122), (11_200, 10_000, 25, 29)] {
        let mut hpa = pods_hpa(target);
        hpa.settings.tolerance = 0.05;
        let known: Vec<_> = crate::testing::names(pods).map(Pod::running).collect();
        let values = crate::testing::each(pods, average);
        let decision = sync(&hpa, pods, &known, Values::PerPod(values));
        assert_eq!(
            decision.replicas,
            Some(wanted),
            "{average} by {target} times {pods}"
        );
    }
}

/// CPU time of a pod that starts is no load; a missing one uses all it requests on the way down.
#[test]
fn resources_know_requests_and_starts() {
    let metric = Metric {
        source: Source::Resource,
        name: "cpu".to_owned(),
        target: Target::Utilization(50),
    };
    let hpa = Hpa::new(1, 100, vec![metric]);
    let now = Duration::from_hours(1);
    let before = |seconds| now.saturating_sub(Duration::from_secs(seconds));
    let startup = |age: u64, changed: u64, sampled: u64| Startup {
        started: Some(before(age)),
        ready_changed: Some(before(changed)),
        sampled: before(sampled),
        window: Duration::from_secs(30),
    };
    let old = |name: &str| Pod::running(name);
    let with = |name: &str, ready, startup| Pod {
        ready,
        startup: Some(startup),
        ..Pod::running(name)
    };
    let unknown = Startup {
        started: None,
        ..startup(0, 0, 0)
    };
    let fresh = [
        // Within five minutes: not ready, or sampled before a window after it got so.
        (with("b", false, startup(60, 50, 0)), true),
        (with("b", true, startup(60, 20, 0)), true),
        (with("b", true, startup(60, 50, 0)), false),
        // Later: never ready, which its first half minute tells.
        (with("b", false, startup(600, 590, 0)), true),
        (with("b", false, startup(600, 100, 0)), false),
        (with("b", true, unknown), true),
    ];
    for (pod, left_out) in fresh {
        let values = BTreeMap::from([("a".to_owned(), 100), ("b".to_owned(), 900)]);
        let requests = BTreeMap::from([("a".to_owned(), 1000), ("b".to_owned(), 1000)]);
        let usage = Values::Usage { values, requests };
        let decision = sync(&hpa, 2, &[old("a"), pod.clone()], usage);
        // 10 % of one pod alone, or 50 % of both.
        let wanted = if left_out { 1 } else { 2 };
        assert_eq!(decision.replicas, Some(wanted), "{pod:?}");
    }
    let values = BTreeMap::from([("a".to_owned(), 100)]);
    let requests = BTreeMap::from([("a".to_owned(), 1000), ("b".to_owned(), 1000)]);
    let usage = Values::Usage { values, requests };
    let missing = sync(&hpa, 2, &[old("a"), old("b")], usage);
    // (100 + 1000) of 2000 is 55 %, which would turn the direction.
    assert_eq!(missing.replicas, Some(2));
}

/// A resource without an answer is another server's.
#[test]
fn a_resource_without_an_answer_is_not_ours() {
    let metric = Metric {
        source: Source::Resource,
        name: "cpu".to_owned(),
        target: Target::Average(500),
    };
    let hpa = Hpa::new(1, 100, vec![Metric::pods("queue", TARGET), metric]);
    let pods = [Pod::running("a")];
    let values = BTreeMap::from([("a".to_owned(), 40_000)]);
    let decision = sync(&hpa, 1, &pods, Values::PerPod(values));
    let failure = decision.proposals[1].as_ref().unwrap_err();
    assert!(
        failure.not_ours && failure.message.contains("not ours"),
        "{failure:?}"
    );
    assert_eq!(decision.replicas, Some(4));
}
