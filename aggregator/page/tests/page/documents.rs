//! Documents of a small cluster: jazz doubled its load 40 s ago and was scaled from 3 to 5.

use std::collections::BTreeMap;

use aggregator_page::address::Listing;
use aggregator_page::{
    Address, Depth, HpaDocuments, OverviewDocuments, Page, Range, View, WorkloadDocuments,
};
use aggregator_view::documents::*;
use serde::{Deserialize, Serialize};

/// 2026-11-30 14:02:31 UTC.
pub(crate) const NOW: u64 = 1_796_047_351_250;

/// One of each document, so that a test can walk through all of their texts.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Documents {
    pub(crate) namespaces: List<Group>,
    pub(crate) workloads: List<Group>,
    pub(crate) pods: List<Pod>,
    pub(crate) reads: List<Read>,
    pub(crate) timeline: Timeline,
    pub(crate) explanation: Explanation,
    pub(crate) health: Health,
}

impl Documents {
    pub(crate) fn new() -> Self {
        let mut workloads = List::new("WorkloadList", vec![jazz(), metal()]);
        workloads.metadata = more();
        let mut pods = List::new("PodList", pods());
        pods.metadata = more();
        let mut reads = List::new("ReadList", reads());
        reads.replicas = answers();
        Self {
            namespaces: List::new("NamespaceList", vec![namespace()]),
            workloads,
            pods,
            reads,
            timeline: timeline(),
            explanation: explanation(),
            health: health(),
        }
    }

    /// Every page, by a name for its file.
    pub(crate) fn pages(&self) -> Vec<(&'static str, Page)> {
        let pods = Address::new(None, View::Pods(second_page()));
        let explanation = Address::new(
            Some("prod"),
            View::Explanation {
                hpa: "jazz".to_owned(),
                at: NOW - 25_000,
            },
        );
        let system = Address::new(None, View::System);
        let refusal = &self.reads.items[1].message;
        vec![
            ("overview", self.overview(None)),
            ("namespace", self.overview(Some("prod"))),
            ("pods", aggregator_page::pods(&pods, NOW, &self.pods)),
            ("workload", self.workload()),
            ("hpa", self.hpa()),
            (
                "explanation",
                aggregator_page::explanation(&explanation, NOW, &self.explanation),
            ),
            (
                "system",
                aggregator_page::system(&system, NOW, &self.health),
            ),
            (
                "problem",
                aggregator_page::problem(Some("prod"), Depth::Below, NOW, refusal),
            ),
        ]
    }

    fn overview(&self, namespace: Option<&str>) -> Page {
        let documents = OverviewDocuments {
            namespaces: &self.namespaces,
            workloads: &self.workloads,
            health: namespace.is_none().then_some(&self.health),
        };
        let address = Address::new(namespace, View::Overview(second_page()));
        aggregator_page::overview(&address, NOW, &documents)
    }

    fn workload(&self) -> Page {
        let view = View::Workload {
            kind: "Deployment".to_owned(),
            name: "jazz-v1".to_owned(),
        };
        let documents = WorkloadDocuments {
            workload: &self.workloads.items[0],
            pods: &self.pods,
            timelines: std::slice::from_ref(&self.timeline),
            reads: &self.reads,
        };
        aggregator_page::workload(&Address::new(Some("prod"), view), NOW, &documents)
    }

    fn hpa(&self) -> Page {
        let view = View::Hpa {
            name: "jazz".to_owned(),
            range: Range::QuarterHour,
            before: None,
        };
        let documents = HpaDocuments {
            timeline: &self.timeline,
            state: self.workloads.items[0].hpas.first(),
        };
        aggregator_page::hpa(&Address::new(Some("prod"), view), NOW, &documents)
    }
}

fn second_page() -> Listing {
    Listing {
        continue_token: "abc".to_owned(),
        ..Listing::default()
    }
}

fn more() -> ListMeta {
    ListMeta {
        continue_token: "def".to_owned(),
        remaining_item_count: Some(4_800),
    }
}

fn answers() -> Vec<ReplicaAnswer> {
    vec![
        ReplicaAnswer {
            name: "meshmeter-0".to_owned(),
            error: String::new(),
            since_unix_ms: Some(NOW - 3_600_000),
        },
        ReplicaAnswer {
            name: "meshmeter-1".to_owned(),
            error: "no answer within 2 s".to_owned(),
            since_unix_ms: None,
        },
    ]
}

/// 20 requests/s until 40 s ago, then 40, by the index of the pod.
fn history(from: usize, factor: f64) -> Vec<Option<f64>> {
    let value = |index: usize| {
        let rate = if index < 40 { 20.0 } else { 40.0 };
        let wave = [0.0, 0.7, -0.4, 0.2][index % 4];
        (index >= from).then_some((rate + wave) * factor)
    };
    (0..60).map(value).collect()
}

fn rates(requests: f64) -> Rates {
    Rates {
        requests_per_second: Some(requests),
        attempts_per_second: Some(requests * 1.05),
        inflight: Some(requests * 0.04),
        error_ratio: Some(0.05),
        window_ms: Some(5_000),
        age_ms: Some(640),
    }
}

fn counts(counts: &[(&str, usize)]) -> BTreeMap<String, usize> {
    counts
        .iter()
        .map(|(state, count)| ((*state).to_owned(), *count))
        .collect()
}

fn hpa_state() -> HpaState {
    HpaState {
        name: "jazz".to_owned(),
        min_replicas: 1,
        max_replicas: 5,
        current_replicas: Some(3),
        desired_replicas: Some(5),
    }
}

fn jazz() -> Group {
    Group {
        group: GroupKind::Workload,
        kind: "Deployment".to_owned(),
        namespace: "prod".to_owned(),
        name: "jazz-v1".to_owned(),
        pods: counts(&[("held", 1), ("live", 2), ("new", 1)]),
        rates: rates(118.4),
        skew: Some(1.12),
        history: history(0, 3.0),
        hpas: vec![hpa_state()],
    }
}

fn metal() -> Group {
    Group {
        group: GroupKind::Workload,
        kind: "StatefulSet".to_owned(),
        namespace: "prod".to_owned(),
        name: "metal-v1".to_owned(),
        pods: counts(&[("unknown", 2)]),
        rates: Rates::default(),
        skew: None,
        history: Vec::new(),
        hpas: Vec::new(),
    }
}

fn namespace() -> Group {
    Group {
        group: GroupKind::Namespace,
        kind: "Namespace".to_owned(),
        namespace: String::new(),
        name: "prod".to_owned(),
        hpas: Vec::new(),
        ..jazz()
    }
}

fn pods() -> Vec<Pod> {
    let pod = |name: &str, state: &str, factor: f64| Pod {
        namespace: "prod".to_owned(),
        name: name.to_owned(),
        workload: Some(Workload {
            kind: "Deployment".to_owned(),
            name: "jazz-v1".to_owned(),
        }),
        labels: [("app".to_owned(), "jazz".to_owned())].into(),
        state: state.to_owned(),
        ready: Some(true),
        filter_version: "0.2.0".to_owned(),
        rates: rates(40.0 * factor),
        history: history(0, factor),
        ..Pod::default()
    };
    let mut held = pod("jazz-v1-6c9f4d7b58-mm2tz", "held", 0.9);
    held.rates.age_ms = Some(4_300);
    let mut new = pod("jazz-v1-6c9f4d7b58-qx8vd", "new", 1.0);
    "new".clone_into(&mut new.reason);
    "less than one second of its counts was seen".clone_into(&mut new.message);
    new.ready = Some(false);
    new.rates = Rates::default();
    new.history = history(58, 1.0);
    let mut lost = pod("metal-v1-0", "unknown", 1.0);
    lost.workload = None;
    "never_reported".clone_into(&mut lost.reason);
    lost.ready = None;
    lost.rates = Rates::default();
    lost.history = Vec::new();
    vec![
        pod("jazz-v1-6c9f4d7b58-2fkqp", "live", 1.06),
        pod("jazz-v1-6c9f4d7b58-8wz5c", "live", 1.0),
        held,
        new,
        lost,
    ]
}

fn read(back_ms: u64, sum: Option<u64>) -> Read {
    Read {
        at_unix_ms: NOW - back_ms,
        replica: "meshmeter-0".to_owned(),
        user: "system:serviceaccount:kube-system:horizontal-pod-autoscaler".to_owned(),
        user_agent: "kube-controller-manager/v1.36.2".to_owned(),
        hpa: "jazz".to_owned(),
        metric: "appmesh_requests_per_second".to_owned(),
        object: "pods".to_owned(),
        selector: "app=jazz".to_owned(),
        metric_selector: "window=5s".to_owned(),
        code: if sum.is_some() { 200 } else { 503 },
        sum_milli: sum,
        pods: if sum.is_some() { 3 } else { 0 },
        age_ms: 740,
        window_ms: 5_000,
        left_out: [("new".to_owned(), 1)].into(),
        message: match sum {
            Some(_) => String::new(),
            None => "no pod of prod that matches app=jazz has a value: 4 are new".to_owned(),
        },
        computed_replicas: sum.map(|_| 5),
        ..Read::default()
    }
}

fn reads() -> Vec<Read> {
    let mut unknown_reader = read(50_000, Some(60_000));
    unknown_reader.hpa = String::new();
    vec![
        read(100_000, Some(60_300)),
        read(85_000, None),
        read(70_000, Some(59_700)),
        unknown_reader,
        read(40_000, Some(60_100)),
        read(25_000, Some(118_350)),
        read(10_000, Some(119_002)),
    ]
}

fn timeline() -> Timeline {
    Timeline {
        kind: "Timeline".to_owned(),
        api_version: "view.meshmeter.io/v1".to_owned(),
        namespace: "prod".to_owned(),
        hpa: "jazz".to_owned(),
        target: "Deployment/jazz-v1".to_owned(),
        min_replicas: 1,
        max_replicas: 5,
        target_milli: Some(20_000),
        entries: entries(),
        reactions: vec![Reaction {
            step_unix_ms: NOW - 40_000,
            from_replicas: 3,
            to_replicas: 5,
            read_ms: Some(15_000),
            decision_ms: Some(15_100),
            ready_ms: None,
        }],
        replicas: answers(),
    }
}

fn entries() -> Vec<Entry> {
    use EntryKind::{Condition, Decision, Read, Ready, Refusal};
    let inactive = "ScalingActive: False FailedGetPodsMetric";
    [
        (600_000, Ready, "3 pods are ready", None, Some(3)),
        (600_000, Decision, "wants 3 replicas", None, Some(3)),
        (100_000, Read, "60.3 of 3 pods", Some(60_300), Some(3)),
        (85_000, Refusal, "503: no pod has a value", None, None),
        (84_000, Condition, inactive, None, None),
        (70_000, Read, "59.7 of 3 pods", Some(59_700), Some(3)),
        (40_000, Read, "60.1 of 3 pods", Some(60_100), Some(3)),
        (25_000, Read, "118.35 of 3 pods", Some(118_350), Some(3)),
        (24_900, Decision, "wants 5 replicas", None, Some(5)),
        (12_000, Ready, "5 pods are ready", None, Some(5)),
        (10_000, Read, "119.002 of 3 pods", Some(119_002), Some(3)),
    ]
    .map(|(back_ms, kind, text, sum_milli, count)| Entry {
        at_unix_ms: NOW - back_ms,
        kind,
        text: text.to_owned(),
        sum_milli,
        count,
    })
    .into()
}

fn explanation() -> Explanation {
    Explanation {
        kind: "Explanation".to_owned(),
        api_version: "view.meshmeter.io/v1".to_owned(),
        namespace: "prod".to_owned(),
        hpa: "jazz".to_owned(),
        at_unix_ms: NOW - 25_000,
        target: "Deployment/jazz-v1".to_owned(),
        min_replicas: 1,
        max_replicas: 5,
        current_replicas: Some(3),
        derived_replicas: Some(5),
        observed_replicas: Some(5),
        metrics: metrics(),
        limits: vec![step("at most maxReplicas, 5", Some(5))],
        would_change: vec!["Below 53.3 requests/s in all it goes to 2.".to_owned()],
        unknown: vec!["What resource cpu read: another server answers it.".to_owned()],
        sentences: vec![
            "jazz read 118.35 requests/s from 3 pods, the oldest value 0.7 s old.".to_owned(),
            "That is 39.45 per pod, 1.97 times its target of 20, so it wanted 6 replicas."
                .to_owned(),
            "Its maximum made 5 of it.".to_owned(),
        ],
        change: Some(Change {
            at_unix_ms: NOW - 24_900,
            hpa: "jazz".to_owned(),
            current_replicas: 3,
            desired_replicas: 5,
            ready_pods: Some(3),
            conditions: [(
                "ScalingLimited".to_owned(),
                "True TooManyReplicas: x".to_owned(),
            )]
            .into(),
        }),
        replicas: answers(),
    }
}

fn metrics() -> Vec<MetricExplanation> {
    let pod = |name: &str, value_milli, state: &str| PodRead {
        name: name.to_owned(),
        value_milli,
        window_ms: 5_000,
        age_ms: 740,
        state: state.to_owned(),
        pending: false,
    };
    let mut with_pods = read(25_000, Some(118_350));
    with_pods.each = Some(vec![
        pod("jazz-v1-6c9f4d7b58-2fkqp", Some(42_410), "live"),
        pod("jazz-v1-6c9f4d7b58-8wz5c", Some(39_940), "live"),
        pod("jazz-v1-6c9f4d7b58-mm2tz", Some(36_000), "held"),
        PodRead {
            pending: true,
            ..pod("jazz-v1-6c9f4d7b58-qx8vd", None, "new")
        },
    ]);
    vec![
        MetricExplanation {
            metric: "pods metric appmesh_requests_per_second".to_owned(),
            target: "an average of 20 per pod".to_owned(),
            ours: true,
            read: Some(with_pods),
            proposed_replicas: Some(6),
            steps: vec![
                step(
                    "118.35 of 3 pods are 39.45 per pod, 1.97 times the target of 20",
                    None,
                ),
                step("3 pods times 1.97 are 5.92, rounded up", Some(6)),
            ],
        },
        MetricExplanation {
            metric: "resource cpu".to_owned(),
            target: "an average of 80 %".to_owned(),
            ours: false,
            ..MetricExplanation::default()
        },
    ]
}

fn step(text: &str, replicas: Option<u32>) -> Step {
    Step {
        text: text.to_owned(),
        replicas,
    }
}

fn health() -> Health {
    let replica = Replica {
        name: "meshmeter-0".to_owned(),
        version: "0.2.0".to_owned(),
        not_ready: vec!["settled: 2 pods have not reported".to_owned()],
        at_unix_ms: NOW - 20,
        pods: counts(&[("live", 4), ("held", 1)]),
        streams: 5,
        requests_per_second: Some(118.4),
        refused: [
            ("ingest: identity".to_owned(), 12),
            ("api: query".to_owned(), 1),
        ]
        .into(),
        certificates: vec![Certificate {
            listener: "api".to_owned(),
            not_after_unix_ms: NOW + 3 * 86_400_000,
        }],
        remote_write: Some(RemoteWrite {
            writing: true,
            lag_ms: Some(1_200),
            sent: 123_456,
            dropped: [("too_old".to_owned(), 7)].into(),
            last_error: "503 from the receiver".to_owned(),
        }),
        ledger_bytes: 3 << 20,
        ledger_bytes_max: 16 << 20,
        ..Replica::default()
    };
    let silent = Replica {
        name: "meshmeter-1".to_owned(),
        error: "no answer within 2 s".to_owned(),
        ..Replica::default()
    };
    let version = |version: &str, state: &str, pods| SidecarVersion {
        version: version.to_owned(),
        state: state.to_owned(),
        pods,
    };
    Health {
        kind: "Health".to_owned(),
        api_version: "view.meshmeter.io/v1".to_owned(),
        at_unix_ms: NOW,
        replicas: vec![replica, silent],
        uncounted: vec![Uncounted {
            namespace: "prod".to_owned(),
            workload: "StatefulSet/metal-v1".to_owned(),
            reason: "no_sidecar".to_owned(),
            message: "the pod has no container with an Envoy".to_owned(),
            pods: 2,
            example: "metal-v1-0".to_owned(),
        }],
        sidecars: vec![
            version("0.2.0", "live", 4),
            version("0.2.0", "held", 1),
            version("0.1.0", "live", 1),
        ],
    }
}
