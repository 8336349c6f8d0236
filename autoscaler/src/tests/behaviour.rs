//! What stabilisation, policies, minimum, maximum and zero make of what is wanted, sync by sync.

use std::time::Duration;

use crate::{
    Behavior, Decision, Hpa, Memory, Metric, Observed, Pod, Policy, PolicyKind, Rules,
    SelectPolicy, Source, Target, Values,
};

/// Second of the sync, replicas that the metric wants, replicas that it goes to, why no more or
/// fewer.
type Row = (u64, u32, u32, &'static str);

struct Case {
    name: &'static str,
    hpa: Hpa,
    /// Replicas at the start.
    start: u32,
    rows: &'static [Row],
}

const UP: &str = "ScaleUpLimit";
const DOWN: &str = "ScaleDownLimit";
const MAX: &str = "TooManyReplicas";
const MIN: &str = "TooFewReplicas";

/// Of what this metric has, one replica takes 1.
fn hpa((min, max): (u32, u32), behavior: impl Into<Option<Behavior>>) -> Hpa {
    let metric = Metric {
        source: Source::External { selector: None },
        name: "work".to_owned(),
        target: Target::Average(1000),
    };
    let mut hpa = Hpa {
        behavior: behavior.into(),
        ..Hpa::new(min, max, vec![metric])
    };
    hpa.settings.tolerance = 0.0;
    hpa
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn policy(kind: PolicyKind, value: u32, period: u64) -> Policy {
    Policy {
        kind,
        value,
        period: seconds(period),
    }
}

fn rules(window: u64, select: SelectPolicy, policies: &[Policy]) -> Rules {
    Rules {
        stabilization: Some(seconds(window)),
        select,
        policies: policies.to_vec(),
        tolerance: None,
    }
}

fn up(rules: Rules) -> Behavior {
    let down = Rules {
        stabilization: Some(Duration::ZERO),
        ..Rules::down()
    };
    Behavior { up: rules, down }
}

fn down(rules: Rules) -> Behavior {
    Behavior {
        up: Rules::up(),
        down: rules,
    }
}

fn defaults() -> Vec<Case> {
    vec![
        Case {
            name: "without behaviour a sync doubles, or makes 4",
            hpa: hpa((1, 20), None::<Behavior>),
            start: 1,
            rows: &[
                (0, 30, 4, UP),
                (1, 30, 8, UP),
                (2, 30, 16, UP),
                (3, 30, 20, MAX),
            ],
        },
        Case {
            name: "without behaviour the highest of five minutes counts",
            hpa: hpa((1, 20), None::<Behavior>),
            start: 10,
            rows: &[
                (0, 2, 10, ""),
                (150, 8, 10, ""),
                (299, 2, 10, ""),
                (301, 2, 8, ""),
                (460, 2, 2, ""),
            ],
        },
        Case {
            name: "by default 4 pods or 100 % in 15 s, whichever is more",
            hpa: hpa((1, 50), Behavior::default()),
            start: 1,
            rows: &[
                (0, 40, 5, UP),
                (14, 40, 5, UP),
                (15, 40, 10, UP),
                (30, 40, 20, UP),
                (45, 40, 40, ""),
            ],
        },
        Case {
            name: "by default down at once after five minutes",
            hpa: hpa((2, 20), Behavior::default()),
            start: 10,
            rows: &[(0, 1, 10, ""), (299, 1, 10, ""), (300, 1, 2, MIN)],
        },
    ]
}

fn policies() -> Vec<Case> {
    use PolicyKind::{Percent, Pods};
    use SelectPolicy::{Disabled, Min};
    let two = [policy(Pods, 4, 15), policy(Percent, 100, 15)];
    vec![
        Case {
            name: "Min takes the policy that allows least",
            hpa: hpa((1, 20), up(rules(0, Min, &two))),
            start: 1,
            rows: &[
                (0, 20, 2, UP),
                (15, 20, 4, UP),
                (30, 20, 8, UP),
                (45, 20, 12, UP),
            ],
        },
        Case {
            name: "Disabled stays, on the way up",
            hpa: hpa((1, 20), up(rules(0, Disabled, &two))),
            start: 3,
            rows: &[(0, 20, 3, UP), (60, 2, 2, "")],
        },
        Case {
            name: "Disabled stays, on the way down",
            hpa: hpa((1, 20), down(rules(0, Disabled, &two))),
            start: 3,
            rows: &[(0, 1, 3, DOWN), (60, 5, 5, "")],
        },
    ]
}

fn policies_in_numbers() -> Vec<Case> {
    use PolicyKind::{Percent, Pods};
    use SelectPolicy::{Max, Min};
    vec![
        Case {
            name: "percent are rounded up on the way up",
            hpa: hpa((1, 20), up(rules(0, Max, &[policy(Percent, 10, 60)]))),
            start: 3,
            rows: &[(0, 20, 4, UP), (59, 20, 4, UP), (60, 20, 5, UP)],
        },
        Case {
            name: "and down on the way down",
            hpa: hpa((1, 20), down(rules(0, Max, &[policy(Percent, 10, 60)]))),
            start: 15,
            rows: &[(0, 1, 13, DOWN), (59, 1, 13, DOWN), (60, 1, 11, DOWN)],
        },
        Case {
            name: "one pod a minute on the way down",
            hpa: hpa((1, 20), down(rules(0, Max, &[policy(Pods, 1, 60)]))),
            start: 10,
            rows: &[
                (0, 2, 9, DOWN),
                (30, 2, 9, DOWN),
                (60, 2, 8, DOWN),
                (61, 9, 9, ""),
            ],
        },
        Case {
            name: "Min on the way down takes the policy that allows least",
            hpa: hpa(
                (1, 20),
                down(rules(
                    0,
                    Min,
                    &[policy(Pods, 4, 60), policy(Percent, 10, 60)],
                )),
            ),
            start: 20,
            rows: &[(0, 2, 18, DOWN)],
        },
        Case {
            name: "scalings down give room for scalings up of the same period",
            hpa: hpa((1, 20), up(rules(0, Max, &[policy(Pods, 2, 60)]))),
            start: 10,
            rows: &[
                (0, 5, 5, ""),
                (10, 20, 12, UP),
                (60, 20, 12, UP),
                (70, 20, 14, UP),
            ],
        },
    ]
}

fn windows() -> Vec<Case> {
    use SelectPolicy::Max;
    let fast = [policy(PolicyKind::Percent, 900, 15)];
    let both = || Behavior {
        up: rules(60, Max, &fast),
        down: rules(120, Max, &fast),
    };
    vec![
        Case {
            name: "the lowest of the window counts on the way up",
            hpa: hpa((1, 20), up(rules(60, Max, &fast))),
            start: 2,
            rows: &[
                (0, 8, 2, ""),
                (30, 6, 2, ""),
                (59, 8, 2, ""),
                (60, 8, 6, ""),
                (90, 8, 8, ""),
            ],
        },
        Case {
            name: "the highest of the window counts on the way down",
            hpa: hpa(
                (1, 20),
                down(rules(120, Max, &[policy(PolicyKind::Percent, 100, 15)])),
            ),
            start: 9,
            rows: &[
                (0, 4, 9, ""),
                (60, 6, 9, ""),
                (119, 3, 9, ""),
                (120, 3, 6, ""),
                (180, 3, 3, ""),
            ],
        },
        Case {
            name: "between both windows it stays where it is",
            hpa: hpa((1, 20), both()),
            start: 5,
            rows: &[
                (0, 9, 5, ""),
                (20, 2, 5, ""),
                (40, 9, 5, ""),
                (100, 9, 9, ""),
            ],
        },
        Case {
            name: "what is wanted is remembered as it was before its bounds",
            hpa: hpa(
                (2, 6),
                down(rules(60, Max, &[policy(PolicyKind::Percent, 100, 15)])),
            ),
            start: 4,
            rows: &[(0, 9, 6, MAX), (30, 5, 6, ""), (61, 5, 5, "")],
        },
    ]
}

fn zero() -> Vec<Case> {
    vec![
        Case {
            name: "to zero and back",
            hpa: hpa((0, 10), up(Rules::up())),
            start: 2,
            rows: &[(0, 0, 0, ""), (15, 0, 0, ""), (30, 3, 3, "")],
        },
        Case {
            name: "zero that somebody else made stays",
            hpa: hpa((0, 10), up(Rules::up())),
            start: 0,
            rows: &[(0, 3, 0, ""), (15, 3, 0, "")],
        },
        Case {
            name: "the status said that it scaled to zero itself",
            hpa: Hpa {
                scaled_to_zero: true,
                ..hpa((0, 10), up(Rules::up()))
            },
            start: 0,
            rows: &[(0, 3, 3, "")],
        },
        Case {
            name: "from zero at least to a minimum that was raised meanwhile",
            hpa: Hpa {
                scaled_to_zero: true,
                ..hpa((2, 10), up(Rules::up()))
            },
            start: 0,
            rows: &[(0, 0, 2, "")],
        },
        Case {
            name: "more than the maximum go there without a metric",
            hpa: hpa((1, 10), None::<Behavior>),
            start: 12,
            rows: &[(0, 12, 10, "")],
        },
        Case {
            name: "fewer than the minimum too",
            hpa: hpa((3, 10), None::<Behavior>),
            start: 2,
            rows: &[(0, 9, 3, "")],
        },
    ]
}

#[test]
fn limits_as_the_controller_does() {
    check().unwrap();
}

/// Fails with the first difference.
pub(super) fn check() -> Result<(), String> {
    let all = [
        defaults(),
        policies(),
        policies_in_numbers(),
        windows(),
        zero(),
    ];
    for case in all.into_iter().flatten() {
        let (mut memory, mut here) = (Memory::default(), case.start);
        for &(at, wanted, expected, reason) in case.rows {
            let decision = sync(&case.hpa, &mut memory, at, here, wanted);
            let limited = decision.limited.as_ref().map_or("", |own| own.reason);
            if (decision.replicas, limited) != (Some(expected), reason) {
                return Err(format!(
                    "{}: at {at} s with {here}, wanting {wanted}: {:?} {limited}, not {expected} {reason}",
                    case.name, decision.replicas
                ));
            }
            here = expected;
        }
    }
    Ok(())
}

fn sync(hpa: &Hpa, memory: &mut Memory, at: u64, here: u32, wanted: u32) -> Decision {
    let pods: Vec<_> = crate::testing::names(here).map(Pod::running).collect();
    let observed = Observed {
        now: seconds(1000 + at),
        replicas: here,
        status_replicas: None,
        pods: &pods,
        answers: &[Ok(Values::Total(i128::from(wanted) * 1000))],
    };
    hpa.decide(memory, &observed)
}

/// Zero that was scaled up by hand and down again by hand is not the autoscaler's.
#[test]
fn a_scaling_up_ends_its_own_zero() {
    let hpa = hpa((0, 10), up(Rules::up()));
    let mut memory = Memory::default();
    assert_eq!(sync(&hpa, &mut memory, 0, 2, 0).replicas, Some(0));
    assert_eq!(sync(&hpa, &mut memory, 15, 0, 3).replicas, Some(3));
    let by_hand = sync(&hpa, &mut memory, 30, 0, 3);
    assert_eq!(by_hand.replicas, Some(0));
    assert_eq!(by_hand.active.unwrap().reason, "ScalingDisabled");
}
