//! For tests: pods that exist, sidecars that reported, and an API over both, asked by URL.

use std::sync::Arc;
use std::time::Duration;

use aggregator_core::limits::StoreLimits;
use aggregator_core::pod::{Labels, Owner, Phase, PodInfo, PodKey};
use aggregator_core::report::{
    CounterScope, Hello, InstanceId, ProcessId, Report, ResponseCode, SeriesTotals, StreamId,
};
use aggregator_core::series::{Direction, SeriesKey};
use aggregator_core::store::{Link, Store};
use aggregator_directory::{Directory, ObjectKey, OwnerInfo, ServiceInfo};
use aggregator_ledger::Ledger;
use aggregator_ledger::limits::BYTES_MIN;
use common_time::{Clock, Monotonic, UnixMillis};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use prometheus_client::registry::Registry;
use serde_json::Value;

use crate::authentication::certificate::PeerCertificates;
use crate::{Api, Body, MetricSettings, Observations};
use common_http::health::Check;

/// When the counters of every sidecar began.
const START: Monotonic = Monotonic(457_713_300);

/// Ten seconds later, when every sidecar reported.
pub(crate) const REPORTED: Monotonic = Monotonic(START.0 + 10_000);

/// When the API is asked.
pub(crate) const NOW: Monotonic = Monotonic(REPORTED.0 + 700);

/// The group with its preferred version.
pub(crate) const V2: &str = "/apis/custom.metrics.k8s.io/v1beta2";

pub(crate) const EXTERNAL: &str = "/apis/external.metrics.k8s.io/v1beta1";

/// Pods, sidecars and the API over them.
pub(crate) struct TestApi {
    pub(crate) api: Api,
    pub(crate) store: Arc<Store>,
    pub(crate) directory: Arc<Directory>,
    registry: Registry,
}

#[derive(Debug)]
pub(crate) struct TestResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

// === impl TestApi ===

impl TestApi {
    pub(crate) fn new() -> Self {
        Self::with_metrics(MetricSettings::default())
    }

    pub(crate) fn with_metrics(settings: MetricSettings) -> Self {
        let mut registry = Registry::with_prefix("meshmeter");
        let store = Arc::new(Store::new(StoreLimits::default()));
        let directory = Arc::new(Directory::default());
        let observations = Observations::register(&mut registry).with_autoscalers(
            &mut registry,
            Arc::clone(&directory),
            Clock::new(|| NOW, || wall(NOW)),
        );
        let api = Api::new(
            Arc::clone(&store),
            Arc::clone(&directory),
            Clock::new(|| NOW, || wall(NOW)),
            Arc::new(|| {
                vec![Check {
                    name: "settled",
                    failure: Some("2000 ms to go".to_owned()),
                }]
            }),
            observations,
            Arc::new(Ledger::new(BYTES_MIN)),
        );
        Self {
            api: api.with_metrics(settings),
            store,
            directory,
            registry,
        }
    }

    /// A pod exists in namespace prod.
    pub(crate) fn exists(&self, info: PodInfo) {
        self.directory.upsert(info).unwrap();
    }

    /// A pod exists and its sidecar has reported for ten seconds.
    pub(crate) fn reports(&self, info: PodInfo, series: Vec<(SeriesKey, SeriesTotals)>) {
        let pod = info.key.clone();
        self.exists(info);
        let link = self.connect(&pod, START);
        self.store
            .apply(REPORTED, &link, &report(REPORTED, series))
            .unwrap();
    }

    /// A sidecar said hello and has not reported yet.
    pub(crate) fn connect(&self, pod: &PodKey, now: Monotonic) -> Link {
        let hello = Hello {
            pod: pod.clone(),
            uid: "".into(),
            node: "".into(),
            labels: Labels::default(),
            instance: InstanceId(1),
            process: ProcessId(1),
            scope: CounterScope::Process,
            started_at: wall(START),
            clock: wall(now),
            hot_restart: false,
        };
        self.store.connect(now, StreamId(1), &hello).unwrap().link
    }

    pub(crate) fn service(&self, name: &str, selector: &[(&str, &str)]) {
        let info = ServiceInfo {
            namespace: "prod".into(),
            name: name.into(),
            selector: labels(selector),
        };
        self.directory.upsert_service(info).unwrap();
    }

    /// A Deployment and its `ReplicaSet`, called NAME-1.
    pub(crate) fn deployment(&self, name: &str) {
        let deployment = OwnerInfo {
            object: ObjectKey::new("prod", "apps", "Deployment", name),
            uid: "d".into(),
            owner: None,
        };
        let set = OwnerInfo {
            object: ObjectKey::new("prod", "apps", "ReplicaSet", &format!("{name}-1")),
            uid: "r".into(),
            owner: Some(owner("Deployment", name, "d")),
        };
        self.directory.upsert_owner(deployment).unwrap();
        self.directory.upsert_owner(set).unwrap();
    }

    pub(crate) fn get(&self, uri: &str) -> TestResponse {
        self.send(Request::get(uri).body(()).unwrap())
    }

    pub(crate) fn send(&self, request: Request<()>) -> TestResponse {
        let (parts, ()) = request.into_parts();
        let (head, body) = self.api.respond(&parts, false).into_parts();
        TestResponse {
            status: head.status,
            headers: head.headers,
            body: text_of(body),
        }
    }

    /// A document of the views, below the version.
    pub(crate) fn view(&self, path: &str) -> TestResponse {
        let uri = format!("/apis/view.meshmeter.io/v1/{path}");
        let (parts, ()) = Request::get(uri).body(()).unwrap().into_parts();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let nobody = PeerCertificates::new(Vec::new());
        let response = runtime.block_on(self.api.respond_to(parts, false, &nobody));
        let (head, body) = response.into_parts();
        TestResponse {
            status: head.status,
            headers: head.headers,
            body: text_of(body),
        }
    }

    /// What `/metrics` shows.
    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }

    /// `meshmeter_api_refused_total` with this reason.
    pub(crate) fn refused(&self, reason: &str) -> u64 {
        let text = self.metrics();
        let prefix = format!("meshmeter_api_refused_total{{reason=\"{reason}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
        line.map_or(0, |count| count.parse().unwrap())
    }
}

// === impl TestResponse ===

impl TestResponse {
    /// The list that was served.
    pub(crate) fn list(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
        serde_json::from_str(&self.body).unwrap()
    }

    /// The only item of the list.
    pub(crate) fn item(&self) -> Value {
        let list = self.list();
        let items = list["items"].as_array().unwrap();
        assert_eq!(items.len(), 1, "{list}");
        items[0].clone()
    }

    /// Code and message of the refusal.
    pub(crate) fn refusal(&self) -> (u16, String) {
        let status: Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(status["kind"], "Status", "{status}");
        assert_eq!(status["code"], self.status.as_u16());
        let message = status["message"].as_str().unwrap();
        (self.status.as_u16(), message.to_owned())
    }

    pub(crate) fn source(&self) -> &str {
        self.headers["meshmeter-source"].to_str().unwrap()
    }
}

/// What wall clocks show at `at`.
pub(crate) fn wall(at: Monotonic) -> UnixMillis {
    UnixMillis(1_795_000_000_000 + at.0)
}

/// A report of the second before `end`.
pub(crate) fn report(end: Monotonic, series: Vec<(SeriesKey, SeriesTotals)>) -> Report {
    Report {
        seq: 1,
        interval_end: wall(end),
        interval: Duration::from_secs(1),
        series,
        vms_expected: 1,
        vms_live: 1,
        next_report_within: Duration::from_secs(1),
        snapshot: true,
        is_final: false,
    }
}

/// A running pod of the `ReplicaSet` APP-1 with the label app=APP.
pub(crate) fn running(app: &str, name: &str) -> PodInfo {
    let key = PodKey::new("prod", name);
    PodInfo {
        owner: Some(owner("ReplicaSet", &format!("{app}-1"), "r")),
        phase: Phase::Running,
        ..PodInfo::new(key, "".into(), labels(&[("app", app)]))
    }
}

/// As [`running`], but only accepted so far.
pub(crate) fn pending(app: &str, name: &str) -> PodInfo {
    PodInfo {
        phase: Phase::Pending,
        ..running(app, name)
    }
}

/// Ten seconds of inbound requests, `rate` a second.
pub(crate) fn inbound(rate: u64) -> (SeriesKey, SeriesTotals) {
    series(Direction::Inbound, "", requests(rate))
}

/// Ten seconds of requests to a cluster, `rate` a second.
pub(crate) fn outbound(cluster: &str, rate: u64) -> (SeriesKey, SeriesTotals) {
    series(Direction::Outbound, cluster, requests(rate))
}

pub(crate) fn series(
    direction: Direction,
    cluster: &str,
    totals: SeriesTotals,
) -> (SeriesKey, SeriesTotals) {
    let cluster = cluster.into();
    (SeriesKey { direction, cluster }, totals)
}

pub(crate) fn requests(rate: u64) -> SeriesTotals {
    SeriesTotals {
        requests: Some(rate * 10),
        ..SeriesTotals::default()
    }
}

/// Responses by code, and as many requests.
pub(crate) fn responses(codes: &[(u32, u64)]) -> SeriesTotals {
    let code = |(code, total): &(u32, u64)| (ResponseCode::new(*code).unwrap(), *total);
    SeriesTotals {
        requests: Some(codes.iter().map(|(_, total)| total).sum()),
        responses: codes.iter().map(code).collect(),
        ..SeriesTotals::default()
    }
}

fn owner(kind: &str, name: &str, uid: &str) -> Owner {
    Owner {
        group: "apps".into(),
        kind: kind.into(),
        name: name.into(),
        uid: uid.into(),
    }
}

fn labels(labels: &[(&str, &str)]) -> Labels {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    labels.iter().map(owned).collect()
}

/// A whole body is ready at once.
fn text_of(body: Body) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let bytes = runtime.block_on(body.collect()).unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}
