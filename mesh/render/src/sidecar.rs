//! What a sidecar has to find in its volumes, and the pods that have them.

use serde_json::{Value, json};

use crate::envoy::{self, Plan};
use crate::options::MODULES_PATH;

/// Where the init container sees the same.
const MODULES_PATH_OUT: &str = "/mnt/meshmeter";
/// Where Envoy's secret file is.
const CONFIG_PATH: &str = "/etc/meshmeter";
const TOKEN_PATH: &str = "/var/run/secrets/meshmeter";
/// For whom the token is, as the aggregator's `--ingest-token-audience`.
pub(crate) const TOKEN_AUDIENCE: &str = "meshmeter";
/// How long it is good for; the kubelet renews it.
const TOKEN_SECONDS: u32 = 3600;
/// The modules have 200 KiB.
const MODULES_SIZE: &str = "16Mi";
/// The user of the init container.
const USER: u32 = 1337;

/// A volume and where it is mounted.
pub(crate) struct Mount {
    pub(crate) volume: &'static str,
    pub(crate) path: &'static str,
    pub(crate) source: Source,
}

pub(crate) enum Source {
    /// The modules, by the init container.
    Modules,
    Config,
    Token,
}

/// What the sidecars of this plan mount.
pub(crate) fn mounts(plan: &Plan<'_>) -> Vec<Mount> {
    let mount = |volume, path, source| Mount {
        volume,
        path,
        source,
    };
    let mut mounts = Vec::new();
    if plan.options.image.is_some() {
        mounts.push(mount("meshmeter-modules", MODULES_PATH, Source::Modules));
    }
    if plan.options.aggregator_token {
        mounts.push(mount("meshmeter-config", CONFIG_PATH, Source::Config));
        mounts.push(mount("meshmeter-token", TOKEN_PATH, Source::Token));
    }
    mounts
}

/// The Deployment with the volumes and the init container; `None` if its pods need none. Only the
/// fields that are ours: it is applied to the one that is there.
pub(crate) fn deployment(plan: &Plan<'_>, annotations: &Value) -> Option<Value> {
    let volumes = volumes(plan);
    if volumes.is_empty() {
        return None;
    }
    let mut spec = json!({"volumes": volumes});
    if let Some(image) = &plan.options.image {
        spec["initContainers"] = json!([init_container(image)]);
    }
    Some(partial(plan, annotations, &spec))
}

/// The Deployment of the plan with these parts of its pods.
pub(crate) fn partial(plan: &Plan<'_>, annotations: &Value, spec: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": plan.options.workload, "namespace": plan.namespace},
        "spec": {"template": {"metadata": {"annotations": annotations}, "spec": spec}},
    })
}

pub(crate) fn volumes(plan: &Plan<'_>) -> Vec<Value> {
    let volume = |mount: Mount| match mount.source {
        Source::Modules => {
            json!({"name": mount.volume, "emptyDir": {"sizeLimit": MODULES_SIZE}})
        }
        Source::Config => {
            json!({"name": mount.volume, "configMap": {"name": config_map_name(plan)}})
        }
        Source::Token => json!({"name": mount.volume, "projected": {"sources": [
            {"serviceAccountToken": {
                "audience": TOKEN_AUDIENCE,
                "expirationSeconds": TOKEN_SECONDS,
                "path": "token",
            }},
        ]}}),
    };
    mounts(plan).into_iter().map(volume).collect()
}

/// The mounts as a container has them.
pub(crate) fn volume_mounts(plan: &Plan<'_>) -> Vec<Value> {
    let mount =
        |mount: Mount| json!({"name": mount.volume, "mountPath": mount.path, "readOnly": true});
    mounts(plan).into_iter().map(mount).collect()
}

fn config_map_name(plan: &Plan<'_>) -> String {
    format!("{}-token", plan.options.name)
}

/// The `ConfigMap` with Envoy's secret file, if a token is used, in the namespace of the pods.
pub(crate) fn config_map(plan: &Plan<'_>, namespace: &str) -> Option<Value> {
    let token = plan.options.aggregator_token;
    token.then(|| {
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": config_map_name(plan), "namespace": namespace},
            "data": envoy::token_secret(&format!("{TOKEN_PATH}/token"), TOKEN_PATH),
        })
    })
}

/// Copies the modules of the image, as the injector's init container does.
fn init_container(image: &str) -> Value {
    json!({
        "name": "meshmeter-init",
        "image": image,
        "args": ["prepare", "--modules", MODULES_PATH_OUT, "--config", MODULES_PATH_OUT],
        "volumeMounts": [{"name": "meshmeter-modules", "mountPath": MODULES_PATH_OUT}],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": {
            "runAsUser": USER,
            "runAsNonRoot": true,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    })
}

/// The sentences about a partial Deployment.
pub(crate) const DEPLOYMENT: &[&str] = &[
    "Only the fields that are added to the Deployment that is there: `kubectl apply --server-side` merges them. The pods start anew. An annotation of the same name that is there already is replaced: join the two by hand.",
];
/// The sentences about Envoy's secret file.
pub(crate) const CONFIG_MAP: &[&str] =
    &["Tells Envoy where the pod's token is; it reads the token again when the kubelet renews it."];
