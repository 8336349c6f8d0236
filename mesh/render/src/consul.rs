//! Consul's mesh on Kubernetes.

use common_names::{Direction, Role};
use mesh_core::injection::{HOST_ENV_KEYS, NAME, VM_ID};
use serde_json::{Value, json};

use crate::envoy::Plan;
use crate::output::Output;
use crate::sidecar;

const HEAD: &[&str] = &[
    "The filter in Consul's sidecars. Apply with `kubectl apply --server-side -f FILE`.",
    "Check: (1) the module is there before ServiceDefaults names it: Envoy refuses a listener whose module it cannot read. Apply the Deployment's part first and wait for its rollout. (2) The clusters are part of the bootstrap: only sidecars that start afterwards have them. (3) The service's protocol is http (or http2, grpc): others have no HTTP filters. (4) Envoy's /clusters has the aggregators' clusters, its log no warning of `wasm`.",
    "Identity: consul-dataplane has POD_NAME, POD_NAMESPACE, POD_UID and NODE_NAME in its environment and hands it to Envoy; older versions of consul-k8s lack the uid, which --ingest-identity pod-ip and token do without.",
];
const DEFAULTS: &[&str] = &[
    "The filter in the inbound listener of the service's sidecars. `required: false` is what makes it fail open.",
];
const PROXY: &[&str] = &[
    "The aggregators' clusters for all sidecars. There is one ProxyDefaults, `global`: if it is there already, and not in this namespace, add the field to it instead; clusters that are there in that field have to be kept.",
];

pub(crate) fn render(plan: &Plan<'_>) -> Output {
    Output::new(HEAD)
        .with(PROXY, proxy_defaults(plan))
        .with_some(
            sidecar::CONFIG_MAP,
            sidecar::config_map(plan, plan.namespace),
        )
        .with_some(
            sidecar::DEPLOYMENT,
            sidecar::deployment(plan, &annotations(plan)),
        )
        .with(DEFAULTS, service_defaults(plan))
}

fn service_defaults(plan: &Plan<'_>) -> Value {
    let configuration = plan.configuration(Role::Filter, Direction::Inbound);
    let arguments = json!({
        "Protocol": "http",
        "ListenerType": "inbound",
        "PluginConfig": {
            "Name": NAME,
            "RootID": NAME,
            "Configuration": configuration.to_string(),
            "VmConfig": {
                "VmID": VM_ID,
                "Runtime": "v8",
                "Code": {"Local": {"Filename": plan.module(Role::Filter)}},
                "EnvironmentVariables": {"HostEnvKeys": HOST_ENV_KEYS},
            },
        },
    });
    json!({
        "apiVersion": "consul.hashicorp.com/v1alpha1",
        "kind": "ServiceDefaults",
        "metadata": {"name": plan.options.workload, "namespace": plan.namespace},
        "spec": {
            "protocol": "http",
            "envoyExtensions": [
                {"name": "builtin/wasm", "required": false, "arguments": arguments},
            ],
        },
    })
}

fn proxy_defaults(plan: &Plan<'_>) -> Value {
    // Consul inserts this text into the bootstrap's cluster list: objects with commas between them,
    // without brackets.
    let clusters = plan.clusters().into_iter();
    let clusters: Vec<String> = clusters.map(|cluster| format!("{cluster:#}")).collect();
    json!({
        "apiVersion": "consul.hashicorp.com/v1alpha1",
        "kind": "ProxyDefaults",
        "metadata": {"name": "global", "namespace": plan.namespace},
        "spec": {"config": {"envoy_extra_static_clusters_json": clusters.join(",\n")}},
    })
}

fn annotations(plan: &Plan<'_>) -> Value {
    let mounts = Value::from(sidecar::volume_mounts(plan));
    json!({"consul.hashicorp.com/consul-sidecar-user-volume-mount": mounts.to_string()})
}
