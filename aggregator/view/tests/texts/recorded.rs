//! The recorded scenarios as a ledger would have them.

use std::collections::BTreeMap;

use aggregator_view::documents::{Change, PodRead, Read, ReplicaAnswer};
use autoscaler::testing::{Recorded, Scenario, names};
use autoscaler::{Answer, Hpa, Metric, Source, Values};

/// 2026-11-30 14:00:00 UTC, and the time between a sync and its change of the status.
pub(crate) const START: u64 = 1_796_047_200_000;
const LATENCY: u64 = 50;

const NO_VALUE: &str =
    "none of the pods matching app=llm in namespace demo has a value of queue_depth";

/// What is known of one scenario.
pub(crate) struct Case {
    pub(crate) hpa: Hpa,
    pub(crate) ours: Vec<bool>,
    pub(crate) reads: Vec<Read>,
    pub(crate) changes: Vec<Change>,
    pub(crate) replicas: Vec<ReplicaAnswer>,
    /// Times of its syncs.
    pub(crate) syncs: Vec<u64>,
}

/// Syncs where the replicas changed, and one after the end. The change of the
/// status that each led to is the recorded one.
pub(crate) fn case(scenario: &Scenario) -> Case {
    let Recorded { replicas, .. } = &scenario.recorded;
    let mut case = Case {
        hpa: scenario.hpa.clone(),
        ours: scenario.hpa.metrics.iter().map(is_ours).collect(),
        reads: Vec::new(),
        changes: Vec::new(),
        replicas: vec![ReplicaAnswer {
            name: "meshmeter-0".to_owned(),
            error: String::new(),
            since_unix_ms: Some(START - 3_600_000),
        }],
        syncs: Vec::new(),
    };
    let (mut here, mut ready) = (0, 0);
    for &(tenths, now_ready, wanted) in replicas {
        let at = START + u64::from(tenths) * 100;
        if here == 0 {
            // The first line is the state at the start, before any sync.
            here = wanted;
            change(scenario, &mut case, at, here, (now_ready, wanted));
            case.changes[0].conditions.clear();
        } else if wanted != here {
            sync(scenario, &mut case, at, here, (now_ready, wanted));
            here = wanted;
        } else if now_ready != ready {
            // The status stays as it is until the next sync.
            let mut own = case.changes[case.changes.len() - 1].clone();
            (own.at_unix_ms, own.ready_pods) = (at, Some(now_ready));
            case.changes.push(own);
        }
        ready = now_ready;
    }
    let end = replicas.last().map_or(0, |last| u64::from(last.0) * 100);
    let end = START + (end / 1000 + 2) * 1000 + 100;
    let desired = match scenario.recorded.active {
        (true, ..) => scenario.recorded.desired,
        _ => here,
    };
    sync(scenario, &mut case, end, here, (ready, desired));
    case
}

fn is_ours(metric: &Metric) -> bool {
    !matches!(
        metric.source,
        Source::Resource | Source::ContainerResource { .. }
    )
}

/// Reads before the change of the status at `at`.
fn sync(scenario: &Scenario, case: &mut Case, at: u64, here: u32, after: (u32, u32)) {
    let time = at - LATENCY;
    let answers = (scenario.answers)(here);
    for (index, (metric, answer)) in scenario.hpa.metrics.iter().zip(&answers).enumerate() {
        if case.ours[index] && is_asked(answer) {
            case.reads.push(read(metric, answer, here, time));
        }
    }
    // Without a read there is only the status, after it.
    let was_read = case
        .reads
        .last()
        .is_some_and(|read| read.at_unix_ms == time);
    case.syncs.push(if was_read { time } else { at + LATENCY });
    change(scenario, case, at, here, after);
}

/// What fails in the controller is never asked for.
fn is_asked(answer: &Answer) -> bool {
    !matches!(answer, Err(message) if message.contains("Invalid value") || message.contains("unable to map"))
}

fn change(scenario: &Scenario, case: &mut Case, at: u64, here: u32, (ready, wanted): (u32, u32)) {
    let (is_active, reason, message) = &scenario.recorded.active;
    let status = if *is_active { "True" } else { "False" };
    let mut conditions = BTreeMap::from([(
        "ScalingActive".to_owned(),
        format!("{status} {reason}: {message}"),
    )]);
    if let Some((reason, message)) = &scenario.recorded.limited
        && wanted == scenario.hpa.max.min(scenario.recorded.desired)
    {
        conditions.insert(
            "ScalingLimited".to_owned(),
            format!("True {reason}: {message}"),
        );
    }
    case.changes.push(Change {
        at_unix_ms: at,
        hpa: scenario.hpa.name.clone(),
        current_replicas: here,
        desired_replicas: wanted,
        ready_pods: Some(ready),
        conditions,
    });
}

fn read(metric: &Metric, answer: &Answer, here: u32, at: u64) -> Read {
    let mut read = Read {
        at_unix_ms: at,
        replica: "meshmeter-0".to_owned(),
        user: "system:serviceaccount:kube-system:horizontal-pod-autoscaler".to_owned(),
        hpa: "llm".to_owned(),
        metric: metric.name.clone(),
        object: object(metric),
        metric_selector: metric.selector(),
        code: 200,
        age_ms: 1200,
        window_ms: 10_000,
        ..Read::default()
    };
    if read.object == "external" {
        // It has one selector.
        read.selector = std::mem::take(&mut read.metric_selector);
    }
    let unsigned = |milli: i128| u64::try_from(milli).unwrap();
    match answer {
        Err(message) => {
            read.code = if message.contains("could not find") {
                404
            } else {
                503
            };
            read.message.clone_from(message);
            (read.age_ms, read.window_ms) = (0, 0);
        }
        Ok(Values::Counted(_)) => unreachable!("scenarios name their pods"),
        Ok(Values::Total(total)) => {
            read.sum_milli = Some(unsigned(*total));
            read.pods = here;
        }
        Ok(Values::PerPod(values) | Values::Usage { values, .. }) if values.is_empty() => {
            read.code = 404;
            NO_VALUE.clone_into(&mut read.message);
        }
        Ok(Values::PerPod(values) | Values::Usage { values, .. }) => {
            read.sum_milli = Some(unsigned(values.values().sum()));
            read.pods = u32::try_from(values.len()).unwrap();
            let each = names(here).map(|name| {
                let value = values.get(&name).map(|milli| unsigned(*milli));
                let state = if value.is_some() {
                    "live"
                } else {
                    "never_reported"
                };
                PodRead {
                    name,
                    value_milli: value,
                    window_ms: 10_000,
                    age_ms: 1200,
                    state: state.to_owned(),
                    pending: false,
                }
            });
            read.each = Some(each.collect());
            if here > read.pods {
                read.left_out
                    .insert("never_reported".to_owned(), here - read.pods);
            }
        }
    }
    read
}

fn object(metric: &Metric) -> String {
    match &metric.source {
        Source::Pods { .. } => "pods".to_owned(),
        Source::External { .. } => "external".to_owned(),
        Source::Object { kind, name, .. } => match kind.as_str() {
            "Namespace" => "namespace".to_owned(),
            "Deployment" => format!("deployments.apps/{name}"),
            "Ingress" => format!("ingresses.networking.k8s.io/{name}"),
            _ => format!("services/{name}"),
        },
        Source::Resource | Source::ContainerResource { .. } => String::new(),
    }
}
