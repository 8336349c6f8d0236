//! Everything that a scenario acts on, and how one is measured.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::join_all;
use http::Method;
use parking_lot::Mutex;
use serde_json::Value;
use tests_support::clock;

use crate::api::{Cluster, proxied, until};
use crate::install::{Release, app_pods, name};
use crate::ledger::{AppCounts, Ledger, Sums};
use crate::names::{CONTROL_PORT, HANDS, HANDS_PORT, NAMESPACE, TARGET};
use crate::row::{Allowed, Row};
use crate::watch::Watch;

/// Load before and after what a scenario does.
const AROUND: Duration = Duration::from_secs(4);
/// Longest wait until counts stand still.
const STILL_WITHIN: Duration = Duration::from_secs(40);

/// An installed release with djapp.
#[derive(Debug)]
pub struct Rig {
    pub cluster: Cluster,
    pub release: Release,
    pub watch: Watch,
    /// Pods that ended and on which both sides did not agree in time: nothing changes that any
    /// more.
    settled: Mutex<BTreeSet<String>>,
}

/// All that is counted, at one time.
#[derive(Debug, Default)]
struct Snapshot {
    load: LoadCounts,
    sums: Sums,
    api_good: u64,
    api_bad: u64,
}

#[derive(Clone, Debug, Default)]
struct LoadCounts {
    sent: u64,
    answered: u64,
    failed: u64,
    texts: Value,
}

// === impl Rig ===

impl Rig {
    pub fn new(cluster: &Cluster, release: &Release) -> Self {
        Self {
            cluster: cluster.clone(),
            release: release.clone(),
            watch: Watch::start(cluster),
            settled: Mutex::default(),
        }
    }

    /// Runs `act` under `rate` requests per second, and counts what there was meanwhile.
    pub async fn measure(
        &self,
        scenario: &'static str,
        rate: u32,
        allowed: Allowed,
        act: impl AsyncFnOnce(&mut Row) -> Result<()>,
    ) -> Result<Row> {
        let before = self.snapshot().await?;
        let mut row = Row {
            scenario,
            ..Row::default()
        };
        self.load(rate).await?;
        tokio::time::sleep(AROUND).await;
        let begun = clock::now();
        let acted = act(&mut row).await;
        row.seconds = begun.elapsed().as_secs_f64();
        tokio::time::sleep(AROUND).await;
        // In any case: the next scenario begins without load.
        self.load(0).await?;
        acted?;
        let after = self.snapshot().await?;
        row.sent = after.load.sent - before.load.sent;
        row.answered = after.load.answered - before.load.answered;
        row.failed = after.load.failed - before.load.failed;
        row.sums = after.sums.since(before.sums);
        row.api_good = after.api_good - before.api_good;
        row.api_bad = after.api_bad - before.api_bad;
        row.judge(allowed);
        if !row.broken.is_empty() {
            row.broken.extend(self.why(&after).await?);
        }
        Ok(row)
    }

    /// Texts of what was bad, and pods on which counts differ.
    async fn why(&self, after: &Snapshot) -> Result<Vec<String>> {
        let (ledger, _) = self.ledger(STILL_WITHIN).await?;
        let mut why = ledger.differences();
        why.push(format!("failed requests so far: {}", after.load.texts));
        why.push(format!(
            "bad answers of the API so far: {:?}",
            self.watch.seen().api_texts
        ));
        Ok(why)
    }

    /// Sets the load of dj, in requests per second.
    pub async fn load(&self, rate: u32) -> Result<()> {
        let dj = self.pod("dj").await?;
        let path = format!("/load?rate={rate}&url={TARGET}");
        let path = proxied(NAMESPACE, name(&dj), CONTROL_PORT, &path);
        let set = async || self.cluster.text(Method::POST, &path).await.map(Some);
        until("the load to be set", Duration::from_secs(30), set)
            .await
            .map(drop)
    }

    async fn load_counts(&self) -> Result<LoadCounts> {
        let dj = self.pod("dj").await?;
        let path = proxied(NAMESPACE, name(&dj), CONTROL_PORT, "/load");
        let said = self.cluster.get(&path).await?;
        let count = |value: &Value| value.as_u64().unwrap_or_default();
        let answers = said["answers"].as_object().context("no answers")?;
        let others = answers.iter().filter(|(status, _)| *status != "200");
        Ok(LoadCounts {
            sent: count(&said["sent"]),
            answered: count(&said["answers"]["200"]),
            failed: others.map(|(_, number)| count(number)).sum::<u64>() + count(&said["broken"]),
            texts: said["texts"].clone(),
        })
    }

    /// Waits until every request has an outcome and both sides agree, or do not in time.
    async fn snapshot(&self) -> Result<Snapshot> {
        let outcomes = async || {
            let load = self.load_counts().await?;
            Ok((load.sent == load.answered + load.failed).then_some(load))
        };
        let (load, _) = until("outcomes of all requests", STILL_WITHIN, outcomes).await?;
        let (ledger, seen) = self.ledger(STILL_WITHIN).await?;
        Ok(Snapshot {
            load,
            sums: ledger.sums(),
            api_good: seen.0,
            api_bad: seen.1,
        })
    }

    /// What applications and meshmeter counted. Probes and checks go on, so a pod is looked at
    /// until both agree at one moment, but no longer than `limit`.
    async fn ledger(&self, limit: Duration) -> Result<(Ledger, (u64, u64))> {
        let mut ledger = Ledger::default();
        let begun = clock::now();
        loop {
            let pods = app_pods(&self.cluster).await.unwrap_or_default();
            let open = pods.iter().map(name).filter(|pod| !ledger.agrees(pod));
            let open: Vec<_> = open.map(str::to_owned).collect();
            // First what was counted: what comes in meanwhile shows as a difference, and is looked
            // at again.
            let counted = self.watch.now().await.counted;
            let counts = join_all(open.iter().map(|pod| self.app_counts(pod))).await;
            for (pod, counts) in open.iter().zip(counts) {
                ledger.app.extend(counts.ok().map(|app| (pod.clone(), app)));
                ledger
                    .ours
                    .extend(counted.of(pod).map(|ours| (pod.clone(), ours)));
            }
            let mut agree = !pods.is_empty() && open.iter().all(|pod| ledger.agrees(pod));
            let seen = self.watch.seen();
            for (pod, app) in &seen.finals {
                let ours = seen.counted.of(pod);
                ledger.ours.extend(ours.map(|ours| (pod.clone(), ours)));
                ledger.app.insert(pod.clone(), *app);
            }
            let ended = seen.finals.keys().filter(|pod| !ledger.agrees(pod));
            let ended: BTreeSet<_> = ended.cloned().collect();
            agree &= ended.is_subset(&self.settled.lock());
            let is_late = begun.elapsed() >= limit;
            if is_late {
                self.settled.lock().extend(ended);
            }
            if agree || is_late {
                return Ok((ledger, (seen.api_good, seen.api_bad)));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn app_counts(&self, pod: &str) -> Result<AppCounts> {
        let path = proxied(NAMESPACE, pod, CONTROL_PORT, "/counts");
        let said = self.cluster.get(&path).await?;
        AppCounts::of(&said).with_context(|| format!("{path}: {said}"))
    }

    /// The first pod with the label `app` that is not on its way out.
    pub async fn pod(&self, app: &str) -> Result<Value> {
        let pods = app_pods(&self.cluster).await?;
        let mut pods = pods
            .into_iter()
            .filter(|pod| pod["metadata"]["labels"]["app"] == app);
        pods.next()
            .with_context(|| format!("there is no pod of {app}"))
    }

    /// Has a node's hands do something; returns the number of processes it was done to.
    pub async fn hands(&self, node: &str, method: Method, path: &str) -> Result<u64> {
        let pods = self
            .cluster
            .list(&format!("/api/v1/namespaces/{HANDS}/pods"))
            .await?;
        let hands = pods.iter().find(|pod| pod["spec"]["nodeName"] == node);
        let hands = hands.with_context(|| format!("no hands on the node {node}"))?;
        let said = self
            .cluster
            .text(method, &proxied(HANDS, name(hands), HANDS_PORT, path))
            .await?;
        said.parse().with_context(|| format!("hands said {said}"))
    }

    /// Kills a container by SIGKILL and waits until it runs again and its pod is ready; returns how
    /// long that took.
    pub async fn kill(&self, namespace: &str, pod: &str, container: &str) -> Result<Duration> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}");
        let object = self.cluster.get(&path).await?;
        let status = container_status(&object, container).context("no such container")?;
        let id = status["containerID"]
            .as_str()
            .and_then(|id| id.split("//").nth(1));
        let id = id.context("the container has no id")?;
        let restarts = status["restartCount"].as_u64().unwrap_or_default();
        let node = object["spec"]["nodeName"]
            .as_str()
            .context("the pod has no node")?;
        let killed = self
            .hands(node, Method::POST, &format!("/kill?container={id}"))
            .await?;
        ensure!(
            killed > 0,
            "no process of {pod}'s container {container} was found on {node}"
        );
        let again = async || {
            let object = self.cluster.get(&path).await?;
            let status = container_status(&object, container).context("no such container")?;
            let restarted = status["restartCount"].as_u64() > Some(restarts);
            Ok((restarted && is_ready(&object)).then_some(()))
        };
        let what = format!("{container} of {pod} to run again");
        let ((), took) = until(&what, Duration::from_mins(2), again).await?;
        Ok(took)
    }

    /// Sets the replicas of a Deployment and waits until all are there.
    pub async fn scale(&self, namespace: &str, deployment: &str, replicas: u32) -> Result<()> {
        let what = format!("deployment/{deployment}");
        let number = format!("--replicas={replicas}");
        self.cluster
            .kubectl(&["-n", namespace, "scale", &what, &number])
            .await?;
        crate::install::rolled_out(&self.cluster, namespace, &what).await
    }
}

fn container_status<'a>(pod: &'a Value, container: &str) -> Option<&'a Value> {
    let lists =
        ["containerStatuses", "initContainerStatuses"].map(|list| pod["status"][list].as_array());
    let mut all = lists.into_iter().flatten().flatten();
    all.find(|status| status["name"] == container)
}

pub fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let mut ready = conditions.filter(|condition| condition["type"] == "Ready");
    ready.any(|condition| condition["status"] == "True")
}
