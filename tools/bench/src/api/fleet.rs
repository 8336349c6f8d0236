//! Pods with sidecars that all report, and the API over them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aggregator_api::{Api, Observations};
use aggregator_core::limits::StoreLimits;
use aggregator_core::pod::{Labels, Owner, Phase, PodInfo, PodKey};
use aggregator_core::report::{
    CounterScope, Hello, InstanceId, ProcessId, Report, ResponseCode, SeriesTotals, StreamId,
};
use aggregator_core::series::{Direction, SeriesKey};
use aggregator_core::store::{Link, Store};
use aggregator_directory::{Directory, ObjectKey, OwnerInfo};
use aggregator_ledger::Ledger;
use aggregator_ledger::limits::{AUTOSCALERS, bytes_for};
use anyhow::{Context, Result};
use common_time::{Clock, Monotonic, UnixMillis};
use prometheus_client::registry::Registry;
use tests_support::clock;

use super::workloads::{self, WORKLOADS, Workloads};
use crate::usage;

/// How long the sidecars have reported when the measurement begins: the longest window.
const PAST: Duration = Duration::from_mins(1);

const START: Monotonic = Monotonic(1_800_000_000_000);

/// Requests a second of each pod.
const RATE: u64 = 10;

/// Pods with sidecars that all report.
#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) api: Api,
    /// Resident memory that the directory took, per pod, in bytes.
    pub(super) directory_bytes_per_pod: u64,
    /// Resident memory that the store took with a minute of reports, per pod, in bytes.
    pub(super) store_bytes_per_pod: u64,
    pub(super) workloads: Workloads,
    store: Arc<Store>,
    links: Vec<Link>,
    /// Time between two reports of a pod.
    interval: Duration,
    now: Arc<Now>,
    reported: AtomicU64,
}

/// A clock that is stopped while past reports are applied, and then runs.
#[derive(Debug)]
struct Now {
    /// Milliseconds since [`START`] that were skipped.
    skipped: AtomicU64,
    begun: Instant,
}

// === impl Fleet ===

impl Fleet {
    /// `pods` pods whose reports come at `rate` a second together; with `own_labels` no two have
    /// the same labels.
    pub(super) fn new(pods: usize, own_labels: bool, rate: u32) -> Result<Self> {
        let directory = Arc::new(Directory::default());
        let before = resident()?;
        let workloads = Workloads { pods };
        fill(&directory, workloads, own_labels)?;
        let with_directory = resident()?;
        let store = Arc::new(Store::new(StoreLimits::default()));
        let now = Arc::new(Now {
            skipped: AtomicU64::new(0),
            begun: clock::now(),
        });
        let links = (0..pods).map(|pod| connect(&store, workloads, pod));
        let links = links.collect::<Result<Vec<_>>>()?;
        let api = {
            let (now, wall) = (Arc::clone(&now), Arc::clone(&now));
            Api::new(
                Arc::clone(&store),
                directory,
                Clock::new(move || now.read(), move || UnixMillis(wall.read().0)),
                Arc::new(Vec::new),
                Observations::register(&mut Registry::default()),
                Arc::new(Ledger::new(bytes_for(AUTOSCALERS))),
            )
        };
        let per_pod = |bytes: u64| bytes / (pods as u64).max(1);
        let mut fleet = Self {
            api,
            directory_bytes_per_pod: per_pod(with_directory.saturating_sub(before)),
            store_bytes_per_pod: 0,
            workloads,
            store,
            links,
            interval: Duration::from_secs(1) * u32::try_from(pods)? / rate,
            now,
            reported: AtomicU64::new(0),
        };
        fleet.tell_the_past(rate)?;
        fleet.store_bytes_per_pod = per_pod(resident()?.saturating_sub(with_directory));
        Ok(fleet)
    }

    /// The next pod in turn reports what it counted until now; true if that was taken.
    pub(super) fn report_next(&self) -> bool {
        self.report_at(self.now.read())
    }

    fn report_at(&self, now: Monotonic) -> bool {
        let number = self.reported.fetch_add(1, Ordering::Relaxed);
        let pods = self.links.len() as u64;
        let Ok(pod) = usize::try_from(number % pods) else {
            return false;
        };
        let report = report(number / pods + 1, now, self.interval);
        self.store.apply(now, &self.links[pod], &report).is_ok()
    }

    /// Lets the clock run over [`PAST`] at once, with all reports that fall into it.
    fn tell_the_past(&self, rate: u32) -> Result<()> {
        let past = u64::try_from(PAST.as_millis())?;
        let reports = past * u64::from(rate) / 1000;
        for number in 0..reports {
            let at = number * past / reports;
            anyhow::ensure!(
                self.report_at(START + Duration::from_millis(at)),
                "a report of the past was refused"
            );
        }
        let running = u64::try_from(self.now.begun.elapsed().as_millis())?;
        // From here on the clock is the past and the time since.
        self.now
            .skipped
            .store(past.saturating_sub(running), Ordering::Relaxed);
        Ok(())
    }
}

// === impl Now ===

impl Now {
    fn read(&self) -> Monotonic {
        let skipped = Duration::from_millis(self.skipped.load(Ordering::Relaxed));
        START + skipped + self.begun.elapsed()
    }
}

/// Pods as a watch delivers them, with the usual labels.
fn fill(directory: &Directory, workloads: Workloads, own_labels: bool) -> Result<()> {
    for number in 0..WORKLOADS {
        let app = workloads::name(number);
        let set = format!("{app}-7d9c8b6f5");
        directory.upsert_owner(OwnerInfo {
            object: ObjectKey::new("prod", "apps", "ReplicaSet", &set),
            uid: uid(2, number).into(),
            owner: Some(owner("Deployment", &app, &uid(1, number))),
        })?;
    }
    for pod in 0..workloads.pods {
        let number = workloads.of_pod(pod);
        let app = workloads::name(number);
        let set = format!("{app}-7d9c8b6f5");
        let name = workloads.pod_name(pod);
        let labels = [
            ("app", app.as_str()),
            ("app.kubernetes.io/instance", &app),
            ("app.kubernetes.io/managed-by", "Helm"),
            ("app.kubernetes.io/part-of", "shop"),
            ("pod-template-hash", "7d9c8b6f5"),
            ("team", "checkout"),
            ("tier", "a"),
            if own_labels {
                ("statefulset.kubernetes.io/pod-name", &name)
            } else {
                ("version", "v1")
            },
        ];
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let labels: Labels = labels.into_iter().map(owned).collect();
        let [_, high, middle, low] = u32::try_from(pod)?.to_be_bytes();
        directory.upsert(PodInfo {
            owner: Some(owner("ReplicaSet", &set, &uid(2, number))),
            phase: Phase::Running,
            ips: vec![[10, high, middle, low].into()],
            ..PodInfo::new(PodKey::new("prod", &name), uid(3, pod).into(), labels)
        })?;
    }
    Ok(())
}

fn owner(kind: &str, name: &str, uid: &str) -> Owner {
    Owner {
        group: "apps".into(),
        kind: kind.into(),
        name: name.into(),
        uid: uid.into(),
    }
}

/// As long as a real one.
fn uid(kind: usize, number: usize) -> String {
    format!("{kind:08x}-0000-4000-8000-{number:012x}")
}

fn connect(store: &Store, workloads: Workloads, pod: usize) -> Result<Link> {
    let id = pod as u64 + 1;
    let hello = Hello {
        pod: PodKey::new("prod", &workloads.pod_name(pod)),
        uid: uid(3, pod).into(),
        node: "".into(),
        labels: Labels::default(),
        instance: InstanceId(id),
        process: ProcessId(id),
        scope: CounterScope::Process,
        started_at: UnixMillis(START.0),
        clock: UnixMillis(START.0),
        hot_restart: false,
    };
    let connected = store.connect(START, StreamId(id), &hello);
    Ok(connected.context("connect a pod")?.link)
}

/// A sidecar with one service of its own that calls two others.
fn report(seq: u64, now: Monotonic, interval: Duration) -> Report {
    let requests = now.since(START).as_secs() * RATE;
    let clusters = [
        (Direction::Inbound, "cds_ingress_shop_app_prod_http_9080"),
        (Direction::Outbound, "cds_egress_shop_stock_prod_http_9080"),
        (Direction::Outbound, "cds_egress_shop_price_prod_http_9080"),
    ];
    let success = ResponseCode::new(2);
    let series = clusters.map(|(direction, cluster)| {
        let totals = SeriesTotals {
            requests: Some(requests),
            requests_at_completion: false,
            upstream_attempts: Some(requests),
            responses: success.map(|code| (code, requests)).into_iter().collect(),
            inflight: Some(1),
            inflight_ns: Some(requests * 5_000_000),
        };
        let cluster = cluster.into();
        (SeriesKey { direction, cluster }, totals)
    });
    Report {
        seq,
        interval_end: UnixMillis(now.0),
        interval: interval.min(now.since(START)),
        series: series.into(),
        vms_expected: 3,
        vms_live: 3,
        next_report_within: interval * 2,
        snapshot: seq == 1,
        is_final: false,
    }
}

fn resident() -> Result<u64> {
    usage::resident_bytes(std::process::id())
}
