//! A control plane in this process: an API server with recorded behaviour, and the two controllers
//! that matter here.
//!
//! One keeps as many pods as a Deployment wants; the other asks for the metric through the
//! aggregation layer, as kube-apiserver passes such requests on, and decides by the recorded maths.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use autoscaler::{Answer, Decision, Hpa, Memory, Observed, Phase, Pod, Quantity, Source, Values};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tests_support::clock;
use tests_support::kubernetes::objects::{
    AUTOSCALER, DEPLOYMENT, Objects, POD, REPLICA_SET, Resource,
};
use tests_support::kubernetes::proxy::HPA_USER;
use tests_support::kubernetes::{AggregationLayer, ApiServer};
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::objects::DOWNSCALE_STABILISATION;
use crate::rest::NAMESPACE;

/// As `--horizontal-pod-autoscaler-sync-period` of the real one.
const SYNC_PERIOD: Duration = Duration::from_secs(1);
/// The version that the controller prefers.
const SERVICE: &str = "v1beta2.custom.metrics.k8s.io";

/// The aggregator's own group.
const VIEW_SERVICE: &str = "v1.view.meshmeter.io";

/// A running model; ends when dropped.
#[derive(Debug)]
pub struct Model {
    shared: Arc<Shared>,
    _stop: DropGuard,
}

/// A way to the aggregator.
#[derive(Clone, Debug)]
pub struct Viewer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    server: ApiServer,
    /// The way to the aggregator, once it is registered.
    layer: Mutex<Option<Arc<AggregationLayer>>>,
}

/// What the controller remembers, by the name of the autoscaler.
struct Memories {
    start: Instant,
    by_name: BTreeMap<String, Memory>,
}

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
            let mut memories = Memories {
                start: clock::now(),
                by_name: BTreeMap::new(),
            };
            loop {
                running.keep_pods();
                running.sync(&mut memories).await;
                sleep(SYNC_PERIOD).await;
            }
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(controllers));
        Ok(Self {
            shared,
            _stop: stop.drop_guard(),
        })
    }

    /// A way to the aggregator past the controllers.
    pub(crate) fn viewer(&self) -> Viewer {
        Viewer(Arc::clone(&self.shared))
    }

    pub(crate) fn lead_to(&self, api: SocketAddr) {
        let proxy = self.shared.server.front_proxy();
        let layer = proxy.layer(api, "meshmeter-api.meshmeter.svc");
        let mut held = self.shared.layer.lock();
        *held = Some(Arc::new(layer));
    }
}

// === impl Viewer ===

impl Viewer {
    /// The document at `path` of the aggregator's own API group.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let layer = self.0.layer.lock().clone();
        let layer = layer.context("no aggregator is registered")?;
        let document = layer.get(self.0.objects(), VIEW_SERVICE, path).await;
        document
            .map_err(|refused| anyhow!("{} {} {}", refused.code, refused.message, refused.detail))
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
    async fn sync(&self, memories: &mut Memories) {
        let (_, autoscalers) = self.objects().list(AUTOSCALER, NAMESPACE);
        for autoscaler in autoscalers {
            let name = text(&autoscaler["metadata"]["name"]);
            let Ok(mut hpa) = Hpa::from_json(&autoscaler) else {
                continue;
            };
            hpa.settings.downscale_stabilization = DOWNSCALE_STABILISATION;
            let Some(deployment) = self.objects().get(DEPLOYMENT, NAMESPACE, &name) else {
                continue;
            };
            let labels = deployment["spec"]["selector"]["matchLabels"].clone();
            let pods = self.pods(&labels);
            let mut answers = Vec::new();
            for metric in &hpa.metrics {
                answers.push(match metric.source {
                    Source::Pods { .. } => self.ask(&metric.name, &labels).await,
                    _ => Err("only metrics of pods are answered here".to_owned()),
                });
            }
            let here = deployment["spec"]["replicas"].as_u64();
            let here = here.and_then(|here| u32::try_from(here).ok()).unwrap_or(0);
            let observed = Observed {
                now: memories.start.elapsed(),
                replicas: here,
                status_replicas: None,
                pods: &pods,
                answers: &answers,
            };
            let memory = memories.by_name.entry(name.clone()).or_default();
            let decision = hpa.decide(memory, &observed);
            if let Some(replicas) = decision.replicas.filter(|replicas| *replicas != here) {
                self.change(DEPLOYMENT, &name, |deployment| {
                    deployment["spec"]["replicas"] = replicas.into();
                });
            }
            self.change(AUTOSCALER, &name, |autoscaler| {
                let desired = autoscaler["status"]["desiredReplicas"]
                    .as_u64()
                    .unwrap_or(0);
                autoscaler["status"] = status(&decision, here, desired);
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

    fn pods(&self, labels: &Value) -> Vec<Pod> {
        let (_, pods) = self.objects().list(POD, NAMESPACE);
        let matches = |pod: &&Value| pod["metadata"]["labels"] == *labels;
        let pod = |pod: &Value| {
            let name = text(&pod["metadata"]["name"]);
            let phase = match pod["status"]["phase"].as_str() {
                Some("Running") => Phase::Running,
                Some("Succeeded") => Phase::Succeeded,
                Some("Failed") => Phase::Failed,
                _ => Phase::Pending,
            };
            Pod {
                phase,
                deleting: !pod["metadata"]["deletionTimestamp"].is_null(),
                ..Pod::running(name)
            }
        };
        pods.iter().filter(matches).map(pod).collect()
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
            let value = Quantity::parse(&text(&item["value"])).ok_or("not a quantity")?;
            Ok((text(&item["describedObject"]["name"]), value.milli()))
        });
        Ok(Values::PerPod(values.collect::<Result<_, &str>>()?))
    }
}

/// The status after a sync with `here` replicas; what was desired stays if nothing was computed.
fn status(decision: &Decision, here: u32, desired: u64) -> Value {
    let set = [
        ("ScalingActive", &decision.active),
        ("AbleToScale", &decision.able),
        ("ScalingLimited", &decision.limited),
    ];
    let conditions = set.into_iter().filter_map(|(kind, condition)| {
        let condition = condition.as_ref()?;
        let is_true = if condition.is_true { "True" } else { "False" };
        Some(json!({
            "type": kind, "status": is_true,
            "reason": condition.reason, "message": condition.message,
        }))
    });
    json!({
        "currentReplicas": here,
        "desiredReplicas": decision.replicas.map_or(desired, u64::from),
        "conditions": conditions.collect::<Vec<_>>(),
    })
}

fn owner(kind: &str, name: &str, uid: &Value) -> Value {
    json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true}])
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
