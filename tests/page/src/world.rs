//! What the page shows: a standalone aggregator, pods of djapp behind real Envoys, their load, and
//! an autoscaler.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tempfile::TempDir;
use tests_support::aggregator::{Aggregator, Options};
use tests_support::autoscalers::{Autoscalers, Plan};
use tests_support::clock;
use tests_support::djapp::{App, Behaviour};
use tests_support::envoy::{self, Envoy};
use tests_support::load::{Load, Phase, Tally};
use tests_support::sidecar::{INBOUND_LISTENER, Sidecar, service_host};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub const NAMESPACE: &str = "prod";
/// Requests per second and pod that the autoscaler aims at.
pub const TARGET: u32 = 20;
const METRIC: &str = "appmesh_requests_per_second";
const SELECTOR: &str = "app=jazz";
const PODS: [&str; 2] = ["jazz-v1-7c9d-2fkqp", "jazz-v1-7c9d-8wz5c"];
/// Until each pod has a value.
const VALUES_WITHIN: Duration = Duration::from_secs(30);
/// Longest load of a test.
const LOAD_MAX: Duration = Duration::from_mins(5);

/// Everything, ended when dropped.
#[derive(Debug)]
pub struct World {
    pub aggregator: Aggregator,
    autoscalers: Autoscalers,
    pods: Vec<(Envoy, App)>,
    load: Option<CancellationToken>,
    loads: JoinSet<Result<()>>,
    _folder: TempDir,
}

// === impl World ===

impl World {
    /// Starts all; there is no load yet.
    pub async fn start() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("meshmeter-page-")
            .tempdir()?;
        let pods_file = folder.path().join("pods.json");
        let pods = PODS.map(|name| {
            json!({
                "namespace": NAMESPACE, "name": name, "labels": {"app": "jazz"},
                "owner": {"group": "apps", "kind": "Deployment", "name": "jazz-v1"},
            })
        });
        std::fs::write(&pods_file, json!({ "pods": pods }).to_string())?;
        let file = folder.path().join("autoscalers.json");
        let plan = Plan {
            namespace: NAMESPACE.to_owned(),
            name: "jazz".to_owned(),
            target: "jazz-v1".to_owned(),
            selector: SELECTOR.to_owned(),
            metric: METRIC.to_owned(),
            average_milli: TARGET * 1_000,
            max: 10,
            pods: PODS.map(str::to_owned).into(),
        };
        let autoscalers = Autoscalers::write(&file, vec![plan])?;
        let mut options = Options {
            pods_file: Some(pods_file),
            ..Options::default()
        };
        let flag = format!("--autoscalers-file={}", file.display());
        options.flags.push(flag);
        let aggregator = Aggregator::start(&options).await?;
        let mut pods = Vec::new();
        for name in PODS {
            pods.push(start_pod(&aggregator, name).await?);
        }
        aggregator.wait_ready().await?;
        Ok(Self {
            aggregator,
            autoscalers,
            pods,
            load: None,
            loads: JoinSet::new(),
            _folder: folder,
        })
    }

    /// From now on `rate` requests per second to each pod, in place of what was.
    pub fn set_load(&mut self, rate: f64) -> Result<()> {
        self.stop_load();
        let stop = CancellationToken::new();
        for (envoy, _) in &self.pods {
            let phase = Phase {
                rate,
                duration: LOAD_MAX,
            };
            let mut load = Load::new(envoy.listener(INBOUND_LISTENER)?, vec![phase]);
            load.host = service_host("jazz", NAMESPACE);
            self.loads
                .spawn(load.run(Arc::new(Tally::default()), stop.clone()));
        }
        self.load = Some(stop);
        Ok(())
    }

    pub fn stop_load(&mut self) {
        if let Some(stop) = self.load.take() {
            stop.cancel();
        }
    }

    /// Waits until each pod has a value.
    pub async fn wait_values(&self) -> Result<()> {
        clock::wait_for("values of both pods", VALUES_WITHIN, async || {
            let api = self.aggregator.api();
            let list = api.pods_metric(NAMESPACE, SELECTOR, METRIC).await;
            Ok(list
                .is_ok_and(|list| list.items.len() == PODS.len())
                .then_some(()))
        })
        .await
        .with_context(|| self.aggregator.log_tail())
    }

    /// Waits until the API says more than `rate` of each pod. Where two steps come within seconds
    /// it may take longer than the table, which is of the newest reports.
    pub async fn wait_rates(&self, rate: f64) -> Result<()> {
        clock::wait_for("rates at the API", VALUES_WITHIN, async || {
            let api = self.aggregator.api();
            let list = api.pods_metric(NAMESPACE, SELECTOR, METRIC).await?;
            let above = list.items.iter().filter(|item| {
                let (number, scale) = match item.value.strip_suffix('m') {
                    Some(milli) => (milli, 0.001),
                    None => (item.value.as_str(), 1.0),
                };
                number
                    .parse::<f64>()
                    .is_ok_and(|value| value * scale > rate)
            });
            Ok((above.count() == PODS.len()).then_some(()))
        })
        .await
        .with_context(|| self.aggregator.log_tail())
    }

    /// The autoscaler reads and decides.
    pub async fn sync(&mut self) -> Result<()> {
        self.autoscalers.sync(self.aggregator.api()).await
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop_load();
    }
}

async fn start_pod(aggregator: &Aggregator, name: &str) -> Result<(Envoy, App)> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let app = App::start(any, Behaviour::jazz_v1()).await?;
    let mut sidecar = Sidecar::new(NAMESPACE, name, app.address());
    sidecar.aggregator = Some(aggregator.ingest());
    let envoy = Envoy::start(&sidecar.bootstrap()?.to_json(), &envoy::Options::default()).await?;
    Ok((envoy, app))
}
