//! What holds for any load, spec and history: against a model that keeps all of the past and looks
//! at it anew each time.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use crate::{
    Behavior, Hpa, Memory, Metric, Observed, Phase, Pod, Policy, PolicyKind, Rules, SelectPolicy,
    Source, Tally, Target, Values,
};

/// All syncs of an HPA: second, replicas before, what was wanted, replicas after.
type Past = Vec<(u64, i64, i64, i64)>;

fn rules() -> impl Strategy<Value = Rules> {
    let kind = prop_oneof![Just(PolicyKind::Pods), Just(PolicyKind::Percent)];
    let select = prop_oneof![
        4 => Just(SelectPolicy::Max),
        4 => Just(SelectPolicy::Min),
        1 => Just(SelectPolicy::Disabled),
    ];
    let policy = (kind, 1..150_u32);
    // One period: with several the controller forgets scalings that the longer one still asks for.
    let policies = (proptest::collection::vec(policy, 1..3), 5..120_u64);
    (policies, select, 0..150_u64).prop_map(|((policies, period), select, window)| Rules {
        stabilization: Some(Duration::from_secs(window)),
        select,
        policies: policies
            .into_iter()
            .map(|(kind, value)| Policy {
                kind,
                value,
                period: Duration::from_secs(period),
            })
            .collect(),
        tolerance: None,
    })
}

fn behavior() -> impl Strategy<Value = Option<Behavior>> {
    let own = (rules(), rules()).prop_map(|(up, mut down)| {
        for policy in &mut down.policies {
            policy.period = up.policies[0].period;
        }
        Some(Behavior { up, down })
    });
    prop_oneof![1 => Just(None), 4 => own]
}

fn bounds() -> impl Strategy<Value = (u32, u32)> {
    (1..8_u32, 0..40_u32).prop_map(|(min, more)| (min, min + more))
}

fn work(bounds: (u32, u32), behavior: Option<Behavior>) -> Hpa {
    let metric = Metric {
        source: Source::External { selector: None },
        name: "work".to_owned(),
        target: Target::Average(1000),
    };
    let mut hpa = Hpa {
        behavior,
        ..Hpa::new(bounds.0, bounds.1, vec![metric])
    };
    hpa.settings.tolerance = 0.0;
    hpa.settings.downscale_stabilization = Duration::from_secs(100);
    hpa
}

/// What the controller does, from all of the past.
fn naive(hpa: &Hpa, past: &Past, now: u64, here: i64, wanted: i64) -> i64 {
    let (min, max) = (i64::from(hpa.min), i64::from(hpa.max));
    // The replicas at the first sync count as wanted then.
    let first = past.first().map_or((now, here), |sync| (sync.0, sync.1));
    let recent = |seconds: u64, inclusive: bool| -> Vec<i64> {
        let all = past.iter().map(|sync| (sync.0, sync.2));
        let all = std::iter::once(first).chain(all);
        let within = all.filter(|(at, _)| at + seconds > now || (inclusive && at + seconds == now));
        within.map(|(_, wanted)| wanted).chain([wanted]).collect()
    };
    let Some(behavior) = &hpa.behavior else {
        let highest = recent(hpa.down_window().as_secs(), true);
        let highest = highest.into_iter().max().unwrap();
        return highest.min((2 * here).max(4)).max(min).min(max);
    };
    let lowest = recent(hpa.up_window().as_secs(), false);
    let highest = recent(hpa.down_window().as_secs(), false);
    let mut wanted = here.max(lowest.into_iter().min().unwrap());
    wanted = wanted.min(highest.into_iter().max().unwrap());
    let start = |period: u64| {
        let after = past.iter().find(|sync| sync.0 + period > now);
        after.map_or(here, |sync| sync.1)
    };
    let limits = |rules: &Rules, sign: i64| -> Vec<i64> {
        let limit = |policy: &Policy| {
            let start = start(policy.period.as_secs());
            match policy.kind {
                PolicyKind::Pods => start + sign * i64::from(policy.value),
                PolicyKind::Percent => percent(start, sign * i64::from(policy.value)),
            }
        };
        rules.policies.iter().map(limit).collect()
    };
    let up = limits(&behavior.up, 1).into_iter();
    let down = limits(&behavior.down, -1).into_iter();
    let most = match behavior.up.select {
        SelectPolicy::Max => up.max(),
        SelectPolicy::Min => up.min(),
        SelectPolicy::Disabled => Some(here),
    };
    let fewest = match behavior.down.select {
        SelectPolicy::Max => down.min(),
        SelectPolicy::Min => down.max(),
        SelectPolicy::Disabled => Some(here),
    };
    match wanted.cmp(&here) {
        Ordering::Greater => wanted.min(most.unwrap().max(here)).min(max),
        Ordering::Less => wanted.max(fewest.unwrap().min(here)).max(min),
        Ordering::Equal => wanted,
    }
}

/// So many percent more, rounded up, or fewer, cut: in floats, as 25 and 12 % are 29 there.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "small counts"
)]
fn percent(start: i64, percent: i64) -> i64 {
    let changed = start as f64 * (1.0 + percent as f64 / 100.0);
    if percent > 0 {
        changed.ceil() as i64
    } else {
        changed as i64
    }
}

/// The average of pods, in whole numbers, of which some are Pending or have no value.
fn pods_hpa(bounds: (u32, u32)) -> Hpa {
    Hpa {
        behavior: Some(generous()),
        ..Hpa::new(bounds.0, bounds.1, vec![Metric::pods("queue", 10_000)])
    }
}

fn generous() -> Behavior {
    let mut behavior = Behavior::default();
    behavior.up.policies[0].value = 10_000;
    behavior.down.stabilization = Some(Duration::ZERO);
    behavior
}

/// 0: a value, 1: none, 2: Pending. By name and added up it is the same.
fn decide_pods(hpa: &Hpa, pods: &[(u8, i128)]) -> u32 {
    let (mut known, mut values) = (Vec::new(), BTreeMap::new());
    let mut tally = Tally::default();
    for (index, (kind, value)) in pods.iter().enumerate() {
        let name = format!("pod-{index}");
        let phase = if *kind == 2 {
            Phase::Pending
        } else {
            Phase::Running
        };
        tally.add(phase, false, (*kind != 1).then_some(*value));
        match kind {
            0 => drop(values.insert(name.clone(), *value)),
            1 => {}
            _ => {
                known.push(Pod::pending(name));
                continue;
            }
        }
        known.push(Pod::running(name));
    }
    let replicas = u32::try_from(pods.len()).unwrap();
    let decide = |values| {
        let observed = Observed {
            now: Duration::ZERO,
            replicas,
            status_replicas: None,
            pods: &known,
            answers: &[Ok(values)],
        };
        hpa.decide(&mut Memory::default(), &observed).replicas
    };
    let decided = decide(Values::PerPod(values));
    assert_eq!(decide(Values::Counted(tally)), decided);
    decided.unwrap_or(replicas)
}

proptest! {
    /// Any history leads where the naive model says, within the bounds and the policies.
    #[test]
    fn agrees_with_a_naive_model(
        behavior in behavior(),
        bounds in bounds(),
        start in 0..40_u32,
        loads in proptest::collection::vec((1..40_u64, 0..60_i64), 1..40),
    ) {
        let hpa = work(bounds, behavior);
        let (mut memory, mut past) = (Memory::default(), Past::new());
        let mut here = i64::from((bounds.0 + start).min(bounds.1));
        let mut now = 1000;
        for (gap, wanted) in loads {
            now += gap;
            let replicas = u32::try_from(here).unwrap();
            let pods: Vec<_> = crate::testing::names(replicas).map(Pod::running).collect();
            let observed = Observed {
                now: Duration::from_secs(now),
                replicas,
                status_replicas: None,
                pods: &pods,
                answers: &[Ok(Values::Total(i128::from(wanted) * 1000))],
            };
            let decision = hpa.decide(&mut memory, &observed);
            let expected = naive(&hpa, &past, now, here, wanted);
            let replicas = decision.replicas.unwrap();
            prop_assert_eq!(i64::from(replicas), expected, "{:?} at {}", past, now);
            prop_assert!((hpa.min..=hpa.max).contains(&replicas));
            // The sentences end where the numbers do.
            if let Some(last) = decision.limits.iter().rev().find_map(crate::Step::replicas) {
                prop_assert_eq!(last, replicas);
            }
            past.push((now, here, wanted, expected));
            here = expected;
        }
    }

    /// More load never wants fewer replicas, whichever pods lack a value.
    #[test]
    fn more_load_never_wants_fewer(
        bounds in bounds(),
        pods in proptest::collection::vec((0..3_u8, 0..30_000_i128, 0..10_000_i128), 1..12),
    ) {
        let hpa = pods_hpa((1, bounds.1 + 20));
        let less: Vec<_> = pods.iter().map(|(kind, value, _)| (*kind, *value)).collect();
        let more: Vec<_> = pods.iter().map(|(kind, value, more)| (*kind, value + more)).collect();
        let (less, more) = (decide_pods(&hpa, &less), decide_pods(&hpa, &more));
        prop_assert!(more >= less, "{} for more, {} for less", more, less);
        prop_assert!((hpa.min..=hpa.max).contains(&more));
    }

    /// At a threshold it scales, one thousandth before it does not.
    #[test]
    fn thresholds_are_where_it_scales(start in 0..40_u32, target in 1..50_000_i128, bounds in bounds()) {
        let metric = Metric::pods("queue", target);
        let mut hpa = pods_hpa(bounds);
        hpa.metrics = vec![metric.clone()];
        let replicas = (bounds.0 + start).min(bounds.1);
        let thresholds = hpa.thresholds(&metric, replicas).unwrap();
        let all = |value: i128| {
            decide_pods(&hpa, &vec![(0, value); usize::try_from(replicas).unwrap()])
        };
        if let Some(up) = thresholds.up {
            prop_assert!(all(up.value_milli) == up.replicas && up.replicas > replicas);
            prop_assert_eq!(all(up.value_milli - 1), replicas);
        } else {
            prop_assert_eq!(replicas, hpa.max);
        }
        if let Some(down) = thresholds.down {
            prop_assert!(all(down.value_milli) == down.replicas && down.replicas < replicas);
            prop_assert_eq!(all(down.value_milli + 1), replicas);
        } else {
            prop_assert_eq!(replicas, hpa.min);
        }
    }
}
