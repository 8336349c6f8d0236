//! Three pods of one workload: three real Envoys with the filter, stock settings, each under the
//! same even load.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests_envoy::{Backends, FRONT, NAMESPACE, plugin, start_envoy};
use tests_support::aggregator::Aggregator;
use tests_support::clock;
use tests_support::envoy::Envoy;
use tests_support::load::{Load, Phase, Tally};
use tests_support::plugin::Role;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) const PODS: usize = 3;
const READ_EVERY: Duration = Duration::from_millis(20);
/// Share of the step from which it counts as visible.
const VISIBLE: f64 = 0.9;

/// A step in the load of each pod.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// A load that ended in a step of its own just before, if there was one.
    pub(crate) earlier: Option<Phase>,
    /// Requests per second before.
    pub(crate) from: f64,
    pub(crate) to: f64,
    /// How long the load before lasts.
    pub(crate) before: Duration,
    pub(crate) after: Duration,
}

pub(crate) struct Group {
    app: String,
    backends: Backends,
    envoys: Vec<Envoy>,
}

// === impl Step ===

impl Step {
    /// Time from the start of the load to the step.
    fn comes_after(&self) -> Duration {
        let earlier = self.earlier.map_or(Duration::ZERO, |phase| phase.duration);
        earlier + self.before
    }

    /// The rate at which the step is visible.
    pub(crate) fn threshold(&self) -> f64 {
        self.from + VISIBLE * (self.to - self.from)
    }
}

// === impl Group ===

impl Group {
    /// Starts the pods of workload `app`.
    pub(crate) async fn start(app: &str, aggregator: &Aggregator) -> Result<Self> {
        let backends = Backends::start().await?;
        let mut envoys = Vec::new();
        for pod in 0..PODS {
            let identity = json!({
                "namespace": NAMESPACE, "pod": format!("{app}-{pod}"), "uid": format!("uid-{app}-{pod}"),
                "labels": {"app": app},
            });
            let plugin = plugin(Role::Filter)?.with("identity", identity);
            let bootstrap = backends.bootstrap_with(aggregator.ingest(), &[plugin])?;
            envoys.push(start_envoy(&bootstrap).await?);
        }
        Ok(Self {
            app: app.to_owned(),
            backends,
            envoys,
        })
    }

    /// Admin addresses of the Envoys.
    pub(crate) fn admins(&self) -> Vec<SocketAddr> {
        self.envoys.iter().map(Envoy::admin).collect()
    }

    /// Starts the load of one step; returns the time of the step, and the running load.
    pub(crate) fn load(&self, step: Step) -> Result<(Instant, JoinSet<Result<()>>)> {
        let start = clock::now();
        let mut running = JoinSet::new();
        for envoy in &self.envoys {
            let phase = |rate, duration| Phase { rate, duration };
            let last = [phase(step.from, step.before), phase(step.to, step.after)];
            let phases = step.earlier.into_iter().chain(last).collect();
            let load = Load::new(envoy.listener(FRONT)?, phases);
            let tally = std::sync::Arc::<Tally>::default();
            running.spawn(async move {
                load.run(std::sync::Arc::clone(&tally), CancellationToken::new())
                    .await?;
                ensure!(
                    tally.skipped() == 0 && tally.broken() == 0,
                    "the load could not be kept up: {} skipped, {} broken",
                    tally.skipped(),
                    tally.broken()
                );
                Ok(())
            });
        }
        Ok((start + step.comes_after(), running))
    }

    /// Runs one step and returns the time until it was visible at the API; `None` if the load ended
    /// first.
    pub(crate) async fn step(
        &self,
        aggregator: &Aggregator,
        step: Step,
    ) -> Result<Option<Duration>> {
        let (at, mut running) = self.load(step)?;
        tokio::time::sleep_until(at.into()).await;
        let mut visible = None;
        while visible.is_none() && at.elapsed() < step.after {
            if self
                .average(aggregator)
                .await
                .is_some_and(|rate| rate >= step.threshold())
            {
                visible = Some(at.elapsed());
            }
            tokio::time::sleep(READ_EVERY).await;
        }
        while let Some(ended) = running.join_next().await {
            ended.context("a load died")??;
        }
        ensure!(
            self.backends.served() > 0,
            "no request reached an application"
        );
        Ok(visible)
    }

    /// Requests per second per pod as an autoscaler reads it; `None` unless every pod has a value.
    async fn average(&self, aggregator: &Aggregator) -> Option<f64> {
        let selector = format!("app={}", self.app);
        let list = aggregator
            .api()
            .pods_metric(NAMESPACE, &selector, "appmesh_requests_per_second")
            .await
            .ok()?;
        let values: Vec<f64> = list
            .items
            .iter()
            .filter_map(tests_support::aggregator::MetricValue::number)
            .collect();
        #[expect(clippy::cast_precision_loss, reason = "three pods")]
        let pods = PODS as f64;
        (values.len() == PODS).then(|| values.iter().sum::<f64>() / pods)
    }
}
