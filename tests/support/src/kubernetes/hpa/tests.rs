//! Scenarios recorded from Kubernetes 1.36, by their numbers in the record: replicas step by step, and messages.

use super::*;

const METRIC: &str = "queue_depth";

fn pods(count: u32) -> Vec<String> {
    (0..count).map(|number| format!("llm-{number}")).collect()
}

fn each(count: u32, milli: i128) -> BTreeMap<String, i128> {
    pods(count).into_iter().map(|pod| (pod, milli)).collect()
}

/// Replicas of each step while every pod has `milli`, until they stay.
fn steps(autoscaler: &Autoscaler, from: u32, milli: i128) -> (Vec<u32>, Option<&'static str>) {
    let mut seen = vec![from];
    loop {
        let current = seen[seen.len() - 1];
        let decision = autoscaler.decide(METRIC, &pods(current), &Ok(each(current, milli)));
        let Decision::Replicas { count, limited, .. } = decision else {
            panic!("{decision:?}");
        };
        if count == current {
            return (seen, limited);
        }
        seen.push(count);
    }
}

fn stock() -> Autoscaler {
    Autoscaler::new(1, 10, 10_000)
}

/// 1, 2, 3, 4, 20, 35: what every pod has decides, step by step, to the recorded end.
#[test]
fn follows_the_recorded_steps() {
    for (scenario, from, milli, expected, limited) in [
        (1, 2, 10_000, vec![2], None),
        (2, 2, 25_000, vec![2, 4, 8, 10], Some("TooManyReplicas")),
        (4, 2, 10_900, vec![2], None),
        (20, 3, 0, vec![3, 1], Some("TooFewReplicas")),
        (35, 2, 20_000, vec![2, 4, 8, 10], Some("TooManyReplicas")),
        (3, 10, 2_000, vec![10, 2, 1], None),
    ] {
        let (seen, reason) = steps(&stock(), from, milli);
        assert_eq!(seen, expected, "scenario {scenario}");
        assert_eq!(reason, limited, "scenario {scenario}");
    }
}

/// 22: 2, 3, 5, 6, 9 replicas; the step from 5 to 6 is that of four values of 15 for five pods.
#[test]
fn follows_a_step_with_a_missing_pod() {
    for (pods_here, values, expected) in [(2, 2, 3), (3, 3, 5), (5, 4, 6), (6, 6, 9)] {
        let decision = stock().decide(METRIC, &pods(pods_here), &Ok(each(values, 15_000)));
        let Decision::Replicas { count, .. } = decision else {
            panic!("{decision:?}");
        };
        assert_eq!(count, expected, "{values} values for {pods_here} pods");
    }
}

/// 32: a tolerance of its own, and no policy.
#[test]
fn follows_a_tolerance_of_its_own() {
    let autoscaler = Autoscaler {
        tolerance_milli: 20,
        factor_up: None,
        ..stock()
    };
    let (seen, _) = steps(&autoscaler, 2, 10_500);
    assert_eq!(&seen[..5], [2, 3, 4, 5, 6]);
}

/// 18: one of four pods has a value; the others count as 0 on the way up.
#[test]
fn counts_missing_pods_as_idle_on_the_way_up() {
    let answer = Ok(BTreeMap::from([("llm-0".to_owned(), 40_000)]));
    assert_eq!(
        stock().decide(METRIC, &pods(4), &answer),
        Decision::Replicas {
            count: 4,
            average_milli: 40_000,
            limited: None
        }
    );
}

/// 12, 13, 14, 15, 19, 34: whatever is wrong freezes, with the recorded sentence.
#[test]
fn freezes_with_the_recorded_sentence() {
    let prefix =
        "the HPA was unable to compute the replica count: unable to get metric queue_depth: ";
    for (answer, expected) in [
        (
            Err("the server could not find the metric queue_depth for pods"),
            "unable to fetch metrics from custom metrics API: the server could not find the metric queue_depth for pods",
        ),
        (
            Err("injected"),
            "unable to fetch metrics from custom metrics API: injected",
        ),
        (Ok(()), "no metrics returned from custom metrics API"),
    ] {
        let answer = answer.map(|()| BTreeMap::new()).map_err(str::to_owned);
        assert_eq!(
            stock().decide(METRIC, &pods(3), &answer),
            Decision::Frozen(format!("{prefix}{expected}"))
        );
    }
}
