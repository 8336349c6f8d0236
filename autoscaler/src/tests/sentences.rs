//! Each step as people read it.

use std::time::Duration;

use crate::{Direction, Filling, Policy, PolicyKind, Step, Target};

const WINDOW: Duration = Duration::from_mins(5);

fn values() -> Vec<(Step, &'static str)> {
    vec![
        (
            Step::Ignored { pods: 1 },
            "1 pod is being deleted or has failed: ignored.",
        ),
        (
            Step::Ignored { pods: 2 },
            "2 pods are being deleted or have failed: ignored.",
        ),
        (
            Step::Unready { pods: 2 },
            "2 pods are not ready yet: left out.",
        ),
        (Step::Missing { pods: 1 }, "1 pod has no value."),
        (
            Step::Utilization {
                pods: 1,
                percent: 70,
            },
            "1 pod uses 70 % of what it requested.",
        ),
        (
            Step::Ratio {
                ratio: 4.0 / 3.0,
                target: Target::Average(30_000),
            },
            "That is 1.333 times the target of 30.",
        ),
        (
            Step::TotalPerPod {
                total_milli: 12_500,
                replicas: 1,
                target_milli: 5_000,
                ratio: 2.5,
            },
            "The value of 12.5 for 1 replica is 2.5 times the target of 5 per pod.",
        ),
    ]
}

fn fillings() -> Vec<(Step, &'static str)> {
    let filled = |missing, unready, filling| Step::Filled {
        missing,
        unready,
        filling,
        pods: 5,
        ratio: 1.25,
    };
    vec![
        (
            filled(1, 0, Filling::Target(10_000)),
            "As it is to scale down, 1 pod without a value counts as the target of 10: the average of 5 pods is then 1.25 times the target.",
        ),
        (
            filled(0, 2, Filling::Zero),
            "As it is to scale up, 2 pods not ready yet count as 0: the average of 5 pods is then 1.25 times the target.",
        ),
        (
            filled(1, 0, Filling::Percent(100)),
            "As it is to scale down, 1 pod without a value counts as 100 % of the request: the average of 5 pods is then 1.25 times the target.",
        ),
        (
            filled(3, 0, Filling::Nothing),
            "Exactly on target, 3 pods without a value count for nothing.",
        ),
        (
            Step::Turned { replicas: 4 },
            "With these pods counted the direction would turn: it stays at 4 replicas.",
        ),
        (
            Step::FromZero {
                ratio: 2.2,
                replicas: 3,
            },
            "There is no replica, so the ratio itself counts: 2.2, rounded up, makes 3 replicas.",
        ),
    ]
}

fn stabilised() -> Vec<(Step, &'static str)> {
    let (up, down) = (Direction::Up, Direction::Down);
    let stabilized = |direction, age, replicas| Step::Stabilized {
        direction,
        window: WINDOW,
        age,
        wanted: 2,
        replicas,
    };
    let minute_before = Some(Duration::from_mins(1));
    vec![
        (
            stabilized(down, minute_before, 6),
            "Of what it wanted in the last 300 s the highest counts: 6 replicas (60 s before) instead of 2.",
        ),
        (
            stabilized(up, minute_before, 1),
            "Of what it wanted in the last 300 s the lowest counts: 1 replica (60 s before) instead of 2.",
        ),
        (
            stabilized(down, None, 4),
            "What it wanted in the last 300 s lies on both sides of 4 replicas: it stays there instead of going to 2.",
        ),
    ]
}

fn limits() -> Vec<(Step, &'static str)> {
    vec![
        (
            Step::Most {
                metric: "pods metric rps".to_owned(),
                metrics: 2,
                replicas: 6,
            },
            "Of 2 metrics pods metric rps wants most: 6 replicas.",
        ),
        (
            Step::OnlyUp {
                failed: 1,
                replicas: 6,
            },
            "1 metric failed, and the others want no fewer replicas than there are, so their 6 replicas count.",
        ),
        (
            Step::Blocked {
                failed: 2,
                wanted: 3,
                replicas: 5,
            },
            "2 metrics failed, so it cannot scale down to 3: it stays at 5 replicas.",
        ),
        (
            Step::Limited {
                direction: Direction::Down,
                policy: Policy {
                    kind: PolicyKind::Pods,
                    value: 1,
                    period: Duration::from_mins(1),
                },
                start: 10,
                wanted: 2,
                replicas: 9,
            },
            "behavior.scaleDown allows 1 pod in 60 s, from 10 replicas at the start of that time: 9 replicas instead of 2.",
        ),
        (
            Step::Doubled {
                wanted: 9,
                replicas: 4,
            },
            "Without spec.behavior one sync at most doubles the replicas, or makes them 4: 4 replicas instead of 9.",
        ),
        (
            Step::Disabled {
                direction: Direction::Up,
                replicas: 3,
            },
            "behavior.scaleUp is disabled: it stays at 3 replicas.",
        ),
        (
            Step::Min {
                wanted: 0,
                replicas: 2,
            },
            "minReplicas asks for 2 instead of 0.",
        ),
        (
            Step::BelowMin {
                had: 1,
                replicas: 2,
            },
            "1 is fewer than minReplicas: it goes to 2 without reading a metric.",
        ),
    ]
}

#[test]
fn says_each_step() {
    for (step, sentence) in [values(), fillings(), stabilised(), limits()].concat() {
        assert_eq!(step.to_string(), sentence);
    }
}
