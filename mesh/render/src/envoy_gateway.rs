//! Envoy Gateway: a gateway counts the requests that it receives.

use common_names::{Direction, Role};
use mesh_core::injection::{HOST_ENV_KEYS, NAME};
use serde_json::{Value, json};

use crate::envoy::Plan;
use crate::output::Output;
use crate::sidecar;

const HEAD: &[&str] = &[
    "The filter in the Envoys of a Gateway of Envoy Gateway. Apply with `kubectl apply --server-side -f FILE`.",
    "Check: (1) EnvoyPatchPolicy is enabled (extensionApis.enableEnvoyPatchPolicy in the EnvoyGateway configuration): there is no other way to a cluster that a filter may stream to. Status Programmed of the policy says so. (2) The Gateway, or its GatewayClass, refers to the EnvoyProxy below by parametersRef; if one is there already, add the fields to it instead. By a Gateway it has to be in the Gateway's namespace, by a GatewayClass in that of Envoy Gateway. (3) `egctl config envoy-proxy cluster` has the aggregators' clusters; Envoy's log has no warning of `wasm`.",
    "What is counted: requests of all routes of the Gateway, as inbound ones of the gateway's own pods. With EnvoyGateway's mergeGateways the policies have to name the GatewayClass.",
    "Identity: by the EnvoyProxy's environment, uid included, so that --ingest-identity pod-ip and token hold in full.",
];
const EXTENSION: &[&str] = &[
    "Envoy Gateway fetches the module and serves it to its Envoys. failOpen lets requests pass if the VM cannot start or dies.",
];
const PATCH: &[&str] = &["The aggregators' clusters."];
const PROXY: &[&str] = &["Who the pod is, and where its token is."];

const CONFIG_MAP: &[&str] = &[
    "Tells Envoy where the pod's token is. It has to be in the namespace of the Envoys, which do not start without it: change it if that is not envoy-gateway-system, and apply it before the EnvoyProxy.",
];

/// Envoy Gateway's default namespace for its Envoys.
const ENVOYS_NAMESPACE: &str = "envoy-gateway-system";

pub(crate) fn render(plan: &Plan<'_>) -> Output {
    Output::new(HEAD)
        .with_some(CONFIG_MAP, sidecar::config_map(plan, ENVOYS_NAMESPACE))
        .with(PROXY, proxy(plan))
        .with(PATCH, patch(plan))
        .with(EXTENSION, extension(plan))
}

fn object(plan: &Plan<'_>, kind: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": plan.options.name, "namespace": plan.namespace},
        "spec": spec,
    })
}

fn gateway(plan: &Plan<'_>) -> Value {
    json!({
        "group": "gateway.networking.k8s.io",
        "kind": "Gateway",
        "name": plan.options.workload,
    })
}

fn extension(plan: &Plan<'_>) -> Value {
    let options = plan.options;
    let (kind, field, url) = match (&options.module_image, &options.module_url) {
        (Some(image), _) => ("Image", "image", image),
        (None, url) => ("HTTP", "http", url.as_ref().unwrap_or(&options.name)),
    };
    let mut source = json!({"url": url});
    if let Some(sha256) = &options.module_sha256 {
        source["sha256"] = sha256.as_str().into();
    }
    let wasm = json!({
        "name": NAME,
        "rootID": NAME,
        "failOpen": true,
        "code": {"type": kind, field: source},
        "config": plan.configuration(Role::Filter, Direction::Inbound),
        "env": {"hostKeys": HOST_ENV_KEYS},
    });
    let spec = json!({"targetRefs": [gateway(plan)], "wasm": [wasm]});
    object(plan, "EnvoyExtensionPolicy", &spec)
}

fn patch(plan: &Plan<'_>) -> Value {
    let patches = plan.clusters().into_iter().map(|cluster| {
        json!({
            "type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            "name": cluster["name"],
            "operation": {"op": "add", "path": "", "value": cluster},
        })
    });
    let patches: Vec<Value> = patches.collect();
    let spec = json!({"targetRef": gateway(plan), "type": "JSONPatch", "jsonPatches": patches});
    object(plan, "EnvoyPatchPolicy", &spec)
}

fn proxy(plan: &Plan<'_>) -> Value {
    let paths = HOST_ENV_KEYS.map(|name| {
        let path = match name {
            "POD_NAME" => "metadata.name",
            "POD_NAMESPACE" => "metadata.namespace",
            "POD_UID" => "metadata.uid",
            _ => "spec.nodeName",
        };
        json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}})
    });
    let mut deployment = json!({"container": {"env": paths}});
    if plan.options.aggregator_token {
        deployment["container"]["volumeMounts"] = sidecar::volume_mounts(plan).into();
        deployment["pod"] = json!({"volumes": sidecar::volumes(plan)});
    }
    let provider = json!({"type": "Kubernetes", "kubernetes": {"envoyDeployment": deployment}});
    object(plan, "EnvoyProxy", &json!({"provider": provider}))
}
