//! meshmeter, djapp and its autoscaler: into the cluster, and out of it again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::api::{Cluster, until};
use crate::images::Names;
use crate::names::{APPS, CONTROL_PORT, HANDS, HANDS_PORT, NAMESPACE, RELEASE, values_path};

const READY_WITHIN: Duration = Duration::from_mins(3);

/// What is installed, and from where.
#[derive(Clone, Debug)]
pub struct Release {
    pub root: PathBuf,
    pub names: Names,
    /// Values files of the user, over ours.
    pub values: Vec<PathBuf>,
}

// === impl Release ===

impl Release {
    /// The arguments of `helm install` and `helm upgrade`, after the verb.
    fn arguments(&self) -> Result<Vec<String>> {
        let folder = self.root.join("target/cluster");
        fs::create_dir_all(&folder)?;
        let file = folder.join("values.json");
        let values = json!({
            "mesh": "app-mesh",
            "image": {"registry": self.names.registry, "tag": self.names.tag},
            "ingest": {"tls": "required", "identity": "token"},
            "appMesh": {
                "crds": true,
                "injectEnvoy": true,
                "envoyImage": self.names.envoy(),
                "redirectImage": self.names.redirect(),
            },
        });
        fs::write(&file, values.to_string()).with_context(|| file.display().to_string())?;
        let chart = self.root.join("deploy/chart").display().to_string();
        let mut args = [RELEASE, &chart, "--namespace", RELEASE]
            .map(str::to_owned)
            .to_vec();
        for file in [&file].into_iter().chain(&self.values) {
            args.extend(["--values".to_owned(), file.display().to_string()]);
        }
        Ok(args)
    }

    pub async fn install(&self, cluster: &Cluster) -> Result<()> {
        let args = self.arguments()?;
        let mut all = vec!["install", "--create-namespace"];
        all.extend(args.iter().map(String::as_str));
        cluster.helm(&all).await?;
        ready(cluster).await
    }

    /// Makes all of our pods anew, by the way that a new version takes.
    pub async fn upgrade(&self, cluster: &Cluster, mark: &str) -> Result<()> {
        let args = self.arguments()?;
        let marks = ["aggregator", "injector", "controlPlane"]
            .map(|part| format!("{part}.podAnnotations.rolled={mark}"))
            .join(",");
        let mut all = vec!["upgrade", "--set-string", &marks];
        all.extend(args.iter().map(String::as_str));
        cluster.helm(&all).await?;
        ready(cluster).await
    }
}

/// Waits until all of ours are.
pub async fn ready(cluster: &Cluster) -> Result<()> {
    for what in [
        "statefulset/meshmeter",
        "deployment/meshmeter-injector",
        "deployment/meshmeter-control-plane",
    ] {
        rolled_out(cluster, RELEASE, what).await?;
    }
    Ok(())
}

pub async fn rolled_out(cluster: &Cluster, namespace: &str, what: &str) -> Result<()> {
    let timeout = format!("--timeout={}s", READY_WITHIN.as_secs());
    cluster
        .kubectl(&["-n", namespace, "rollout", "status", what, &timeout])
        .await
        .map(drop)
}

/// djapp, then its mesh, then its pods anew: as the walkthrough has it. The application is that of
/// this test in place of the example's.
pub async fn djapp(cluster: &Cluster, release: &Release) -> Result<()> {
    for part in ["base", "meshed"] {
        let folder = release.root.join("target/cluster/djapp");
        fs::create_dir_all(&folder)?;
        let text = kustomization(release, part).to_string();
        fs::write(folder.join("kustomization.yaml"), text)?;
        let folder = folder.display().to_string();
        let manifests = cluster.kubectl(&["kustomize", &folder]).await?;
        cluster.apply(&manifests).await?;
    }
    let deployments = ["deployment/dj", "deployment/jazz-v1", "deployment/metal-v1"];
    let args = [&["-n", NAMESPACE, "rollout", "restart"][..], &deployments].concat();
    cluster.kubectl(&args).await?;
    for deployment in deployments {
        rolled_out(cluster, NAMESPACE, deployment).await?;
    }
    all_meshed(cluster).await
}

fn kustomization(release: &Release, part: &str) -> Value {
    let container = "/spec/template/spec/containers/0";
    let name =
        json!({"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}});
    let image = release.names.of("djapp");
    let args = ["serve", &format!("--control-port={CONTROL_PORT}")];
    let patch = json!([
        {"op": "replace", "path": format!("{container}/image"), "value": image},
        {"op": "replace", "path": format!("{container}/args"), "value": args},
        {"op": "add", "path": format!("{container}/env"), "value": [name]},
    ]);
    json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [format!("../../../deploy/examples/djapp/{part}")],
        "patches": [{"target": {"kind": "Deployment"}, "patch": patch.to_string()}],
    })
}

async fn all_meshed(cluster: &Cluster) -> Result<()> {
    for pod in app_pods(cluster).await? {
        ensure!(
            is_meshed(&pod),
            "the injector left the pod {} without a sidecar: its log says why",
            name(&pod)
        );
    }
    Ok(())
}

/// Whether the pod has a sidecar.
pub fn is_meshed(pod: &Value) -> bool {
    let containers = pod["spec"]["initContainers"].as_array();
    containers.is_some_and(|all| all.iter().any(|one| one["name"] == "envoy"))
}

/// djapp's pods that are not on their way out.
pub async fn app_pods(cluster: &Cluster) -> Result<Vec<Value>> {
    let pods = cluster
        .list(&format!("/api/v1/namespaces/{NAMESPACE}/pods"))
        .await?;
    let of_djapp = |pod: &Value| {
        let app = pod["metadata"]["labels"]["app"]
            .as_str()
            .unwrap_or_default();
        APPS.contains(&app) && pod["metadata"]["deletionTimestamp"].is_null()
    };
    Ok(pods.into_iter().filter(of_djapp).collect())
}

pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// Until the API has a value for a pod of each application.
pub async fn first_value(cluster: &Cluster) -> Result<()> {
    for app in APPS {
        let path = values_path(&format!("app={app}"));
        let look = async || {
            let answer = cluster.get(&path).await?;
            Ok(answer["items"]
                .as_array()
                .filter(|items| !items.is_empty())
                .map(|_| ()))
        };
        until(&format!("a value for {app}"), READY_WITHIN, look).await?;
    }
    Ok(())
}

/// The example's autoscaler; scaling down takes 15 s in place of five minutes.
pub async fn autoscaler(cluster: &Cluster, root: &Path) -> Result<()> {
    let file = root
        .join("deploy/examples/djapp/hpa.yaml")
        .display()
        .to_string();
    cluster.kubectl(&["apply", "-f", &file]).await?;
    let faster = json!({"spec": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 15}}}});
    let faster = faster.to_string();
    let args = [
        "-n",
        NAMESPACE,
        "patch",
        "hpa",
        "envoy-hpa",
        "--type=merge",
        "-p",
        &faster,
    ];
    cluster.kubectl(&args).await.map(drop)
}

/// On each node, what kills and stops processes.
pub async fn hands(cluster: &Cluster, names: &Names) -> Result<()> {
    let labels = json!({"app": "hands"});
    let objects = [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HANDS, "labels": {
            "pod-security.kubernetes.io/enforce": "privileged",
        }}}),
        json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "hands", "namespace": HANDS}, "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {
                "hostPID": true,
                "tolerations": [{"operator": "Exists"}],
                "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "hands",
                    "image": names.of("djapp"),
                    "args": ["hands", format!("--port={HANDS_PORT}")],
                    "securityContext": {"runAsUser": 0, "runAsNonRoot": false},
                    "resources": {"requests": {"cpu": "5m", "memory": "8Mi"}},
                }],
            }},
        }}),
    ];
    for object in objects {
        cluster.apply(&object.to_string()).await?;
    }
    rolled_out(cluster, HANDS, "daemonset/hands").await
}

/// Takes everything away, and says what is left of ours.
pub async fn remove(cluster: &Cluster) -> Result<Vec<String>> {
    let delete = |namespace: &'static str| {
        let cluster = cluster.clone();
        async move {
            let args = [
                "delete",
                "namespace",
                namespace,
                "--ignore-not-found",
                "--timeout=120s",
            ];
            cluster.kubectl(&args).await
        }
    };
    delete(NAMESPACE).await?;
    delete(HANDS).await?;
    cluster
        .helm(&[
            "uninstall",
            RELEASE,
            "--namespace",
            RELEASE,
            "--ignore-not-found",
        ])
        .await?;
    delete(RELEASE).await?;
    // They stay when a release goes, since all custom resources would go with them.
    let ours = format!("-lapp.kubernetes.io/part-of={RELEASE}");
    cluster
        .kubectl(&["delete", "crd", &ours, "--timeout=60s"])
        .await?;
    left(cluster).await
}

/// Objects of ours of any kind.
async fn left(cluster: &Cluster) -> Result<Vec<String>> {
    let kinds = cluster
        .kubectl(&["api-resources", "--verbs=list", "-o", "name"])
        .await?;
    let kinds: Vec<_> = kinds.lines().collect();
    let ours = format!("-lapp.kubernetes.io/part-of={RELEASE}");
    let args = [
        "get",
        &kinds.join(","),
        "-A",
        &ours,
        "-o",
        "name",
        "--ignore-not-found",
    ];
    let mut left: Vec<_> = cluster
        .kubectl(&args)
        .await?
        .lines()
        .map(str::to_owned)
        .collect();
    for path in [
        "/apis/apiregistration.k8s.io/v1/apiservices",
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
    ] {
        let objects = cluster.list(path).await?;
        let ours = objects
            .iter()
            .filter(|object| object.to_string().contains("meshmeter"));
        left.extend(ours.map(|object| format!("{path}/{}", name(object))));
    }
    Ok(left)
}
