//! Under Envoy's name stands Envoy's number: for each role, with and without clusters told apart,
//! and for Envoy's own metrics service, what arrives at a receiver equals what the same Envoy tells
//! at `/stats`.
//!
//! The traffic is what tells counters apart: retries, a port where nobody listens, a cluster
//! without endpoints, an application that is too slow and one that hangs up, answers that Envoy
//! makes itself (direct, no route, rate limit), several clusters, both directions.
#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aggregator_remote_write::write_request::{STALE_BITS, TimeSeries};
use http::StatusCode;
use serde_json::{Value, json};
use tests_envoy::{FRONT, NAMESPACE, POD, attach, plugin, start_envoy};
use tests_remote_write::receiver::TestReceiver;
use tests_support::aggregator::{Aggregator, Options};
use tests_support::bootstrap::{
    Bootstrap, Cluster, Direction, Listener, direct_response, route, route_with_retries,
    virtual_host,
};
use tests_support::djapp::{App, Behaviour};
use tests_support::envoy::Stats;
use tests_support::plugin::{AGGREGATOR_CLUSTER, Role};
use tests_support::{clock, http as client};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpSocket};

/// Name of the outbound listener.
const OUT: &str = "out";
const EACH: u64 = 4;
/// Longest wait for what was counted to arrive and stand still.
const PATIENCE: Duration = Duration::from_secs(40);
const STILL: Duration = Duration::from_secs(4);

#[derive(Clone, Copy, Debug)]
enum Counting {
    /// Plugins of these roles, with clusters told apart or not.
    Plugins(&'static [Role], bool),
    Native,
}

/// What a receiver has of one series: its name with the labels that tell it apart.
type Series = (String, BTreeMap<String, String>);

/// Where the routes lead to.
struct Targets {
    good: App,
    bad: App,
    slow: App,
    dead: TcpSocket,
    /// Takes a request and hangs up.
    rude: SocketAddr,
}

impl Targets {
    async fn start() -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let dead = TcpSocket::new_v4().unwrap();
        dead.bind(any).unwrap();
        let listener = TcpListener::bind(any).await.unwrap();
        let rude = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move { drop(stream.read(&mut [0; 1024]).await) });
            }
        });
        let slow = Behaviour::dj().with_latency(Duration::from_secs(5));
        Self {
            good: App::start(any, Behaviour::dj()).await.unwrap(),
            bad: App::start(any, Behaviour::jazz_v1().failing(1))
                .await
                .unwrap(),
            slow: App::start(any, slow).await.unwrap(),
            dead,
            rude,
        }
    }

    fn clusters(&self) -> Vec<Cluster> {
        let mut empty = Cluster::new("empty", self.rude);
        empty.endpoints.clear();
        vec![
            Cluster::new("good", self.good.address()),
            Cluster::new("other", self.good.address()),
            Cluster::new("cds_ingress_app", self.good.address()),
            Cluster::new("bad", self.bad.address()),
            Cluster::new("slow", self.slow.address()),
            Cluster::new("dead", self.dead.local_addr().unwrap()),
            Cluster::new("rude", self.rude),
            empty,
        ]
    }
}

/// Paths of both listeners, and what is answered.
const PATHS: [(&str, u16); 11] = [
    ("/good", 200),
    ("/other", 200),
    ("/ingress", 200),
    ("/bad", 503),
    ("/refused", 503),
    ("/empty", 503),
    ("/slow", 504),
    ("/rude", 503),
    ("/direct", 200),
    ("/limited", 429),
    ("/nowhere", 404),
];

fn routes() -> Vec<Value> {
    let mut slow = route("/slow", "slow");
    slow["route"]["timeout"] = json!("0.05s");
    let mut limited = route("/limited", "good");
    limited["typed_per_filter_config"] = json!({"envoy.filters.http.local_ratelimit": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": "limited",
        "token_bucket": {"max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "3600s"},
        "filter_enabled": {"default_value": {"numerator": 100}},
        "filter_enforced": {"default_value": {"numerator": 100}},
    }});
    vec![
        route("/good", "good"),
        route("/other", "other"),
        route("/ingress", "cds_ingress_app"),
        route_with_retries("/bad", "bad", 2),
        route_with_retries("/refused", "dead", 1),
        route("/empty", "empty"),
        slow,
        route("/rude", "rude"),
        direct_response("/direct", 200, "direct"),
        limited,
    ]
}

fn bootstrap(targets: &Targets, aggregator: SocketAddr, counting: Counting) -> Bootstrap {
    let mut bootstrap = Bootstrap::new("sidecar-1");
    bootstrap.clusters = targets.clusters();
    let to_aggregator = Cluster::new(AGGREGATOR_CLUSTER, aggregator);
    bootstrap.clusters.push(to_aggregator.with_http2());
    for (name, side, word) in [
        (FRONT, Direction::Inbound, "inbound"),
        (OUT, Direction::Outbound, "outbound"),
    ] {
        let mut listener = Listener::new(name, side);
        listener.virtual_hosts = vec![virtual_host("all", &["*"], &routes())];
        if let Counting::Plugins(roles, clusters) = counting {
            for role in roles {
                let mut plugin = plugin(*role).unwrap().with("direction", json!(word));
                if clusters {
                    plugin = plugin.with("dimensions", json!(["cluster"]));
                }
                attach(&mut listener, &plugin);
            }
        }
        listener.http_filters.push(json!({
            "name": "envoy.filters.http.local_ratelimit",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
                "stat_prefix": "limited",
            },
        }));
        bootstrap.listeners.push(listener);
    }
    if let Counting::Native = counting {
        bootstrap
            .extra
            .insert("stats_flush_interval".to_owned(), json!("1s"));
        bootstrap.extra.insert(
            "stats_sinks".to_owned(),
            json!([{
                "name": "envoy.stat_sinks.metrics_service",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.config.metrics.v3.MetricsServiceConfig",
                    "transport_api_version": "V3",
                    "emit_tags_as_labels": true,
                    "grpc_service": {"envoy_grpc": {"cluster_name": AGGREGATOR_CLUSTER}},
                },
            }]),
        );
        bootstrap.node_metadata = json!({"meshmeter": {
            "namespace": NAMESPACE, "pod": POD, "uid": "uid-1", "inbound": FRONT,
        }});
    }
    bootstrap
}

/// The newest value of each series, without those that ended.
fn newest(receiver: &TestReceiver) -> BTreeMap<Series, f64> {
    let mut newest = BTreeMap::new();
    for series in receiver
        .received()
        .iter()
        .flat_map(|r| &r.request.timeseries)
    {
        let key = key(series);
        for sample in &series.samples {
            if sample.value.to_bits() == STALE_BITS {
                newest.remove(&key);
            } else {
                newest.insert(key.clone(), sample.value);
            }
        }
    }
    newest
}

fn key(series: &TimeSeries) -> Series {
    let mut labels: BTreeMap<String, String> = series
        .labels
        .iter()
        .map(|label| (label.name.clone(), label.value.clone()))
        .collect();
    (labels.remove("__name__").unwrap(), labels)
}

/// What Envoy says of `statistic` of a cluster, or of all but the aggregator's where none is named.
fn of_envoy(stats: &Stats, cluster: Option<&str>, statistic: &str) -> u64 {
    let named = |name: &str| {
        let rest = name.strip_prefix("cluster.")?;
        let found = rest.strip_suffix(statistic)?.strip_suffix('.')?;
        let wanted = cluster.is_none_or(|wanted| wanted == found);
        (found != AGGREGATOR_CLUSTER && !found.contains('.') && wanted).then_some(())
    };
    stats
        .iter()
        .filter(|(name, _)| named(name).is_some())
        .map(|(_, value)| value)
        .sum()
}

/// For every series under a name of Envoy's the number that Envoy has, where labels say which.
fn faults(series: &BTreeMap<Series, f64>, stats: &Stats) -> Vec<String> {
    // Both directions are one to Envoy's clusters.
    let mut sums: BTreeMap<(String, Option<String>), u64> = BTreeMap::new();
    for ((name, labels), value) in series {
        let Some(statistic) = name.strip_prefix("envoy_cluster_") else {
            continue;
        };
        let statistic = match labels.get("envoy_response_code_class") {
            Some(class) => statistic.replace("_xx", &format!("_{class}xx")),
            None => statistic.to_owned(),
        };
        let cluster = labels.get("envoy_cluster_name").cloned();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small whole number"
        )]
        let value = *value as u64;
        *sums.entry((statistic, cluster)).or_default() += value;
    }
    let mut faults = Vec::new();
    for ((statistic, cluster), ours) in sums {
        let theirs = of_envoy(stats, cluster.as_deref(), &statistic);
        if ours != theirs {
            faults.push(format!(
                "{statistic} of {cluster:?}: {ours}, Envoy says {theirs}"
            ));
        }
    }
    faults
}

fn sum(series: &BTreeMap<Series, f64>, name: &str) -> Option<u64> {
    let found: Vec<f64> = series
        .iter()
        .filter(|((found, _), _)| found == name)
        .map(|(_, value)| *value)
        .collect();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a small whole number"
    )]
    let total = found.iter().sum::<f64>() as u64;
    (!found.is_empty()).then_some(total)
}

/// Sends all traffic, and returns what a receiver has of it in the end, and what Envoy says.
async fn run(counting: Counting) -> (BTreeMap<Series, f64>, Stats) {
    let ok = |_| (StatusCode::NO_CONTENT, Duration::ZERO);
    let receiver = TestReceiver::start(Arc::new(ok)).await.unwrap();
    let mut options = Options::default();
    let url = receiver.url();
    let flags = [
        "--standalone",
        "--remote-write-url",
        &url,
        "--remote-write-interval-seconds",
        "1",
        "--remote-write-gauge",
        "inflight",
    ];
    options.flags = flags.map(str::to_owned).into();
    let aggregator = Aggregator::start(&options).await.unwrap();
    let targets = Targets::start().await;
    let envoy = start_envoy(&bootstrap(&targets, aggregator.ingest(), counting))
        .await
        .unwrap();
    for listener in [FRONT, OUT] {
        let address = envoy.listener(listener).unwrap();
        // The one request that the limit lets through.
        client::get_ok(address, "/limited").await.unwrap();
        for (path, status) in PATHS.iter().cycle().take(PATHS.len() * 4) {
            let answer = client::get(address, path).await.unwrap();
            assert_eq!(
                answer.status,
                *status,
                "{listener} {path}: {}",
                answer.text()
            );
        }
    }
    let mut last = BTreeMap::new();
    let mut since = clock::now();
    let settled = clock::wait_for("totals to stand still", PATIENCE, async || {
        let now = newest(&receiver);
        if now != last {
            since = clock::now();
            last.clone_from(&now);
        }
        Ok((!now.is_empty() && since.elapsed() > STILL).then_some(now))
    });
    let settled = settled.await.unwrap();
    (settled, envoy.stats().await.unwrap())
}

/// Requests that reached the two listeners.
const REQUESTS: u64 = 2 * (1 + EACH * PATHS.len() as u64);

async fn check(counting: Counting, names: &[&str]) {
    let (series, stats) = run(counting).await;
    let faults = faults(&series, &stats);
    assert!(faults.is_empty(), "{counting:?}: {faults:#?}\n{series:#?}");
    let found: BTreeSet<&str> = series.keys().map(|(name, _)| name.as_str()).collect();
    let expected: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(found, expected, "{counting:?}");
    if names.contains(&"envoy_cluster_upstream_rq_total") {
        assert_eq!(
            sum(&series, "envoy_cluster_upstream_rq_total"),
            Some(stats.upstream_rq_total(&[AGGREGATOR_CLUSTER])),
        );
    }
    let expected = match counting {
        Counting::Native => REQUESTS / 2,
        Counting::Plugins(..) => REQUESTS,
    };
    for name in ["appmesh_requests_total", "appmesh_responses_total"] {
        if names.contains(&name) {
            assert_eq!(sum(&series, name), Some(expected), "{name}: {series:#?}");
        }
    }
}

const TOTAL: &str = "envoy_cluster_upstream_rq_total";
const REQUESTS_TOTAL: &str = "appmesh_requests_total";
const RESPONSES_TOTAL: &str = "appmesh_responses_total";
const IN_FLIGHT: &str = "appmesh_requests_in_flight";

#[tokio::test(flavor = "multi_thread")]
async fn filter() {
    for clusters in [false, true] {
        let names = [IN_FLIGHT, REQUESTS_TOTAL, RESPONSES_TOTAL];
        check(Counting::Plugins(&[Role::Filter], clusters), &names).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn access_log() {
    for clusters in [false, true] {
        let names = [REQUESTS_TOTAL, RESPONSES_TOTAL];
        check(Counting::Plugins(&[Role::AccessLog], clusters), &names).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn upstream_log() {
    for clusters in [false, true] {
        check(Counting::Plugins(&[Role::UpstreamLog], clusters), &[TOTAL]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filter_and_upstream_log() {
    for clusters in [false, true] {
        let names = [TOTAL, IN_FLIGHT, REQUESTS_TOTAL, RESPONSES_TOTAL];
        check(
            Counting::Plugins(&[Role::Filter, Role::UpstreamLog], clusters),
            &names,
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn access_log_and_upstream_log() {
    for clusters in [false, true] {
        let names = [TOTAL, REQUESTS_TOTAL, RESPONSES_TOTAL];
        check(
            Counting::Plugins(&[Role::AccessLog, Role::UpstreamLog], clusters),
            &names,
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn native_sink() {
    let names = [
        TOTAL,
        "envoy_cluster_upstream_rq_xx",
        IN_FLIGHT,
        REQUESTS_TOTAL,
        RESPONSES_TOTAL,
    ];
    check(Counting::Native, &names).await;
}
