//! Traffic, readers and other building blocks of scenarios.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tests_envoy::{FRONT, NAMESPACE, POD, plugin};
use tests_support::aggregator::{Aggregator, PodState};
use tests_support::clock;
use tests_support::envoy::Envoy;
use tests_support::load::{Load, Phase, Tally};
use tests_support::plugin::{AGGREGATOR_CLUSTER, Plugin, Role};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::row::Row;

/// Requests per second of the traffic.
pub(crate) const RATE: f64 = 200.0;
/// Longest traffic of a scenario.
const TRAFFIC_MAX: Duration = Duration::from_mins(8);
/// Longest wait for something that takes at most a few flush intervals.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Totals are final after this time without a change.
const STILL: Duration = Duration::from_millis(2_500);
/// Pause between two reads of the API.
const READ_EVERY: Duration = Duration::from_millis(50);
/// Longest time from an aggregator's start to its first value.
const BLIND_MAX_MS: u64 = 2_000;
/// Largest age of a value: a flush interval, a tick, and the way. Checked only where no fault
/// delays reports.
const AGE_MAX_MS: u64 = 1_500;

const METRIC: &str = "appmesh_requests_per_second";

/// Requests to `/` at [`RATE`] until it is stopped.
pub(crate) struct Traffic {
    pub(crate) tally: Arc<Tally>,
    stop: CancellationToken,
    task: JoinHandle<Result<()>>,
}

/// Results of the API's readers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReadCounts {
    pub(crate) worst_age_ms: Option<u64>,
    pub(crate) worst_blind_ms: Option<u64>,
}

/// A port where connections are accepted and nothing is ever read.
pub(crate) struct BlackHole {
    task: JoinHandle<()>,
}

// === impl Traffic ===

impl Traffic {
    pub(crate) fn start(target: SocketAddr) -> Self {
        let phase = Phase {
            rate: RATE,
            duration: TRAFFIC_MAX,
        };
        let (tally, stop) = (Arc::<Tally>::default(), CancellationToken::new());
        let load = Load::new(target, vec![phase]);
        let task = tokio::spawn(load.run(Arc::clone(&tally), stop.clone()));
        Self { tally, stop, task }
    }

    /// Waits until `requests` more were written.
    pub(crate) async fn more(&self, requests: u64) -> Result<()> {
        let until = self.tally.written() + requests;
        clock::wait_for("traffic", PATIENCE, async || {
            Ok((self.tally.written() >= until).then_some(()))
        })
        .await
    }

    /// Stops and waits for the answers.
    pub(crate) async fn stop(self) -> Result<Arc<Tally>> {
        self.stop.cancel();
        self.task.await.context("the load died")??;
        Ok(self.tally)
    }

    /// As [`Self::stop`]; fails unless every request was answered with 200.
    pub(crate) async fn stop_unhurt(self) -> Result<Arc<Tally>> {
        let tally = self.stop().await?;
        let answers = tally.answers();
        let good = answers.get(&200).copied().unwrap_or(0);
        ensure!(
            good == tally.written() && tally.refused() == 0 && tally.skipped() == 0,
            "traffic was hurt: {} requests, answers {answers:?}, {} without a connection, {} skipped",
            tally.written(),
            tally.refused(),
            tally.skipped()
        );
        Ok(tally)
    }
}

// === impl ReadCounts ===

impl ReadCounts {
    /// Reads the API for a while, as an autoscaler would.
    pub(crate) async fn read(&mut self, aggregator: &Aggregator, time: Duration) -> Result<()> {
        let start = clock::now();
        while start.elapsed() < time {
            let list = aggregator
                .api()
                .pods_metric(NAMESPACE, "app=app", METRIC)
                .await;
            if let Ok(list) = list {
                self.worst_age_ms = self.worst_age_ms.max(list.signal_age_ms);
            }
            tokio::time::sleep(READ_EVERY).await;
        }
        Ok(())
    }

    /// Waits for the first value of an aggregator that listens since now.
    pub(crate) async fn first_value(&mut self, aggregator: &Aggregator) -> Result<()> {
        let start = clock::now();
        first_value(aggregator).await?;
        let blind = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.worst_blind_ms = self.worst_blind_ms.max(Some(blind));
        Ok(())
    }

    /// Adds the results to the row and checks them.
    pub(crate) fn judge(self, row: &mut Row) {
        row.worst_age_ms = self.worst_age_ms;
        row.worst_blind_ms = self.worst_blind_ms;
        let blind = self.worst_blind_ms.unwrap_or(0);
        row.promise(blind <= BLIND_MAX_MS, || {
            format!("blind for {blind} ms, at most {BLIND_MAX_MS}")
        });
        let age = self.worst_age_ms.unwrap_or(0);
        row.promise(age <= AGE_MAX_MS, || {
            format!("a value was {age} ms old, at most {AGE_MAX_MS}")
        });
    }
}

/// Waits until the pod has a value above 0.
pub(crate) async fn first_value(aggregator: &Aggregator) -> Result<()> {
    clock::wait_for("a value at the API", PATIENCE, async || {
        let list = aggregator
            .api()
            .pods_metric(NAMESPACE, "app=app", METRIC)
            .await;
        let value = list.ok().and_then(|list| list.value(POD));
        Ok(value.filter(|value| *value > 0.0).map(|_| ()))
    })
    .await
    .with_context(|| format!("the aggregator's log ends:\n{}", aggregator.log_tail()))
}

/// Whether the API omits the pod or fails, as it must while a VM is dead.
pub(crate) async fn is_unknown(aggregator: &Aggregator) -> bool {
    let list = aggregator
        .api()
        .pods_metric(NAMESPACE, "app=app", METRIC)
        .await;
    list.map_or(true, |list| list.item(POD).is_none())
}

// === impl BlackHole ===

impl BlackHole {
    pub(crate) async fn start(address: SocketAddr) -> Result<(Self, SocketAddr)> {
        let listener = TcpListener::bind(address)
            .await
            .context("bind the black hole")?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((connection, _)) = listener.accept().await {
                held.push(connection);
            }
        });
        Ok((Self { task }, address))
    }

    pub(crate) async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// The plugins that count requests and attempts, of the pod of all tests.
pub(crate) fn plugins() -> Result<[Plugin; 2]> {
    Ok([plugin(Role::Filter)?, plugin(Role::UpstreamLog)?])
}

/// Requests and attempts by Envoy's own statistics.
pub(crate) async fn stats_of(envoy: &Envoy, but: &[&str]) -> Result<(u64, u64)> {
    let stats = envoy.stats().await?;
    let mut but = but.to_vec();
    but.push(AGGREGATOR_CLUSTER);
    Ok((
        stats.downstream_rq_total(FRONT),
        stats.upstream_rq_total(&but),
    ))
}

/// Requests and attempts of `pod` once they stand still, and are what is `due` if they ever will
/// be.
pub(crate) async fn counted(
    aggregator: &Aggregator,
    pod: &str,
    due: (u64, u64),
) -> Result<(u64, u64)> {
    let start = clock::now();
    let mut last = (0, 0);
    let mut since = clock::now();
    loop {
        let pods = aggregator.pods().await?;
        let now = pods.find(NAMESPACE, pod).map_or((0, 0), totals);
        if now != last {
            (last, since) = (now, clock::now());
        }
        let still = since.elapsed() >= STILL;
        if still && (last == due || start.elapsed() > PATIENCE) {
            return Ok(last);
        }
        if start.elapsed() > 2 * PATIENCE {
            bail!("totals still move: {last:?}");
        }
        tokio::time::sleep(READ_EVERY).await;
    }
}

fn totals(pod: &PodState) -> (u64, u64) {
    (
        pod.requests("inbound").unwrap_or(0),
        pod.attempts().unwrap_or(0),
    )
}

/// The two rows of a scenario.
pub(crate) fn rows(
    scenario: &'static str,
    sent: (u64, u64),
    counted: (u64, u64),
    seen: ReadCounts,
) -> Vec<Row> {
    let mut requests = Row::new(scenario, "requests", sent.0, counted.0);
    seen.judge(&mut requests);
    vec![requests, Row::new(scenario, "attempts", sent.1, counted.1)]
}

/// Resident memory of a process, in KiB.
pub(crate) fn resident_kib(pid: Option<u32>) -> Result<u64> {
    let pid = pid.context("the process has ended")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line
        .and_then(|rest| rest.split_whitespace().next())
        .context("VmRSS")?;
    kib.parse().context("VmRSS")
}
