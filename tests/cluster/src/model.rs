//! A control plane in this process: an API server with recorded behaviour, and the two controllers
//! that matter here.
//!
//! One keeps as many pods as a Deployment wants; the other asks for the metric through the
//! aggregation layer, as kube-apiserver passes such requests on, and decides by the recorded maths.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tests_support::clock;
use tests_support::kubernetes::hpa::{Answer, Autoscaler, Decision, Metric, Values};
use tests_support::kubernetes::objects::{
    AUTOSCALER, DEPLOYMENT, Objects, POD, REPLICA_SET, Resource,
};
use tests_support::kubernetes::proxy::HPA_USER;
use tests_support::kubernetes::{AggregationLayer, ApiServer};
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::rest::NAMESPACE;

/// As `--horizontal-pod-autoscaler-sync-period` of the real one.
const SYNC_PERIOD: Duration = Duration::from_secs(1);
/// As `--horizontal-pod-autoscaler-downscale-stabilization` of the real one.
const DOWNSCALE_STABILISATION: Duration = Duration::from_secs(10);
/// The version that the controller prefers.
const SERVICE: &str = "v1beta2.custom.metrics.k8s.io";

/// A running model; ends when dropped.
#[derive(Debug)]
pub struct Model {
    shared: Arc<Shared>,
    _stop: DropGuard,
}

#[derive(Debug)]
struct Shared {
    server: ApiServer,
    /// The way to the aggregator, once it is registered.
    layer: Mutex<Option<Arc<AggregationLayer>>>,
}

/// Recent recommendations, for downscale stabilisation.
type Recommendations = BTreeMap<String, VecDeque<(Instant, u32)>>;

// === impl Model ===

impl Model {
    pub(crate) async fn start(kubeconfig: &Path) -> Result<Self> {
        let server = ApiServer::start().await?;
        server.write_kubeconfig(kubeconfig)?;
        server.allow(HPA_USER);
        let shared = Arc::new(Shared {
            server,
            layer: Mutex::default(),
        });
        let stop = CancellationToken::new();
        let running = Arc::clone(&shared);
        let controllers = async move {
            let mut recommendations = Recommendations::new();
            loop {
                running.keep_pods();
                running.sync(&mut recommendations).await;
                sleep(SYNC_PERIOD).await;
            }
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(controllers));
        Ok(Self {
            shared,
            _stop: stop.drop_guard(),
        })
    }

    pub(crate) fn lead_to(&self, api: SocketAddr) {
        let proxy = self.shared.server.front_proxy();
        let layer = proxy.layer(api, "meshmeter-api.meshmeter.svc");
        let mut held = self.shared.layer.lock();
        *held = Some(Arc::new(layer));
    }
}

// === impl Shared ===

impl Shared {
    fn objects(&self) -> &Objects {
        self.server.objects()
    }

    /// The Deployment and `ReplicaSet` controllers.
    fn keep_pods(&self) {
        let (_, deployments) = self.objects().list(DEPLOYMENT, NAMESPACE);
        for deployment in deployments {
            let name = text(&deployment["metadata"]["name"]);
            let set = format!("{name}-5d8f7c");
            if self.objects().get(REPLICA_SET, NAMESPACE, &set).is_none() {
                let owner = owner("Deployment", &name, &deployment["metadata"]["uid"]);
                let metadata =
                    json!({"namespace": NAMESPACE, "name": set, "ownerReferences": owner});
                self.objects()
                    .apply(REPLICA_SET, json!({"metadata": metadata}));
            }
            let wanted = deployment["spec"]["replicas"].as_u64().unwrap_or(0);
            for number in 0..50 {
                let pod = format!("{set}-{number}");
                let there = self.objects().get(POD, NAMESPACE, &pod).is_some();
                if number < wanted && !there {
                    let uid = self.objects().get(REPLICA_SET, NAMESPACE, &set);
                    let uid = uid.map_or(Value::Null, |set| set["metadata"]["uid"].clone());
                    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
                    let owner = owner("ReplicaSet", &set, &uid);
                    let metadata = json!({
                        "namespace": NAMESPACE, "name": pod, "labels": labels, "ownerReferences": owner});
                    let status = json!({"phase": "Pending"});
                    self.objects()
                        .apply(POD, json!({"metadata": metadata, "status": status}));
                } else if number >= wanted && there {
                    self.objects().delete(POD, NAMESPACE, &pod);
                }
            }
        }
    }

    /// One sync of each autoscaler.
    async fn sync(&self, recommendations: &mut Recommendations) {
        let (_, autoscalers) = self.objects().list(AUTOSCALER, NAMESPACE);
        for autoscaler in autoscalers {
            let name = text(&autoscaler["metadata"]["name"]);
            let Ok((model, metric)) = parse(&autoscaler) else {
                continue;
            };
            let Some(deployment) = self.objects().get(DEPLOYMENT, NAMESPACE, &name) else {
                continue;
            };
            let labels = deployment["spec"]["selector"]["matchLabels"].clone();
            let pods = self.running(&labels);
            let answer = self.ask(&metric, &labels).await;
            let decision = model.decide(&pods, &[answer]);
            let here = deployment["spec"]["replicas"].as_u64().unwrap_or(0);
            if let Some(replicas) = decision.replicas {
                let recent = recommendations.entry(name.clone()).or_default();
                let replicas = stabilised(recent, replicas, here);
                if u64::from(replicas) != here {
                    self.change(DEPLOYMENT, &name, |deployment| {
                        deployment["spec"]["replicas"] = replicas.into();
                    });
                }
            }
            self.change(AUTOSCALER, &name, |autoscaler| {
                autoscaler["status"] = status(&decision);
            });
        }
    }

    /// Changes an object as it is by now: a test may have changed it since it was read.
    fn change(&self, resource: Resource, name: &str, change: impl FnOnce(&mut Value)) {
        let changed = self.objects().update(resource, NAMESPACE, name, |now| {
            let mut object = now.cloned().ok_or(())?;
            change(&mut object);
            Ok::<_, ()>(object)
        });
        // What was deleted meanwhile stays so.
        drop(changed);
    }

    fn running(&self, labels: &Value) -> Vec<String> {
        let (_, pods) = self.objects().list(POD, NAMESPACE);
        let matches = |pod: &&Value| pod["metadata"]["labels"] == *labels;
        let is_running = |pod: &&Value| pod["status"]["phase"] == "Running";
        let pods = pods.iter().filter(matches).filter(is_running);
        pods.map(|pod| text(&pod["metadata"]["name"])).collect()
    }

    async fn ask(&self, metric: &str, labels: &Value) -> Answer {
        let layer = self.layer.lock().clone();
        let layer = layer.ok_or("no custom metrics API (custom.metrics.k8s.io) registered")?;
        let pairs = labels.as_object().into_iter().flatten();
        let selector: Vec<String> = pairs
            .map(|(key, value)| format!("{key}%3D{}", text(value)))
            .collect();
        let path = format!(
            "/apis/custom.metrics.k8s.io/v1beta2/namespaces/{NAMESPACE}/pods/%2A/{metric}?labelSelector={}",
            selector.join("%2C")
        );
        let list = layer.get(self.objects(), SERVICE, &path).await;
        let list = list.map_err(|refused| match refused.code {
            503 => format!("{} (get pods.custom.metrics.k8s.io *)", refused.message),
            _ => refused.message,
        })?;
        let items = list["items"].as_array().into_iter().flatten();
        let values = items.map(|item| {
            let milli = milli(&text(&item["value"])).ok_or("not a quantity")?;
            Ok((text(&item["describedObject"]["name"]), milli))
        });
        Ok(Values::PerPod(values.collect::<Result<_, &str>>()?))
    }
}

/// The highest recommendation of the window on the way down, the newest one on the way up.
fn stabilised(recent: &mut VecDeque<(Instant, u32)>, newest: u32, here: u64) -> u32 {
    let now = clock::now();
    recent.push_back((now, newest));
    while recent
        .front()
        .is_some_and(|(at, _)| now - *at > DOWNSCALE_STABILISATION)
    {
        recent.pop_front();
    }
    if u64::from(newest) >= here {
        return newest;
    }
    let highest = recent.iter().map(|(_, count)| *count).max();
    let here = u32::try_from(here).unwrap_or(u32::MAX);
    highest.unwrap_or(newest).min(here)
}

fn parse(autoscaler: &Value) -> Result<(Autoscaler, String)> {
    let spec = &autoscaler["spec"];
    let count = |field: &str| {
        let count = spec[field].as_u64().context("bounds")?;
        u32::try_from(count).context("bounds")
    };
    let of_pods = &spec["metrics"][0]["pods"];
    let metric = text(&of_pods["metric"]["name"]);
    let target = milli(&text(&of_pods["target"]["averageValue"])).context("target")?;
    let mut model = Autoscaler::new(
        count("minReplicas")?,
        count("maxReplicas")?,
        vec![Metric::pods(&metric, target)],
    );
    // The controller's default: twice as many, or four, whichever is more.
    model.factor_up = Some(2);
    Ok((model, metric))
}

fn status(decision: &Decision) -> Value {
    let (reason, message) = &decision.active;
    let is_active = if decision.replicas.is_some() {
        "True"
    } else {
        "False"
    };
    let active = json!({
        "type": "ScalingActive", "status": is_active, "reason": reason, "message": message});
    let limited = decision.limited.map(|(reason, message)| {
        json!({"type": "ScalingLimited", "status": "True", "reason": reason, "message": message})
    });
    let conditions: Vec<Value> = std::iter::once(active).chain(limited).collect();
    json!({"desiredReplicas": decision.replicas, "conditions": conditions})
}

/// A quantity of ours in thousandths: digits, and `m`, `k` or `M` behind them.
fn milli(text: &str) -> Option<i128> {
    let (digits, factor) = match text.strip_suffix(['m', 'k', 'M']) {
        None => (text, 1000),
        Some(digits) if text.ends_with('m') => (digits, 1),
        Some(digits) if text.ends_with('k') => (digits, 1_000_000),
        Some(digits) => (digits, 1_000_000_000),
    };
    Some(digits.parse::<i128>().ok()? * factor)
}

fn owner(kind: &str, name: &str, uid: &Value) -> Value {
    json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true}])
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
