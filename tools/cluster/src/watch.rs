//! Looks at the cluster all the time while scenarios run: what the metrics API answers, what the
//! aggregators have counted, and what applications say when they end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::TryStreamExt as _;
use parking_lot::Mutex;
use serde_json::Value;
use tests_support::http;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::api::Cluster;
use crate::install::is_meshed;
use crate::ledger::{AppCounts, Counted};
use crate::names::{APPS, NAMESPACE, RELEASE, values_path};

const LOOK_EVERY: Duration = Duration::from_millis(500);
const TOTALS_WITHIN: Duration = Duration::from_secs(2);
/// Bad answers of the API whose text is kept.
const TEXTS_MAX: usize = 16;

/// What was seen so far.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub counted: Counted,
    /// What applications said last, of those that ended.
    pub finals: BTreeMap<String, AppCounts>,
    pub api_good: u64,
    pub api_bad: u64,
    pub api_texts: BTreeMap<String, u64>,
    /// Requests per second of jazz's pods, as answered last.
    pub rates: Vec<f64>,
    followed: BTreeSet<String>,
}

/// Looks until it is dropped.
#[derive(Debug)]
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    totals: Totals,
    _tasks: [AbortOnDropHandle<()>; 3],
}

// === impl Watch ===

impl Watch {
    pub fn start(cluster: &Cluster) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let spawn = |task: Pin<Box<dyn Future<Output = ()> + Send>>| {
            AbortOnDropHandle::new(tokio::spawn(task))
        };
        let totals = Totals {
            cluster: cluster.clone(),
            forwards: Arc::default(),
            seen: seen.clone(),
        };
        let tasks = [
            spawn(Box::pin(watch_api(cluster.clone(), seen.clone())) as Pin<Box<_>>),
            spawn(Box::pin(watch_totals(totals.clone()))),
            spawn(Box::pin(watch_logs(cluster.clone(), seen.clone()))),
        ];
        Self {
            seen,
            totals,
            _tasks: tasks,
        }
    }

    pub fn seen(&self) -> Seen {
        self.seen.lock().clone()
    }

    /// As [`Self::seen`], with what the aggregators count at this moment.
    pub async fn now(&self) -> Seen {
        self.totals.look().await;
        self.seen()
    }
}

/// Asks what the autoscaler of jazz asks.
async fn watch_api(cluster: Cluster, seen: Arc<Mutex<Seen>>) {
    let mut ticks = ticks();
    loop {
        ticks.tick().await;
        let answer = cluster.get(&values_path("app=jazz")).await;
        let rates = answer.and_then(|answer| rates(&answer));
        let mut seen = seen.lock();
        match rates {
            Ok(rates) => {
                seen.api_good += 1;
                seen.rates = rates;
            }
            Err(error) => {
                seen.api_bad += 1;
                let text = format!("{error:#}");
                if seen.api_texts.len() < TEXTS_MAX || seen.api_texts.contains_key(&text) {
                    *seen.api_texts.entry(text).or_default() += 1;
                }
            }
        }
    }
}

fn rates(list: &Value) -> Result<Vec<f64>> {
    let items = list["items"].as_array().context("no items")?;
    let rate = |item: &Value| {
        let quantity = item["value"].as_str().context("no value")?;
        let (number, factor) = match quantity.strip_suffix('m') {
            Some(number) => (number, 0.001),
            None => (quantity, 1.0),
        };
        let number: f64 = number.parse().with_context(|| quantity.to_owned())?;
        Ok(number * factor)
    };
    let rates = items.iter().map(rate).collect::<Result<Vec<_>>>()?;
    anyhow::ensure!(!rates.is_empty(), "an answer without a value");
    Ok(rates)
}

/// `kubectl port-forward` to one aggregator: it shows its pods to loopback alone.
#[derive(Debug)]
struct Forward {
    _child: Child,
    _drain: AbortOnDropHandle<()>,
    address: SocketAddr,
}

/// What the aggregators say they have counted.
#[derive(Clone, Debug)]
struct Totals {
    cluster: Cluster,
    forwards: Arc<tokio::sync::Mutex<BTreeMap<&'static str, Forward>>>,
    seen: Arc<Mutex<Seen>>,
}

async fn watch_totals(totals: Totals) {
    let mut ticks = ticks();
    loop {
        ticks.tick().await;
        totals.look().await;
    }
}

// === impl Totals ===

impl Totals {
    /// Asks each aggregator that answers.
    async fn look(&self) {
        let mut forwards = self.forwards.lock().await;
        for pod in ["meshmeter-0", "meshmeter-1"] {
            if !forwards.contains_key(pod) {
                match forward(&self.cluster, pod).await {
                    Ok(forward) => drop(forwards.insert(pod, forward)),
                    Err(_) => continue,
                }
            }
            let Some(forward) = forwards.get(pod) else {
                continue;
            };
            let Ok(Ok(pods)) = timeout(TOTALS_WITHIN, totals(forward)).await else {
                // Its pod has ended.
                forwards.remove(pod);
                continue;
            };
            let mut seen = self.seen.lock();
            for pod in &pods {
                seen.counted.take_in(pod);
            }
        }
    }
}

async fn forward(cluster: &Cluster, pod: &str) -> Result<Forward> {
    let mut command = cluster.command("kubectl");
    command.args([
        "-n",
        RELEASE,
        "port-forward",
        &format!("pod/{pod}"),
        ":7471",
    ]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn()?;
    let stdout = child.stdout.take().context("no stdout")?;
    let mut lines = BufReader::new(stdout).lines();
    let line = timeout(Duration::from_secs(5), lines.next_line()).await??;
    let line = line.context("kubectl port-forward ended")?;
    // Forwarding from 127.0.0.1:41234 -> 7471
    let port = line
        .split(" -> ")
        .next()
        .and_then(|from| from.rsplit(':').next());
    let port: u16 = port
        .and_then(|port| port.parse().ok())
        .with_context(|| line.clone())?;
    // It says more with each connection, and ends if nobody reads.
    let drain = tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok(Forward {
        _child: child,
        _drain: AbortOnDropHandle::new(drain),
        address: (Ipv4Addr::LOCALHOST, port).into(),
    })
}

async fn totals(forward: &Forward) -> Result<Vec<Value>> {
    let page: Value = http::get_ok(forward.address, "/debug/pods").await?.json()?;
    let pods = page["pods"].as_array().into_iter().flatten();
    Ok(pods
        .filter(|pod| pod["namespace"] == NAMESPACE)
        .cloned()
        .collect())
}

/// Follows the log of each application from its start: its last line has the final counts.
async fn watch_logs(cluster: Cluster, seen: Arc<Mutex<Seen>>) {
    let mut ticks = ticks();
    let mut tasks = Vec::new();
    loop {
        ticks.tick().await;
        let pods = cluster
            .list(&format!("/api/v1/namespaces/{NAMESPACE}/pods"))
            .await;
        for pod in pods.unwrap_or_default() {
            let name = pod["metadata"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            let app = pod["metadata"]["labels"]["app"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            let started = pod["status"]["containerStatuses"][0]["state"]["running"].is_object();
            let is_new = started
                && is_meshed(&pod)
                && APPS.contains(&app.as_str())
                && seen.lock().followed.insert(name.clone());
            if !is_new {
                continue;
            }
            let (cluster, seen) = (cluster.clone(), seen.clone());
            tasks.push(AbortOnDropHandle::new(tokio::spawn(async move {
                let counts = last_words(&cluster, &name, &app).await;
                let mut seen = seen.lock();
                match counts {
                    Ok(Some(counts)) => drop(seen.finals.insert(name, counts)),
                    // The stream broke; the pod is looked at again.
                    _ => drop(seen.followed.remove(&name)),
                }
            })));
        }
        tasks.retain(|task| !task.is_finished());
    }
}

async fn last_words(cluster: &Cluster, pod: &str, container: &str) -> Result<Option<AppCounts>> {
    let lines = cluster.log(NAMESPACE, pod, container).await?;
    let mut lines = std::pin::pin!(lines);
    while let Some(line) = lines.try_next().await? {
        if let Ok(said) = serde_json::from_str::<Value>(&line)
            && let Some(counts) = AppCounts::of(&said["final"])
        {
            return Ok(Some(counts));
        }
    }
    Ok(None)
}

fn ticks() -> tokio::time::Interval {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::rates;

    #[test]
    fn an_answer_is_good_if_each_item_has_a_number() {
        let list = json!({"items": [{"value": "1500m"}, {"value": "40"}]});
        assert_eq!(rates(&list).unwrap(), [1.5, 40.0]);
        for bad in [
            json!({"items": []}),
            json!({}),
            json!({"items": [{"value": "NaN?"}]}),
            json!({"items": [{"value": "1"}, {}]}),
        ] {
            rates(&bad).unwrap_err();
        }
    }
}
