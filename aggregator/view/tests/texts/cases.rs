//! What no recording has an example of: stabilisation, pods left out, other servers' metrics,
//! shortened reads, lost replicas.

use std::collections::BTreeMap;

use aggregator_view::documents::{Change, PodRead, Read, ReplicaAnswer};
use autoscaler::{Behavior, Hpa, Metric, Source, Target, TargetRef};

use crate::recorded::{Case, START};

type Named = (&'static str, &'static str, Case);

pub(crate) fn all() -> Vec<Named> {
    vec![
        stabilised(),
        pods_left_out(),
        others_metric(),
        others_alone(),
        shortened(),
        differs(),
        zero(),
        too_many(),
        other_spec(),
        before(),
        several_replicas(),
    ]
}

fn hpa(min: u32, max: u32, metrics: Vec<Metric>) -> Hpa {
    Hpa {
        namespace: "prod".to_owned(),
        name: "jazz".to_owned(),
        target: TargetRef {
            api_version: "apps/v1".to_owned(),
            kind: "Deployment".to_owned(),
            name: "jazz-v1".to_owned(),
        },
        behavior: Some(Behavior::default()),
        ..Hpa::new(min, max, metrics)
    }
}

fn rps() -> Metric {
    Metric::pods("appmesh_requests_per_second", 10_000)
}

fn case(hpa: Hpa, ours: &[bool]) -> Case {
    Case {
        hpa,
        ours: ours.to_vec(),
        reads: Vec::new(),
        changes: Vec::new(),
        replicas: vec![ReplicaAnswer {
            name: "meshmeter-0".to_owned(),
            error: String::new(),
            since_unix_ms: Some(START - 3_600_000),
        }],
        syncs: Vec::new(),
    }
}

/// Pods as `NAME=VALUE`, `NAME=` for one without a value, `NAME~VALUE` for a held one, with `!` for
/// Pending.
fn read(seconds: u64, pods: &[&str]) -> Read {
    let each: Vec<PodRead> = pods.iter().map(|text| pod(text)).collect();
    let values = each.iter().filter_map(|pod| pod.value_milli);
    let mut left_out = BTreeMap::new();
    for pod in each.iter().filter(|pod| pod.value_milli.is_none()) {
        *left_out.entry(pod.state.clone()).or_default() += 1;
    }
    Read {
        at_unix_ms: START + seconds * 1000,
        replica: "meshmeter-0".to_owned(),
        hpa: "jazz".to_owned(),
        metric: "appmesh_requests_per_second".to_owned(),
        object: "pods".to_owned(),
        code: 200,
        sum_milli: Some(values.clone().sum()),
        pods: u32::try_from(values.count()).unwrap(),
        age_ms: each.iter().map(|pod| pod.age_ms).max().unwrap_or_default(),
        window_ms: 5000,
        left_out,
        each: Some(each),
        ..Read::default()
    }
}

fn pod(text: &str) -> PodRead {
    let pending = text.ends_with('!');
    let text = text.trim_end_matches('!');
    let held = text.contains('~');
    let (name, value) = text.split_once(['=', '~']).unwrap();
    let value: Option<u64> = value.parse().ok();
    let state = match (value, held) {
        (None, _) if name.ends_with('g') => "gone",
        (None, _) => "never_reported",
        (Some(_), true) => "held",
        (Some(_), false) => "live",
    };
    PodRead {
        name: name.to_owned(),
        value_milli: value.map(|value| value * 1000),
        window_ms: 5000,
        age_ms: if held { 7000 } else { 800 },
        state: state.to_owned(),
        pending,
    }
}

fn change(seconds: u64, current: u32, desired: u32, ready: u32) -> Change {
    Change {
        at_unix_ms: START + seconds * 1000 + 100,
        hpa: "jazz".to_owned(),
        current_replicas: current,
        desired_replicas: desired,
        ready_pods: Some(ready),
        conditions: BTreeMap::from([(
            "ScalingActive".to_owned(),
            "True ValidMetricFound: the HPA was able to successfully calculate a replica count from pods metric appmesh_requests_per_second".to_owned(),
        )]),
    }
}

/// Up at once, down after five minutes.
fn stabilised() -> Named {
    let mut case = case(hpa(2, 10, vec![rps()]), &[true]);
    case.changes.push(change(0, 2, 2, 2));
    case.reads.push(read(0, &["a=10", "b=10"]));
    case.reads.push(read(15, &["a=20", "b=20"]));
    case.changes.push(change(15, 2, 4, 2));
    case.reads.push(read(30, &["a=10", "b=10", "c=10", "d=10"]));
    case.changes.push(change(30, 4, 4, 4));
    for sync in 3..23 {
        case.reads
            .push(read(sync * 15, &["a=5", "b=5", "c=5", "d=5"]));
    }
    case.changes.push(change(330, 4, 2, 4));
    case.reads.push(read(345, &["a=9", "b=10"]));
    case.changes.push(change(345, 2, 2, 2));
    case.syncs = [15, 45, 315, 330]
        .map(|seconds| START + seconds * 1000)
        .to_vec();
    (
        "stabilised",
        "Down only once nothing more was wanted for five minutes",
        case,
    )
}

/// Missing, held and Pending pods on the way up and down.
fn pods_left_out() -> Named {
    let mut case = case(hpa(1, 20, vec![rps()]), &[true]);
    case.changes.push(change(0, 6, 8, 4));
    case.reads
        .push(read(0, &["a=30", "b=25", "c~25", "d=", "eg=", "f=!"]));
    case.changes.push(change(15, 8, 8, 4));
    case.reads.push(read(
        15,
        &["a=40", "b=", "c=", "d=", "e=", "f=", "g=", "h="],
    ));
    case.syncs = vec![START, START + 15_000];
    ("left-out", "Pods without a value make it do less", case)
}

fn cpu() -> Metric {
    Metric {
        source: Source::Resource,
        name: "cpu".to_owned(),
        target: Target::Utilization(80),
    }
}

/// A metric of metrics-server beside ours.
fn others_metric() -> Named {
    let mut case = case(hpa(2, 10, vec![rps(), cpu()]), &[true, false]);
    case.reads.push(read(0, &["a=10", "b=10"]));
    case.changes.push(change(0, 2, 3, 2));
    case.reads.push(read(15, &["a=20", "b=20", "c=20"]));
    case.changes.push(change(15, 3, 6, 3));
    case.syncs = vec![START, START + 15_000];
    (
        "others-metric",
        "Another server answers the second metric",
        case,
    )
}

/// No metric is ours.
fn others_alone() -> Named {
    let mut case = case(hpa(2, 10, vec![cpu()]), &[false]);
    case.changes.push(change(0, 2, 3, 2));
    case.syncs = vec![START + 1000];
    ("others-alone", "Another server answers all of it", case)
}

/// Only sums are left of old reads.
fn shortened() -> Named {
    let mut case = case(hpa(2, 10, vec![rps()]), &[true]);
    let mut old = read(0, &["a=25", "b=25", "c="]);
    old.each = None;
    case.reads.push(old);
    case.changes.push(change(0, 3, 5, 2));
    case.syncs = vec![START];
    ("shortened", "Of an old read only the sums are left", case)
}

/// The status says otherwise.
fn differs() -> Named {
    let mut case = case(hpa(2, 10, vec![rps()]), &[true]);
    case.reads.push(read(0, &["a=20", "b=20"]));
    case.changes.push(change(0, 2, 3, 2));
    case.syncs = vec![START];
    (
        "differs",
        "The status says otherwise than the arithmetic",
        case,
    )
}

/// To zero, and what somebody else set to zero.
fn zero() -> Named {
    let mut case = case(hpa(2, 10, vec![rps()]), &[true]);
    case.reads.push(read(0, &["a=10", "b=10"]));
    case.changes.push(change(0, 2, 2, 2));
    case.changes.push(change(15, 0, 0, 0));
    case.syncs = vec![START + 20_000];
    ("zero", "Somebody scaled it to zero", case)
}

/// More replicas than the maximum.
fn too_many() -> Named {
    let mut case = case(hpa(2, 10, vec![rps()]), &[true]);
    case.changes.push(change(15, 14, 10, 14));
    case.syncs = vec![START + 20_000];
    ("too-many", "Somebody scaled it beyond maxReplicas", case)
}

/// A read that an HPA with this spec would not have made.
fn other_spec() -> Named {
    let mut case = case(hpa(2, 4, vec![rps()]), &[true]);
    case.reads
        .push(read(0, &["a=2", "b=2", "c=2", "d=2", "e=2"]));
    case.changes.push(change(0, 5, 2, 5));
    case.syncs = vec![START];
    (
        "other-spec",
        "maxReplicas was lowered after the scaling",
        case,
    )
}

/// Asked for a time before the ledger.
fn before() -> Named {
    let mut case = case(hpa(2, 10, vec![rps()]), &[true]);
    case.reads.push(read(0, &["a=10", "b=10"]));
    case.syncs = vec![START - 4_000_000];
    (
        "before",
        "A time that the ledger does not reach back to",
        case,
    )
}

/// A replica that did not answer, and a young ledger.
fn several_replicas() -> Named {
    let mut case = case(hpa(2, 10, vec![rps()]), &[true]);
    case.replicas = vec![
        ReplicaAnswer {
            name: "meshmeter-0".to_owned(),
            error: String::new(),
            since_unix_ms: Some(START),
        },
        ReplicaAnswer {
            name: "meshmeter-1".to_owned(),
            error: "no connection within 2 s".to_owned(),
            since_unix_ms: None,
        },
    ];
    case.reads.push(read(0, &["a=10", "b=10", "c=10", "d=10"]));
    case.changes.push(change(0, 4, 4, 4));
    case.reads.push(read(60, &["a=5", "b=5", "c=5", "d=5"]));
    // Both replicas saw it.
    case.changes.push(change(60, 4, 4, 3));
    case.changes.push(change(61, 4, 4, 3));
    case.syncs = vec![START + 60_000];
    (
        "several-replicas",
        "One replica does not answer, the other is young",
        case,
    )
}
