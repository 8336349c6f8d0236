//! Volumes and mounts of the sidecar, and the partial Deployment that adds them.

use serde_json::{Value, json};

use crate::envoy::{self, Plan};
use crate::options::MODULES_PATH;

/// Mount path of the modules' volume in the init container.
const MODULES_PATH_OUT: &str = "/mnt/meshmeter";
/// Folder of Envoy's SDS file.
const CONFIG_PATH: &str = "/etc/meshmeter";
const TOKEN_PATH: &str = "/var/run/secrets/meshmeter";
/// Default of the aggregator's `--ingest-token-audience`.
pub(crate) const TOKEN_AUDIENCE: &str = "meshmeter";
/// Lifetime of the token; the kubelet renews it.
const TOKEN_SECONDS: u32 = 3600;
/// The modules take 200 KiB.
const MODULES_SIZE: &str = "16Mi";
/// User ID of the init container.
const USER: u32 = 1337;

pub(crate) struct Mount {
    pub(crate) volume: &'static str,
    pub(crate) path: &'static str,
    pub(crate) source: Source,
}

pub(crate) enum Source {
    /// Filled by the init container.
    Modules,
    Config,
    Token,
}

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

/// The partial Deployment with volumes and init container, for server-side apply; `None` if its
/// pods need none.
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

pub(crate) fn volume_mounts(plan: &Plan<'_>) -> Vec<Value> {
    let mount =
        |mount: Mount| json!({"name": mount.volume, "mountPath": mount.path, "readOnly": true});
    mounts(plan).into_iter().map(mount).collect()
}

fn config_map_name(plan: &Plan<'_>) -> String {
    format!("{}-token", plan.options.name)
}

/// The `ConfigMap` with Envoy's SDS file, if a token is used, in the namespace of the pods.
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

pub(crate) const DEPLOYMENT: &[&str] = &[
    "Only the fields that are added to the Deployment that is there: `kubectl apply --server-side` merges them. The pods start anew. An annotation of the same name that is there already is replaced: join the two by hand.",
];
pub(crate) const CONFIG_MAP: &[&str] =
    &["Tells Envoy where the pod's token is; it reads the token again when the kubelet renews it."];
