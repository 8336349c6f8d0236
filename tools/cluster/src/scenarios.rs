//! What is done to a cluster under load, one after the other.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use http::Method;
use serde_json::Value;
use tests_support::clock;

use crate::api::{is_not_found, until};
use crate::install::{self, app_pods, name, ready, rolled_out};
use crate::names::{NAMESPACE, RELEASE, values_path};
use crate::rig::{Rig, is_ready};
use crate::row::{Allowed, Row};

/// Requests per second of scenarios whose subject is not scaling.
const RATE: u32 = 60;
/// Pods of jazz in those.
const PODS: u32 = 3;
/// An autoscaler looks every 15 s, and pods take some seconds to start.
const SCALED_WITHIN: Duration = Duration::from_mins(3);
/// How long kube-apiserver stands still.
const AWAY_SECONDS: u64 = 20;

#[derive(Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub about: &'static str,
}

/// In the order in which they run.
pub const ALL: [Scenario; 14] = [
    Scenario {
        name: "step",
        about: "load from nothing to 40/s: the autoscaler goes from 1 pod to 4 or more",
    },
    Scenario {
        name: "one-ten-one",
        about: "150/s and then none: from 1 pod to 10 and back",
    },
    Scenario {
        name: "roll-app",
        about: "all pods of the application anew",
    },
    Scenario {
        name: "roll-aggregators",
        about: "both aggregators anew",
    },
    Scenario {
        name: "upgrade",
        about: "helm upgrade, which makes each of our pods anew, and then the application's sidecars",
    },
    Scenario {
        name: "kill-aggregator",
        about: "SIGKILL of an aggregator",
    },
    Scenario {
        name: "kill-control-plane",
        about: "SIGKILL of a control plane",
    },
    Scenario {
        name: "kill-xds-proxy",
        about: "SIGKILL of an xDS proxy",
    },
    Scenario {
        name: "kill-envoy",
        about: "SIGKILL of a sidecar's Envoy",
    },
    Scenario {
        name: "drain",
        about: "a node is drained",
    },
    Scenario {
        name: "injector-away",
        about: "no injector: pods are not made, and are made once there is one",
    },
    Scenario {
        name: "api-server-away",
        about: "kube-apiserver stands still for 20 s",
    },
    Scenario {
        name: "rotate-api-ca",
        about: "a new CA of the API and of the ingest port",
    },
    Scenario {
        name: "rotate-injector-ca",
        about: "a new CA of the webhook",
    },
];

/// Runs one of [`ALL`].
pub async fn run(rig: &Rig, scenario: &'static str) -> Result<Row> {
    let none = Allowed::default();
    match scenario {
        "step" => step(rig, scenario).await,
        "one-ten-one" => one_ten_one(rig, scenario).await,
        "roll-app" => {
            rig.measure(scenario, RATE, none, async |_| {
                restart(rig, NAMESPACE, "deployment/jazz-v1").await?;
                restart(rig, NAMESPACE, "deployment/metal-v1").await
            })
            .await
        }
        "roll-aggregators" => {
            rig.measure(scenario, RATE, none, async |_| {
                restart(rig, RELEASE, "statefulset/meshmeter").await
            })
            .await
        }
        "upgrade" => {
            rig.measure(scenario, RATE, none, async |_| {
                rig.release.upgrade(&rig.cluster, "once").await?;
                restart(rig, NAMESPACE, "deployment/jazz-v1").await
            })
            .await
        }
        "kill-aggregator" => {
            let allowed = Allowed {
                api_bad: 10,
                ..none
            };
            kill(rig, scenario, RELEASE, "meshmeter-0", allowed).await
        }
        "kill-control-plane" => kill_control_plane(rig, scenario).await,
        "kill-xds-proxy" => kill_in_jazz(rig, scenario, "meshmeter-xds-proxy", none).await,
        "kill-envoy" => {
            // What was open at the pod fails, and what came in since its last report is not
            // counted.
            let second = u64::from(RATE);
            let allowed = Allowed {
                failed: 3 * second,
                lost: second,
                ..none
            };
            kill_in_jazz(rig, scenario, "envoy", allowed).await
        }
        "drain" => drain(rig, scenario).await,
        "injector-away" => injector_away(rig, scenario).await,
        "api-server-away" => api_server_away(rig, scenario).await,
        "rotate-api-ca" => rotate(rig, scenario, "meshmeter-api-ca").await,
        "rotate-injector-ca" => rotate(rig, scenario, "meshmeter-injector-ca").await,
        _ => bail!("there is no scenario {scenario}"),
    }
}

/// The state from which a scenario starts: an autoscaler, or a fixed number of pods.
pub async fn prepare(rig: &Rig, scenario: &str) -> Result<()> {
    if matches!(scenario, "step" | "one-ten-one") {
        rig.scale(NAMESPACE, "jazz-v1", 1).await?;
        all_ended(rig).await?;
        return install::autoscaler(&rig.cluster, &rig.release.root).await;
    }
    let args = [
        "-n",
        NAMESPACE,
        "delete",
        "hpa",
        "envoy-hpa",
        "--ignore-not-found",
    ];
    rig.cluster.kubectl(&args).await?;
    rig.scale(NAMESPACE, "jazz-v1", PODS).await?;
    all_have_values(rig).await
}

async fn step(rig: &Rig, scenario: &'static str) -> Result<Row> {
    rig.measure(scenario, 0, Allowed::default(), async |row| {
        // The autoscaler has read the idle pod before the step.
        tokio::time::sleep(Duration::from_secs(16)).await;
        rig.load(40).await?;
        let ((), visible) = until("the step to be visible", SCALED_WITHIN, async || {
            let rates = rig.watch.seen().rates;
            Ok((rates.iter().sum::<f64>() >= 36.0).then_some(()))
        })
        .await?;
        let ((), scaled) = until("a scale-up", SCALED_WITHIN, async || {
            Ok((replicas(rig, "spec").await? > 1).then_some(()))
        })
        .await?;
        let ((), ready) = until("4 ready pods", SCALED_WITHIN, async || {
            Ok((replicas(rig, "ready").await? >= 4).then_some(()))
        })
        .await?;
        row.notes = vec![
            format!("90 % visible after {:.1} s", visible.as_secs_f64()),
            format!("scaled up after {:.1} s", (visible + scaled).as_secs_f64()),
            format!("4 ready {:.1} s later", ready.as_secs_f64()),
        ];
        Ok(())
    })
    .await
}

async fn one_ten_one(rig: &Rig, scenario: &'static str) -> Result<Row> {
    rig.measure(scenario, 0, Allowed::default(), async |row| {
        rig.load(150).await?;
        let ready = |wanted: u64| async move {
            let look = async || Ok((replicas(rig, "ready").await? == wanted).then_some(()));
            until(&format!("{wanted} ready pods"), SCALED_WITHIN, look).await
        };
        let ((), up) = ready(10).await?;
        rig.load(0).await?;
        let ((), down) = ready(1).await?;
        row.notes = vec![
            format!("10 ready after {:.1} s", up.as_secs_f64()),
            format!("1 again after {:.1} s", down.as_secs_f64()),
        ];
        // Those that were taken away have ended before the counts are compared.
        all_ended(rig).await
    })
    .await
}

async fn replicas(rig: &Rig, which: &str) -> Result<u64> {
    let jazz = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/jazz-v1");
    let jazz = rig.cluster.get(&jazz).await?;
    let number = match which {
        "spec" => &jazz["spec"]["replicas"],
        _ => &jazz["status"]["readyReplicas"],
    };
    Ok(number.as_u64().unwrap_or_default())
}

async fn restart(rig: &Rig, namespace: &str, what: &str) -> Result<()> {
    rig.cluster
        .kubectl(&["-n", namespace, "rollout", "restart", what])
        .await?;
    rolled_out(&rig.cluster, namespace, what).await?;
    all_ended(rig).await
}

/// Waits until no pod of djapp is on its way out.
async fn all_ended(rig: &Rig) -> Result<()> {
    let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let look = async || {
        let pods = rig.cluster.list(&pods).await?;
        let ending = pods
            .iter()
            .any(|pod| !pod["metadata"]["deletionTimestamp"].is_null());
        Ok((!ending).then_some(()))
    };
    until("pods to end", Duration::from_secs(90), look)
        .await
        .map(drop)
}

/// Waits until the API has a value for each pod of jazz.
async fn all_have_values(rig: &Rig) -> Result<()> {
    all_ended(rig).await?;
    let path = values_path("app=jazz");
    let look = async || {
        let pods = app_pods(&rig.cluster).await?;
        let jazz = pods
            .iter()
            .filter(|pod| pod["metadata"]["labels"]["app"] == "jazz")
            .count();
        let answer = rig.cluster.get(&path).await?;
        let values = answer["items"].as_array().map_or(0, Vec::len);
        Ok((values == jazz).then_some(()))
    };
    until("a value of each pod", Duration::from_mins(1), look)
        .await
        .map(drop)
}

async fn kill(
    rig: &Rig,
    scenario: &'static str,
    namespace: &str,
    pod: &str,
    allowed: Allowed,
) -> Result<Row> {
    let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}");
    let object = rig.cluster.get(&path).await?;
    let container = object["spec"]["containers"][0]["name"]
        .as_str()
        .context("no container")?;
    rig.measure(scenario, RATE, allowed, async |row| {
        let took = rig.kill(namespace, pod, container).await?;
        row.notes
            .push(format!("ready again after {:.1} s", took.as_secs_f64()));
        all_have_values(rig).await
    })
    .await
}

async fn kill_control_plane(rig: &Rig, scenario: &'static str) -> Result<Row> {
    let pods = rig
        .cluster
        .list(&format!("/api/v1/namespaces/{RELEASE}/pods"))
        .await?;
    let pod = pods.iter().find(|pod| name(pod).contains("control-plane"));
    let pod = name(pod.context("there is no control plane")?);
    kill(rig, scenario, RELEASE, pod, Allowed::default()).await
}

async fn kill_in_jazz(
    rig: &Rig,
    scenario: &'static str,
    container: &str,
    allowed: Allowed,
) -> Result<Row> {
    let jazz = rig.pod("jazz").await?;
    let row = rig
        .measure(scenario, RATE, allowed, async |row| {
            let took = rig.kill(NAMESPACE, name(&jazz), container).await?;
            row.notes
                .push(format!("ready again after {:.1} s", took.as_secs_f64()));
            all_have_values(rig).await
        })
        .await?;
    // What the killed one had counted is known to aggregators that were there, so the next scenario
    // has a pod without a past.
    rig.cluster
        .kubectl(&["-n", NAMESPACE, "delete", "pod", name(&jazz)])
        .await?;
    Ok(row)
}

async fn drain(rig: &Rig, scenario: &'static str) -> Result<Row> {
    // The load is in dj, and stays.
    let dj = rig.pod("dj").await?;
    let pods = app_pods(&rig.cluster).await?;
    let elsewhere = |pod: &&Value| pod["spec"]["nodeName"] != dj["spec"]["nodeName"];
    let Some(node) = pods
        .iter()
        .find(elsewhere)
        .and_then(|pod| pod["spec"]["nodeName"].as_str())
    else {
        return Ok(Row::skipped(
            scenario,
            "all pods are on the node of the load",
        ));
    };
    let row = rig
        .measure(scenario, RATE, Allowed::default(), async |_| {
            let options = [
                "--ignore-daemonsets",
                "--delete-emptydir-data",
                "--timeout=150s",
            ];
            let args = [&["drain", node][..], &options].concat();
            rig.cluster.kubectl(&args).await?;
            rolled_out(&rig.cluster, NAMESPACE, "deployment/jazz-v1").await?;
            all_have_values(rig).await
        })
        .await;
    rig.cluster.kubectl(&["uncordon", node]).await?;
    ready(&rig.cluster).await?;
    row
}

async fn injector_away(rig: &Rig, scenario: &'static str) -> Result<Row> {
    rig.measure(scenario, RATE, Allowed::default(), async |row| {
        rig.scale(RELEASE, "meshmeter-injector", 0).await?;
        let pods = format!("/api/v1/namespaces/{RELEASE}/pods");
        let none = async || {
            let pods = rig.cluster.list(&pods).await?;
            Ok((!pods.iter().any(|pod| name(pod).contains("injector"))).then_some(()))
        };
        until("the injectors to end", Duration::from_mins(1), none).await?;
        let more = PODS + 1;
        let args = [
            "-n",
            NAMESPACE,
            "scale",
            "deployment/jazz-v1",
            &format!("--replicas={more}"),
        ];
        rig.cluster.kubectl(&args).await?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let made = app_pods(&rig.cluster).await?;
        let jazz = made
            .iter()
            .filter(|pod| pod["metadata"]["labels"]["app"] == "jazz")
            .count();
        ensure!(
            jazz == PODS as usize,
            "a pod was made without an injector: {jazz} pods"
        );
        rig.scale(RELEASE, "meshmeter-injector", 2).await?;
        let begun = clock::now();
        rolled_out(&rig.cluster, NAMESPACE, "deployment/jazz-v1").await?;
        row.notes.push(format!(
            "the pod was made and ready {:.1} s after the injectors",
            begun.elapsed().as_secs_f64()
        ));
        all_have_values(rig).await
    })
    .await
}

async fn api_server_away(rig: &Rig, scenario: &'static str) -> Result<Row> {
    let nodes = rig.cluster.list("/api/v1/nodes").await?;
    let mut found = None;
    for node in nodes.iter().map(name) {
        if rig
            .hands(node, Method::GET, "/count?process=kube-apiserver")
            .await?
            > 0
        {
            found = Some(node);
        }
    }
    let Some(node) = found else {
        return Ok(Row::skipped(
            scenario,
            "kube-apiserver is on none of the nodes",
        ));
    };
    // Nothing can be asked meanwhile.
    let allowed = Allowed {
        api_bad: 2 * AWAY_SECONDS,
        ..Allowed::default()
    };
    rig.measure(scenario, RATE, allowed, async |row| {
        let path = format!("/stop?process=kube-apiserver&seconds={AWAY_SECONDS}");
        // The answer may be lost with what it was asked through.
        let _ = rig.hands(node, Method::POST, &path).await;
        let begun = clock::now();
        tokio::time::sleep(Duration::from_secs(AWAY_SECONDS)).await;
        all_have_values(rig).await?;
        row.notes.push(format!(
            "values again {:.1} s after the beginning",
            begun.elapsed().as_secs_f64()
        ));
        Ok(())
    })
    .await
}

/// A new CA, and new pods and sidecars which know it and are known.
async fn rotate(rig: &Rig, scenario: &'static str, secret: &'static str) -> Result<Row> {
    let path = format!("/api/v1/namespaces/{RELEASE}/secrets/{secret}");
    rig.measure(scenario, RATE, Allowed::default(), async |row| {
        let before = rig.cluster.get(&path).await?["metadata"]["uid"].clone();
        rig.cluster
            .kubectl(&["-n", RELEASE, "delete", "secret", secret])
            .await?;
        let again = async || match rig.cluster.get(&path).await {
            Ok(made) => Ok((made["metadata"]["uid"] != before).then_some(())),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(error),
        };
        let ((), took) = until("a new CA", Duration::from_mins(2), again).await?;
        row.notes
            .push(format!("a new CA after {:.1} s", took.as_secs_f64()));
        restart(rig, NAMESPACE, "deployment/jazz-v1").await?;
        let pods = app_pods(&rig.cluster).await?;
        ensure!(pods.iter().all(is_ready), "not all pods are ready");
        all_have_values(rig).await
    })
    .await
}
