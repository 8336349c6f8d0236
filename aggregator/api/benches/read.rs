//! What a read of all pods of a workload takes, with everything that is recorded of it: time and
//! allocations.
//!
//! `cargo bench -p aggregator-api`. Compare runs of one machine only.

#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use std::alloc::System;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aggregator_api::{Api, Observations, Reader};
use aggregator_core::limits::StoreLimits;
use aggregator_core::pod::{Owner, Phase, PodInfo, PodKey};
use aggregator_core::report::{
    CounterScope, Hello, InstanceId, ProcessId, Report, SeriesTotals, StreamId,
};
use aggregator_core::series::{Direction, SeriesKey};
use aggregator_core::store::Store;
use aggregator_directory::{Directory, ObjectKey, OwnerInfo, read_autoscaler};
use aggregator_ledger::Ledger;
use aggregator_ledger::limits::{AUTOSCALERS, bytes_for};
use common_time::{Clock, Monotonic, UnixMillis};
use criterion::{Criterion, criterion_group, criterion_main};
use http::Request;
use http::header::USER_AGENT;
use http::request::Parts;
use prometheus_client::registry::Registry;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const BEGIN: u64 = 1_764_500_000_000;
/// Seconds that the sidecars have reported for.
const SECONDS: u64 = 30;
/// Reads whose allocations are counted.
const COUNTED: usize = 1_000;

fn owner(kind: &str, name: &str) -> Owner {
    Owner {
        group: "apps".into(),
        kind: kind.into(),
        name: name.into(),
        uid: "u".into(),
    }
}

/// `pods` pods of Deployment jazz, which report, and their HPA.
fn api(pods: u64) -> Api {
    let store = Arc::new(Store::new(StoreLimits::default()));
    let directory = Arc::new(Directory::default());
    for (kind, name, above) in [
        ("Deployment", "jazz", None),
        ("ReplicaSet", "jazz-1", Some(owner("Deployment", "jazz"))),
    ] {
        let object = ObjectKey::new("prod", "apps", kind, name);
        let info = OwnerInfo {
            object,
            uid: "u".into(),
            owner: above,
        };
        directory.upsert_owner(info).unwrap();
    }
    for pod in 0..pods {
        let key = PodKey::new("prod", &format!("jazz-1-{pod:05}"));
        let labels = [("app".to_owned(), "jazz".to_owned())];
        let info = PodInfo {
            owner: Some(owner("ReplicaSet", "jazz-1")),
            phase: Phase::Running,
            ..PodInfo::new(key.clone(), "u".into(), labels.into())
        };
        directory.upsert(info).unwrap();
        report(&store, key, pod);
    }
    let target = serde_json::json!({"type": "AverageValue", "averageValue": "20"});
    let metric = serde_json::json!({"name": "appmesh_requests_per_second"});
    let hpa = serde_json::json!({
        "metadata": {"namespace": "prod", "name": "jazz"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "jazz"},
            "maxReplicas": 100,
            "metrics": [{"type": "Pods", "pods": {"metric": metric, "target": target}}],
        },
        "status": {"currentReplicas": pods, "desiredReplicas": pods},
    });
    directory
        .upsert_autoscaler(read_autoscaler(&hpa).unwrap())
        .unwrap();
    let end = Monotonic(BEGIN + SECONDS * 1000);
    let reads = Arc::new(AtomicU64::new(0));
    Api::new(
        store,
        directory,
        // Values stay as they are, while the autoscaler reads them each 15 s.
        Clock::new(
            move || end,
            move || UnixMillis(BEGIN + reads.fetch_add(15_000, Ordering::Relaxed)),
        ),
        Arc::new(Vec::new),
        Observations::register(&mut Registry::default()),
        Arc::new(Ledger::new(bytes_for(AUTOSCALERS))),
    )
}

fn report(store: &Store, pod: PodKey, number: u64) {
    let hello = Hello {
        pod,
        uid: "u".into(),
        node: "node".into(),
        labels: std::collections::BTreeMap::default(),
        instance: InstanceId(number + 1),
        process: ProcessId(number + 1),
        scope: CounterScope::Process,
        started_at: UnixMillis(BEGIN),
        clock: UnixMillis(BEGIN),
        hot_restart: false,
    };
    let connected = store.connect(Monotonic(BEGIN), StreamId(number + 1), &hello);
    let link = connected.unwrap().link;
    for second in 1..=SECONDS {
        let totals = SeriesTotals {
            requests: Some(second * (20 + number)),
            ..SeriesTotals::default()
        };
        let inbound = SeriesKey {
            direction: Direction::Inbound,
            cluster: "".into(),
        };
        let report = Report {
            seq: second,
            interval_end: UnixMillis(BEGIN + second * 1000),
            interval: Duration::from_secs(1),
            series: vec![(inbound, totals)],
            vms_expected: 1,
            vms_live: 1,
            next_report_within: Duration::from_secs(1),
            snapshot: second == 1,
            is_final: false,
        };
        let now = Monotonic(BEGIN + second * 1000);
        store.apply(now, &link, &report).unwrap();
    }
}

fn request() -> Parts {
    let path = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/prod/pods/*/appmesh_requests_per_second?labelSelector=app%3Djazz";
    let request = Request::get(path).header(USER_AGENT, "kube-controller-manager/v1.36.2");
    let mut request = request.body(()).unwrap();
    let user = "system:serviceaccount:kube-system:horizontal-pod-autoscaler";
    request.extensions_mut().insert(Reader(user.to_owned()));
    request.into_parts().0
}

#[expect(clippy::print_stdout, reason = "what criterion does not count")]
fn reads(c: &mut Criterion) {
    for pods in [10, 50, 500] {
        let (api, request) = (api(pods), request());
        assert!(api.respond(&request, false).status().is_success());
        let before = ALLOCATOR.stats().allocations;
        for _ in 0..COUNTED {
            black_box(api.respond(black_box(&request), false));
        }
        let allocations = ALLOCATOR.stats().allocations - before;
        println!("{pods} pods: {} allocations a read", allocations / COUNTED);
        c.bench_function(&format!("read of {pods} pods"), |b| {
            b.iter(|| api.respond(black_box(&request), false));
        });
    }
}

criterion_group!(benches, reads);
criterion_main!(benches);
