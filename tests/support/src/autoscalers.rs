//! Autoscalers without a cluster: their objects in a file, which a standalone aggregator reads, and
//! a controller that asks for the metric and writes the status as the real one does.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use autoscaler::{Answer, Condition, Decision, Hpa, Memory, Observed, Pod, Quantity, Values};
use serde_json::{Value, json};

use crate::aggregator::{ApiClient, pods_metric_path};
use crate::clock;

/// As the controller calls itself.
const USER_AGENT: &str =
    "kube-controller-manager/v1.36.2 (linux/amd64) kubernetes/horizontal-pod-autoscaler";

/// An autoscaler of a Deployment by one metric of its pods.
#[derive(Clone, Debug)]
pub struct Plan {
    pub namespace: String,
    pub name: String,
    /// Name of the Deployment.
    pub target: String,
    /// Label selector of its pods, as in `app=jazz,version=v1`.
    pub selector: String,
    pub metric: String,
    /// Target per pod, in thousandths.
    pub average_milli: u32,
    pub max: u32,
    /// Names of the pods there are.
    pub pods: Vec<String>,
}

/// A file of autoscalers and their controller.
#[derive(Debug)]
pub struct Autoscalers {
    file: PathBuf,
    start: Instant,
    all: Vec<Autoscaler>,
}

#[derive(Debug)]
struct Autoscaler {
    plan: Plan,
    object: Value,
    hpa: Hpa,
    memory: Memory,
}

// === impl Autoscalers ===

impl Autoscalers {
    /// Writes the file, before any sync: no status yet.
    pub fn write(file: &Path, plans: Vec<Plan>) -> Result<Self> {
        let all = plans.into_iter().map(Autoscaler::new);
        let autoscalers = Self {
            file: file.to_owned(),
            start: clock::now(),
            all: all.collect::<Result<_>>()?,
        };
        autoscalers.save()?;
        Ok(autoscalers)
    }

    /// The pods that there are from now on of what the autoscaler `name` scales.
    pub fn set_pods(&mut self, name: &str, pods: Vec<String>) {
        let mut all = self.all.iter_mut();
        if let Some(autoscaler) = all.find(|autoscaler| autoscaler.plan.name == name) {
            autoscaler.plan.pods = pods;
        }
    }

    /// One sync of each: reads, decides, and writes the file.
    pub async fn sync(&mut self, api: &ApiClient) -> Result<()> {
        let now = self.start.elapsed();
        for Autoscaler {
            plan,
            object,
            hpa,
            memory,
        } in &mut self.all
        {
            let pods: Vec<Pod> = plan.pods.iter().map(Pod::running).collect();
            let here = u32::try_from(pods.len()).context("count the pods")?;
            let answers = [ask(api, plan).await];
            let observed = Observed {
                now,
                replicas: here,
                status_replicas: None,
                pods: &pods,
                answers: &answers,
            };
            let decision = hpa.decide(memory, &observed);
            let desired = object["status"]["desiredReplicas"].as_u64();
            object["status"] = status(&decision, here, desired.unwrap_or(0));
        }
        self.save()
    }

    /// In one step, since the aggregator may be reading.
    fn save(&self) -> Result<()> {
        let items: Vec<&Value> = self
            .all
            .iter()
            .map(|autoscaler| &autoscaler.object)
            .collect();
        let list = json!({
            "kind": "HorizontalPodAutoscalerList", "apiVersion": "autoscaling/v2", "items": items,
        });
        let fresh = self.file.with_extension("new");
        fs::write(&fresh, list.to_string())
            .and_then(|()| fs::rename(&fresh, &self.file))
            .with_context(|| format!("write {}", self.file.display()))
    }
}

// === impl Autoscaler ===

impl Autoscaler {
    fn new(plan: Plan) -> Result<Self> {
        let average = Quantity::parse(&format!("{}m", plan.average_milli));
        average.context("a target in thousandths")?;
        let object = json!({
            "kind": "HorizontalPodAutoscaler",
            "apiVersion": "autoscaling/v2",
            "metadata": {"namespace": plan.namespace, "name": plan.name},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": plan.target},
                "minReplicas": 1,
                "maxReplicas": plan.max,
                "metrics": [{"type": "Pods", "pods": {
                    "metric": {"name": plan.metric},
                    "target": {"type": "AverageValue", "averageValue": format!("{}m", plan.average_milli)},
                }}],
            },
        });
        let hpa = Hpa::from_json(&object).context("read an autoscaler of our own")?;
        Ok(Self {
            plan,
            object,
            hpa,
            memory: Memory::default(),
        })
    }
}

async fn ask(api: &ApiClient, plan: &Plan) -> Answer {
    let path = pods_metric_path(&plan.namespace, &plan.selector, &plan.metric);
    let response = api.get_as(&path, USER_AGENT).await;
    let response = response.map_err(|error| format!("{error:#}"))?;
    let document: Value = response.json().map_err(|error| error.to_string())?;
    let Some(items) = document["items"].as_array() else {
        return Err(text(&document["message"]));
    };
    let values = items.iter().map(|item| {
        let value = Quantity::parse(&text(&item["value"])).ok_or("not a quantity")?;
        Ok((text(&item["describedObject"]["name"]), value.milli()))
    });
    Ok(Values::PerPod(values.collect::<Result<_, &str>>()?))
}

/// The status after a sync with `here` replicas; what was desired stays if nothing was computed.
fn status(decision: &Decision, here: u32, desired: u64) -> Value {
    let set: [(&str, &Option<Condition>); 3] = [
        ("ScalingActive", &decision.active),
        ("AbleToScale", &decision.able),
        ("ScalingLimited", &decision.limited),
    ];
    let conditions = set.into_iter().filter_map(|(kind, condition)| {
        let condition = condition.as_ref()?;
        Some(json!({
            "type": kind,
            "status": if condition.is_true { "True" } else { "False" },
            "reason": condition.reason,
            "message": condition.message,
        }))
    });
    json!({
        "currentReplicas": here,
        "desiredReplicas": decision.replicas.map_or(desired, u64::from),
        "conditions": conditions.collect::<Vec<_>>(),
    })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
