//! The same answers lead to the same replicas, step by step, the same conditions and the same
//! `currentMetrics`.

use std::time::Duration;

use crate::quantity::Quantity;
use crate::testing::{Scenario, names, numbered, scenarios};
use crate::{Decision, Hpa, Memory, Metric, Observed, Pod, Source, Target};

/// More than the second of the recordings' policies.
const BETWEEN: Duration = Duration::from_secs(2);

#[test]
fn agrees_with_every_recorded_scenario() {
    let all = scenarios();
    for scenario in &all {
        check(scenario).unwrap();
    }
    // None is left out: the record has as many numbered scenarios.
    let first_parts = all.iter().filter(|scenario| scenario.part == 0).count();
    assert_eq!(first_parts, numbered());
}

/// Fails with the first difference.
pub(super) fn check(scenario: &Scenario) -> Result<(), String> {
    let Scenario { hpa, recorded, .. } = scenario;
    let mut now = Duration::ZERO;
    let mut decide = |memory: &mut Memory, here: u32| {
        now += BETWEEN;
        let pods: Vec<_> = names(here).map(Pod::running).collect();
        let observed = Observed {
            now,
            replicas: here,
            status_replicas: None,
            pods: &pods,
            answers: &(scenario.answers)(here),
        };
        hpa.decide(memory, &observed)
    };
    let mut memory = Memory::default();
    for pair in recorded.wanted.windows(2) {
        let decision = decide(&mut memory, pair[0]);
        same("replicas", &decision.replicas, &Some(pair[1]), scenario)?;
    }
    let decision = decide(&mut Memory::default(), recorded.here);
    let (is_active, reason, message) = &recorded.active;
    let desired = is_active.then_some(recorded.desired);
    same("desired", &decision.replicas, &desired, scenario)?;
    let active = decision.active.as_ref().unwrap();
    let condition = (
        active.is_true,
        active.reason.to_owned(),
        active.message.clone(),
    );
    let expected = (*is_active, reason.clone(), message.clone());
    same("active", &condition, &expected, scenario)?;
    let limited = decision.limited.as_ref();
    let limited = limited.map(|own| (own.reason.to_owned(), own.message.clone()));
    same("limited", &limited, &recorded.limited, scenario)?;
    same(
        "current",
        &current(hpa, &decision),
        &recorded.current,
        scenario,
    )
}

fn same<T: PartialEq + std::fmt::Debug>(
    what: &str,
    got: &T,
    recorded: &T,
    scenario: &Scenario,
) -> Result<(), String> {
    if got == recorded {
        return Ok(());
    }
    Err(format!(
        "{scenario:?}: {what} {got:?}, recorded {recorded:?}"
    ))
}

/// `currentMetrics` as the record prints them.
fn current(hpa: &Hpa, decision: &Decision) -> String {
    let of = |(metric, proposal): (&Metric, &Result<crate::Proposal, _>)| {
        let Ok(proposal) = proposal else {
            return "(none)".to_owned();
        };
        let kind = match metric.source {
            Source::Pods { .. } => "Pods",
            Source::Object { .. } => "Object",
            Source::External { .. } => "External",
            Source::Resource => "Resource",
            Source::ContainerResource { .. } => "ContainerResource",
        };
        let current = proposal.current;
        let mut fields = Vec::new();
        if let Some(percent) = current.utilization {
            fields.push(format!("\"averageUtilization\": {percent}"));
        }
        if let Some(milli) = current.average_milli {
            fields.push(format!("\"averageValue\": \"{}\"", quantity(milli)));
        }
        if let Some(milli) = current.value_milli {
            fields.push(format!("\"value\": \"{}\"", quantity(milli)));
        }
        format!("{kind} {{{}}}", fields.join(", "))
    };
    let all = hpa.metrics.iter().zip(&decision.proposals).map(of);
    all.collect::<Vec<_>>().join(", ")
}

fn quantity(milli: i128) -> String {
    if milli % 1000 == 0 {
        Quantity::of_milli(milli).to_string()
    } else {
        format!("{milli}m")
    }
}

/// A share of what pods request is a target of resources only.
#[test]
fn targets_print_for_people() {
    let printed = [
        Target::Average(10_500),
        Target::Value(20_000),
        Target::Utilization(50),
    ]
    .map(|target| target.to_string());
    assert_eq!(
        printed,
        [
            "an average of 10.5 per pod",
            "20 in all",
            "50 % of what the pods request"
        ]
    );
}
