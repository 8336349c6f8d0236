//! Istio by `EnvoyFilter`: patches of the configuration that Istio sends to Envoy.

use common_names::Direction;
use serde_json::{Map, Value, json};

use crate::envoy::{MANAGER, Plan, ROUTER, type_of};
use crate::istio::USER_VOLUME_MOUNT;
use crate::output::Output;
use crate::sidecar;

const HEAD: &[&str] = &[
    "The filter in Istio's sidecars by EnvoyFilter. Apply with `kubectl apply --server-side -f FILE`.",
    "Check: (1) the module is there before the patch is: Envoy refuses a listener whose module it cannot read, and a new sidecar then never gets ready. Apply the Deployment's part first and wait for its rollout. (2) `istioctl proxy-config listener POD -o json` has the filter `meshmeter` before the router of inbound listeners, `istioctl proxy-config cluster POD` the aggregators' clusters. (3) Envoy's log has no warning of `wasm`; the aggregator's admin page has the pod.",
    "Identity: istio-proxy has POD_NAME and POD_NAMESPACE in its environment, but neither the pod's uid nor its node. --ingest-identity token proves the uid by itself; pod-ip compares the address.",
];
const FILTER: &[&str] = &[
    "Patches depend on what Istio sends: look at (2) again after an upgrade of Istio. Lists are merged by appending, so the loggers of others stay.",
];

pub(crate) fn render(plan: &Plan<'_>) -> Output {
    Output::new(HEAD)
        .with_some(
            sidecar::CONFIG_MAP,
            sidecar::config_map(plan, plan.namespace),
        )
        .with_some(
            sidecar::DEPLOYMENT,
            sidecar::deployment(plan, &annotations(plan)),
        )
        .with(FILTER, filter(plan))
}

fn filter(plan: &Plan<'_>) -> Value {
    let options = plan.options;
    let clusters = plan.clusters().into_iter().map(|cluster| {
        json!({
            "applyTo": "CLUSTER",
            "match": {"context": "SIDECAR_OUTBOUND"},
            "patch": {"operation": "ADD", "value": cluster},
        })
    });
    let mut patches: Vec<Value> = clusters.collect();
    for &direction in plan.options.direction.each() {
        patches.push(count(plan, direction));
        if options.upstream_log {
            patches.push(json!({
                "applyTo": "HTTP_FILTER",
                "match": at(direction, Some(ROUTER)),
                "patch": {"operation": "MERGE", "value": plan.router(direction)},
            }));
        }
    }
    let mut spec = json!({"configPatches": patches});
    if !options.selector.is_empty() {
        spec["workloadSelector"] = json!({"labels": options.selector});
    }
    json!({
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": options.name, "namespace": plan.namespace},
        "spec": spec,
    })
}

fn count(plan: &Plan<'_>, direction: Direction) -> Value {
    if plan.is_filter() {
        return json!({
            "applyTo": "HTTP_FILTER",
            "match": at(direction, Some(ROUTER)),
            "patch": {"operation": "INSERT_BEFORE", "value": plan.http_filter(direction)},
        });
    }
    json!({
        "applyTo": "NETWORK_FILTER",
        "match": at(direction, None),
        "patch": {"operation": "MERGE", "value": {
            "name": MANAGER,
            "typed_config": {
                "@type": type_of("filters.network.http_connection_manager.v3.HttpConnectionManager"),
                "access_log": [plan.access_log(direction)],
            },
        }},
    })
}

/// The connection managers of a direction, or one of their filters.
fn at(direction: Direction, filter: Option<&str>) -> Value {
    let context = match direction {
        Direction::Inbound => "SIDECAR_INBOUND",
        Direction::Outbound => "SIDECAR_OUTBOUND",
    };
    let mut manager = json!({"name": MANAGER});
    if let Some(filter) = filter {
        manager["subFilter"] = json!({"name": filter});
    }
    json!({"context": context, "listener": {"filterChain": {"filter": manager}}})
}

fn annotations(plan: &Plan<'_>) -> Value {
    let mounts = sidecar::mounts(plan).into_iter().map(|mount| {
        let at = json!({"mountPath": mount.path, "readOnly": true});
        (mount.volume.to_owned(), at)
    });
    let mounts: Map<String, Value> = mounts.collect();
    json!({USER_VOLUME_MOUNT: Value::from(mounts).to_string()})
}
