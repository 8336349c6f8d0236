//! Two aggregators of one cluster that write each second, an Envoy that streams to both, and a fake
//! AMP in front of a real Prometheus.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::Result;
use serde_json::json;
use tempfile::TempDir;
use tests_envoy::{Backends, FRONT, NAMESPACE, POD, plugin, start_envoy};
use tests_support::aggregator::{Aggregator, Options};
use tests_support::bootstrap::Cluster;
use tests_support::envoy::Envoy;
use tests_support::http;
use tests_support::kubernetes::ApiServer;
use tests_support::kubernetes::objects::{POD as PODS, SERVICE};
use tests_support::plugin::{AGGREGATOR_CLUSTER, Role};
use tests_support::prometheus::Prometheus;

use crate::amp::{Amp, KEY};

/// Their names: what `$HOSTNAME` is in a pod.
pub const NAMES: [&str; 2] = ["a", "b"];

#[derive(Debug)]
pub struct Pair {
    /// The cluster, with the pod and its service `app`.
    pub cluster: ApiServer,
    pub prometheus: Prometheus,
    /// Those that run, by name.
    pub replicas: BTreeMap<&'static str, Aggregator>,
    pub envoy: Envoy,
    /// Requests that were sent by [`Pair::send`].
    pub sent: u32,
    options: BTreeMap<&'static str, Options>,
    _amp: Amp,
    _backends: Backends,
    _folder: TempDir,
}

// === impl Pair ===

impl Pair {
    /// Starts all of it, both aggregators with `flags`.
    pub async fn start(flags: &[&str]) -> Result<Self> {
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
        let config = "global: {scrape_interval: 1h}\n";
        let receiver = ["--web.enable-remote-write-receiver"];
        let prometheus = Prometheus::start(address, config, &receiver).await?;
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let amp = Amp::start(any, address, &[]).await?;
        let folder = TempDir::new()?;
        let kubeconfig = folder.path().join("kubeconfig");
        cluster.write_kubeconfig(&kubeconfig)?;
        let mut replicas = BTreeMap::new();
        let mut options = BTreeMap::new();
        for name in NAMES {
            let mut of = options_of(name, amp.url(), &kubeconfig, &folder.path().join(name));
            of.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
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
            envoy: start_envoy(&bootstrap).await?,
            sent: 0,
            options,
            _amp: amp,
            _backends: backends,
            _folder: folder,
        })
    }

    /// Sends `count` requests, one after the other.
    pub async fn send(&mut self, count: u32) -> Result<()> {
        let front = self.envoy.listener(FRONT)?;
        for _ in 0..count {
            http::get_ok(front, "/").await?;
        }
        self.sent += count;
        Ok(())
    }

    /// Starts the aggregator `name` that was ended, with its queue and where it was found before.
    pub async fn restart(&mut self, name: &'static str) -> Result<()> {
        let replica = Aggregator::start(&self.options[name]).await?;
        replica.wait_ready().await?;
        self.replicas.insert(name, replica);
        Ok(())
    }
}

fn options_of(name: &str, receiver: &str, kubeconfig: &Path, queue: &Path) -> Options {
    let flags = [
        format!("--kubeconfig={}", kubeconfig.display()),
        "--ingest-identity=none".to_owned(),
        format!("--remote-write-url={receiver}"),
        "--remote-write-auth=sigv4".to_owned(),
        "--remote-write-region=us-east-1".to_owned(),
        "--remote-write-interval-seconds=1".to_owned(),
        format!("--remote-write-queue-dir={}", queue.display()),
        "--remote-write-external-label=cluster=test".to_owned(),
    ];
    let key = KEY.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let name = ("HOSTNAME".to_owned(), name.to_owned());
    Options {
        flags: flags.into(),
        environment: key.into_iter().chain([name]).collect(),
        ..Options::default()
    }
}
