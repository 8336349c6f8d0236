//! An aggregator within the test's own process.

use std::net::SocketAddr;
use std::time::Duration;

use aggregator::config::{Config, Listen, Mode, ReadsConfig};
use aggregator_core::pod::PodInfo;
use serde::Deserialize;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::client::{self, Reply};

/// How long a test waits for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const ANY: &str = "127.0.0.1:0";

/// The API in its preferred version.
pub(crate) const V2: &str = "/apis/custom.metrics.k8s.io/v1beta2";

pub(crate) struct App {
    pub(crate) addresses: Addresses,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<anyhow::Result<()>>,
    directory: TempDir,
}

/// What the addresses file says.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Addresses {
    pub(crate) ingest: SocketAddr,
    pub(crate) api: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// A configuration for a test.
pub(crate) fn config() -> Config {
    Config {
        listen: Listen {
            ingest: ANY.parse().unwrap(),
            api: ANY.parse().unwrap(),
            admin: ANY.parse().unwrap(),
        },
        mode: Mode::Standalone {
            api_names: Vec::new(),
            pods: None,
            autoscalers: None,
        },
        addresses_file: None,
        reads: ReadsConfig {
            autoscalers: 100,
            folder: None,
            folder_bytes: 0,
        },
        replica_name: "test".to_owned(),
        remote_write: None,
        metrics: aggregator_api::MetricSettings::default(),
        drain: Duration::from_secs(5),
        memory_limit: None,
    }
}

impl App {
    /// Starts an aggregator that learns its pods from sidecars.
    pub(crate) async fn start() -> Self {
        Self::start_with_pods(None).await
    }

    /// Starts an aggregator, with the pods of a file if given.
    pub(crate) async fn start_with_pods(pods: Option<Vec<PodInfo>>) -> Self {
        Self::start_with(|config| {
            config.mode = Mode::Standalone {
                api_names: Vec::new(),
                pods,
                autoscalers: None,
            };
        })
        .await
    }

    /// Starts an aggregator whose configuration is changed.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("addresses.json");
        let shutdown = CancellationToken::new();
        let mut config = Config {
            addresses_file: Some(file.clone()),
            ..config()
        };
        change(&mut config);
        let task = tokio::spawn(aggregator::app::run(config, shutdown.clone()));
        let text = eventually("the addresses file", async || {
            std::fs::read_to_string(&file).ok()
        })
        .await;
        let addresses = serde_json::from_str(&text).unwrap();
        Self {
            addresses,
            shutdown,
            task,
            directory,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        client::get(self.addresses.api, path).await
    }

    /// Asks the API for a metric of pods in namespace prod; `query` is without the question mark.
    pub(crate) async fn metric(&self, metric: &str, query: &str) -> Reply {
        self.get(&format!("{V2}/namespaces/prod/pods/%2A/{metric}?{query}"))
            .await
    }

    pub(crate) async fn admin(&self, path: &str) -> Reply {
        client::get_plain(self.addresses.admin, path).await
    }

    /// The value of one of the aggregator's own counters, 0 if it is not there.
    pub(crate) async fn counter(&self, series: &str) -> u64 {
        let metrics = self.admin("/metrics").await.text();
        let prefix = format!("{series} ");
        let value = metrics.lines().find_map(|line| line.strip_prefix(&prefix));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// Ends the aggregator in order.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .expect("ends in time")
            .unwrap()
            .unwrap();
        drop(self.directory);
    }
}

/// Asks `probe` again and again until it has an answer.
pub(crate) async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = probe().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let answer = tokio::time::timeout(PATIENCE, asking).await;
    answer.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}
