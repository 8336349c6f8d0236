//! Two replicas, sums, one writer: whoever writes, Prometheus sees every request once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::json;
use tempfile::TempDir;
use tests_envoy::{Backends, FRONT, NAMESPACE, POD, plugin, start_envoy};
use tests_remote_write::PATIENCE;
use tests_support::aggregator::{Aggregator, Options};
use tests_support::bootstrap::Cluster;
use tests_support::envoy::Envoy;
use tests_support::kubernetes::ApiServer;
use tests_support::kubernetes::objects::{LEASE, POD as PODS, SERVICE};
use tests_support::plugin::{AGGREGATOR_CLUSTER, Role};
use tests_support::prometheus::Prometheus;
use tests_support::{clock, http};

const SUMS: &str = "envoy_cluster_upstream_rq_total{service=\"app\"}[30m]";

struct Pair {
    cluster: ApiServer,
    prometheus: Prometheus,
    replicas: BTreeMap<&'static str, Aggregator>,
    options: BTreeMap<&'static str, Options>,
    envoy: Envoy,
    sent: u32,
    _backends: Backends,
    _folder: TempDir,
}

impl Pair {
    async fn start() -> Result<Self> {
        let cluster = ApiServer::start().await?;
        let metadata = |name: &str| json!({"namespace": NAMESPACE, "name": name, "uid": "uid-1", "labels": {"app": "app"}});
        cluster.objects().apply(
            PODS,
            json!({"metadata": metadata(POD), "status": {"phase": "Running", "podIP": "127.0.0.1"}}),
        );
        cluster.objects().apply(
            SERVICE,
            json!({"metadata": metadata("app"), "spec": {"selector": {"app": "app"}}}),
        );
        let address = tests_envoy::free_address()?;
        let receiver = ["--web.enable-remote-write-receiver"];
        let prometheus =
            Prometheus::start(address, "global: {scrape_interval: 1h}\n", &receiver).await?;
        let folder = TempDir::new()?;
        let kubeconfig = folder.path().join("kubeconfig");
        cluster.write_kubeconfig(&kubeconfig)?;
        let mut replicas = BTreeMap::new();
        let mut options = BTreeMap::new();
        for name in ["a", "b"] {
            let mut of = options_of(name, address, &kubeconfig, &folder.path().join(name));
            let replica = Aggregator::start(&of).await?;
            of.ingest = replica.ingest();
            replicas.insert(name, replica);
            options.insert(name, of);
        }
        let backends = Backends::start().await?;
        let both = json!([{"cluster": AGGREGATOR_CLUSTER}, {"cluster": "second"}]);
        let plugins = [plugin(Role::Filter)?, plugin(Role::UpstreamLog)?];
        let plugins = plugins.map(|plugin| plugin.with("aggregators", both.clone()));
        let mut bootstrap = backends.bootstrap_with(replicas["a"].ingest(), &plugins)?;
        let second = Cluster::new("second", replicas["b"].ingest());
        bootstrap.clusters.push(second.with_http2());
        Ok(Self {
            cluster,
            prometheus,
            replicas,
            options,
            envoy: start_envoy(&bootstrap).await?,
            sent: 0,
            _backends: backends,
            _folder: folder,
        })
    }

    async fn send(&mut self, count: u32) -> Result<()> {
        let front = self.envoy.listener(FRONT)?;
        for _ in 0..count {
            http::get_ok(front, "/").await?;
        }
        self.sent += count;
        Ok(())
    }

    /// What the sums in Prometheus grew by, as `increase()` counts it but without extrapolation.
    async fn increase(&self) -> Result<f64> {
        let all = self.prometheus.query(SUMS).await.unwrap_or_default();
        Ok(all
            .iter()
            .flat_map(|series| series.samples.windows(2))
            .map(|pair| match (pair[0].1, pair[1].1) {
                (before, after) if after < before => after,
                (before, after) => after - before,
            })
            .sum())
    }

    async fn arrives(&self) -> Result<()> {
        let sent = f64::from(self.sent);
        clock::wait_for(&format!("{sent} requests in sums"), PATIENCE, async || {
            let increase = self.increase().await?;
            ensure!(increase <= sent, "{increase} in sums, {sent} sent");
            Ok(((increase - sent).abs() < 0.5).then_some(()))
        })
        .await
    }

    fn writer(&self) -> Option<String> {
        let lease = self.cluster.objects().get(LEASE, "meshmeter", "writer")?;
        lease["spec"]["holderIdentity"].as_str().map(str::to_owned)
    }

    /// True if the replica took over once, and went on with what was written before.
    async fn continued(&self, name: &str) -> Result<bool> {
        let page = http::get_ok(self.replicas[name].admin(), "/metrics").await?;
        let text = page.text();
        let line = |result: &str, count: u32| {
            let wanted = format!("takeovers_total{{result=\"{result}\"}} {count}\n");
            text.contains(&wanted)
        };
        Ok(line("continued", 1) && line("anew", 0))
    }

    async fn writer_is(&self, name: &str) -> Result<()> {
        clock::wait_for(&format!("{name} to hold the lease"), PATIENCE, async || {
            Ok((self.writer().as_deref() == Some(name)).then_some(()))
        })
        .await
    }
}

fn options_of(name: &str, prometheus: SocketAddr, kubeconfig: &Path, queue: &Path) -> Options {
    let text = |path: &Path| path.display().to_string();
    let flags = [
        "--kubeconfig".to_owned(),
        text(kubeconfig),
        "--ingest-identity".to_owned(),
        "none".to_owned(),
        "--remote-write-url".to_owned(),
        format!("http://{prometheus}/api/v1/write"),
        "--remote-write-interval-seconds=1".to_owned(),
        format!("--remote-write-queue-dir={}", text(queue)),
        "--remote-write-output=summed".to_owned(),
        "--remote-write-lease=writer".to_owned(),
        "--remote-write-gauge=rate".to_owned(),
    ];
    Options {
        flags: flags.into(),
        environment: vec![("HOSTNAME".to_owned(), name.to_owned())],
        ..Options::default()
    }
}

fn other(name: &str) -> &'static str {
    if name == "a" { "b" } else { "a" }
}

/// The writer is killed, the other takes over and counts what it did not; the first comes back, and gets the Lease when
/// the other ends. Every request is in the sums, once.
#[tokio::test(flavor = "multi_thread")]
async fn sums_are_handed_over_exactly() {
    let mut pair = Pair::start().await.unwrap();
    pair.send(10).await.unwrap();
    pair.arrives().await.unwrap();
    let first = other(other(&pair.writer().unwrap()));
    let second = other(first);
    pair.replicas.get_mut(first).unwrap().kill().await.unwrap();
    pair.send(7).await.unwrap();
    pair.writer_is(second).await.unwrap();
    pair.send(3).await.unwrap();
    pair.arrives().await.unwrap();
    assert!(pair.continued(second).await.unwrap());
    // It comes back, follows, and is handed the Lease without a wait.
    let back = Aggregator::start(&pair.options[first]).await.unwrap();
    pair.replicas.insert(first, back);
    pair.replicas[first].wait_ready().await.unwrap();
    pair.send(5).await.unwrap();
    pair.arrives().await.unwrap();
    assert_eq!(pair.writer().as_deref(), Some(second));
    pair.replicas
        .remove(second)
        .unwrap()
        .terminate()
        .await
        .unwrap();
    pair.writer_is(first).await.unwrap();
    pair.send(4).await.unwrap();
    pair.arrives().await.unwrap();
    assert!(pair.continued(first).await.unwrap());
    // The API server is away for longer than a Lease lasts: nobody writes, and nothing is lost.
    pair.cluster
        .set_outage(Some(::http::StatusCode::SERVICE_UNAVAILABLE));
    pair.send(6).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(12)).await;
    pair.send(2).await.unwrap();
    pair.cluster.set_outage(None);
    pair.arrives().await.unwrap();
    assert_eq!(pair.writer().as_deref(), Some(first));
    // Sums went on all the time: not one of them ever fell.
    let all = pair.prometheus.query(SUMS).await.unwrap();
    let mut samples = all.iter().flat_map(|series| series.samples.windows(2));
    assert!(samples.all(|pair| pair[0].1 <= pair[1].1), "{all:?}");
}
