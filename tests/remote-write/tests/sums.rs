//! Two replicas that each write their own sums, killed in turn under traffic, and what a reader of
//! the larger rate sees.
#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use parking_lot::Mutex;
use tests_envoy::FRONT;
use tests_remote_write::PATIENCE;
use tests_remote_write::pair::{NAMES, Pair};
use tests_support::aggregator::Aggregator;
use tests_support::{clock, http};
use tokio_util::sync::CancellationToken;

/// The window that is read, in seconds.
const WINDOW: f64 = 10.0;

/// Between a request and the sample that tells it, in seconds: a report and a flush each second,
/// and some for a busy machine.
const LAG: f64 = 4.0;

/// A replica is away for so long, and as long as it takes to start: less than a window.
const AWAY: Duration = Duration::from_secs(5);

const PAUSE: Duration = Duration::from_millis(50);

const SUMS: &str = "envoy_cluster_upstream_rq_total{service=\"app\",cluster=\"test\"}";

/// When requests were answered, in seconds of Unix time.
#[derive(Clone, Debug, Default)]
struct Truth(Arc<Mutex<Vec<f64>>>);

// === impl Truth ===

impl Truth {
    /// Sends one request after the other until `stop`.
    async fn make(self, front: SocketAddr, stop: CancellationToken) {
        while !stop.is_cancelled() {
            http::get_ok(front, "/").await.unwrap();
            self.0.lock().push(now());
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn all(&self) -> f64 {
        self.between(0.0, f64::INFINITY)
    }

    fn between(&self, begin: f64, end: f64) -> f64 {
        let within = |at: &&f64| **at > begin && **at <= end;
        let count = self.0.lock().iter().filter(within).count();
        f64::from(u32::try_from(count).unwrap())
    }
}

fn now() -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit")]
    let millis = clock::unix().0 as f64;
    millis / 1e3
}

/// What each replica's sums grew by, as `increase()` counts it but without extrapolation, and when
/// it wrote last.
async fn told(pair: &Pair) -> Result<BTreeMap<String, (f64, f64)>> {
    let mut told: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for series in pair.prometheus.query(&format!("{SUMS}[30m]")).await? {
        let of = told.entry(series.labels["replica"].clone()).or_default();
        for pair in series.samples.windows(2) {
            let (before, after) = (pair[0].1, pair[1].1);
            of.0 += if after < before {
                after
            } else {
                after - before
            };
            of.1 = of.1.max(pair[1].0);
        }
    }
    Ok(told)
}

/// Waits for each replica to write what it has at this moment.
async fn both_write(pair: &Pair) -> Result<()> {
    let since = now();
    clock::wait_for("both replicas to write", PATIENCE, async || {
        let told = told(pair).await?;
        let writes = |name| told.get(name).is_some_and(|(_, last)| *last > since);
        Ok(NAMES.into_iter().all(writes).then_some(()))
    })
    .await
}

/// Waits for each replica to have told all requests, each once.
async fn arrives(pair: &Pair, sent: f64) -> Result<()> {
    clock::wait_for(&format!("{sent} requests of each"), PATIENCE, async || {
        let told = told(pair).await?;
        let all = |name| told.get(name).map_or(0.0, |(increase, _)| *increase);
        let of = NAMES.map(all);
        ensure!(of.iter().all(|told| *told <= sent), "{of:?}, {sent} sent");
        Ok(of.iter().all(|told| sent - *told < 0.5).then_some(()))
    })
    .await
}

/// The query of the documentation, at each second.
async fn readings(pair: &Pair) -> Result<Vec<(f64, f64)>> {
    let query = format!("sum(max without (replica) (increase({SUMS}[{WINDOW}s])))[30m:1s]");
    let series = pair.prometheus.query(&query).await?;
    ensure!(series.len() == 1, "{series:?}");
    Ok(series[0].samples.clone())
}

/// Each replica is killed and comes back within a window. In each window the larger increase is
/// what was sent, give or take what is on its way at its ends; all windows together are never above
/// what was sent, nor more than one window below it; and each replica goes on from its checkpoint
/// as if it had never been away.
#[tokio::test(flavor = "multi_thread")]
async fn the_larger_rate_is_right_while_replicas_are_killed() {
    let mut pair = Pair::start(&["--remote-write-output=summed"])
        .await
        .unwrap();
    let (truth, stop) = (Truth::default(), CancellationToken::new());
    let front = pair.envoy.listener(FRONT).unwrap();
    let traffic = tokio::spawn(truth.clone().make(front, stop.clone()));
    both_write(&pair).await.unwrap();
    let window = Duration::from_secs_f64(WINDOW);
    tokio::time::sleep(window).await;
    let begin = now();
    for name in NAMES {
        pair.replicas.get_mut(name).unwrap().kill().await.unwrap();
        tokio::time::sleep(AWAY).await;
        pair.restart(name).await.unwrap();
        both_write(&pair).await.unwrap();
        tokio::time::sleep(window).await;
    }
    let end = now();
    stop.cancel();
    traffic.await.unwrap();
    arrives(&pair, truth.all()).await.unwrap();

    let mut readings = readings(&pair).await.unwrap();
    readings.retain(|(at, _)| (begin..end).contains(at));
    assert!(readings.len() > 30, "{readings:?}");
    for (at, value) in &readings {
        let low = truth.between(at - WINDOW + 2.0, at - LAG);
        let high = truth.between(at - WINDOW - LAG, at + 1.0);
        let log = || {
            pair.replicas
                .values()
                .map(Aggregator::log_tail)
                .collect::<String>()
        };
        assert!(
            (low..=high).contains(value),
            "{value} at {at}, not {low} to {high}: {}",
            log()
        );
    }
    // Windows that touch one another.
    let windows: Vec<_> = readings.iter().step_by(10).collect();
    let (first, last) = (windows[0].0, windows[windows.len() - 1].0);
    let all: f64 = windows.iter().map(|(_, value)| value).sum();
    let sent = truth.between(first - WINDOW, last);
    let one = truth.between(last - WINDOW, last);
    let on_its_way = truth.between(first - WINDOW - LAG, first - WINDOW);
    assert!(all <= sent + on_its_way, "{all} of {sent}");
    assert!(all >= sent - one, "{all} of {sent}, {one} in a window");
}
