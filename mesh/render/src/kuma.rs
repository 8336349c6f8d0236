//! Kuma and Kong Mesh on Kubernetes.

use common_names::Direction;
use serde_json::{Value, json};

use crate::envoy::{MANAGER, Plan, ROUTER, type_of};
use crate::output::{self, Output};
use crate::sidecar;

/// Namespace of Kuma's control plane, which reads `ContainerPatch`es only there.
const SYSTEM_NAMESPACE: &str = "kuma-system";

const HEAD: &[&str] = &[
    "The filter in Kuma's sidecars. Apply with `kubectl apply --server-side -f FILE`.",
    "Check: (1) the module is there before MeshProxyPatch names it: Envoy refuses a listener whose module it cannot read. Apply ContainerPatch and the Deployment's part first and wait for the rollout. (2) The service's port has appProtocol http (or http2, grpc): others have no HTTP filters. (3) `kumactl inspect dataplane NAME --type=config-dump` has the filter `meshmeter` before the router, and the aggregators' clusters. (4) Envoy's log has no warning of `wasm`.",
    "Identity: kuma-dp has POD_NAME and POD_NAMESPACE in its environment; ContainerPatch adds POD_UID and NODE_NAME. Without it --ingest-identity pod-ip and token still hold: the uid is only compared if it is said.",
];
const PATCH: &[&str] = &[
    "Kuma before 2.10 knows the targetRef of kind MeshSubset with tags instead of Dataplane with labels. Lists are merged by appending, so the loggers of others stay.",
];
const CONTAINER: &[&str] = &[
    "For the sidecar's container. It has to be in the namespace of the control plane: change it if that is not kuma-system.",
];

pub(crate) fn render(plan: &Plan<'_>) -> Result<Output, crate::Refused> {
    let pods = plan.options.workload.is_some();
    let annotations = json!({"kuma.io/container-patches": plan.options.name});
    let spec = json!({"volumes": sidecar::volumes(plan)});
    let deployment = sidecar::deployment(plan, &annotations)
        .or_else(|| pods.then(|| sidecar::partial(plan, &annotations, &spec)));
    Ok(Output::new(HEAD)
        .with_some(CONTAINER, pods.then(|| container_patch(plan)))
        .with_some(
            sidecar::CONFIG_MAP,
            sidecar::config_map(plan, plan.namespace),
        )
        .with_some(sidecar::DEPLOYMENT, deployment)
        .with(PATCH, proxy_patch(plan)?))
}

fn proxy_patch(plan: &Plan<'_>) -> Result<Value, crate::Refused> {
    let mut modifications = Vec::new();
    for cluster in plan.clusters() {
        let value = output::yaml(&cluster)?;
        modifications.push(json!({"cluster": {"operation": "Add", "value": value}}));
    }
    for &direction in plan.options.direction.each() {
        modifications.push(count(plan, direction)?);
        if plan.options.upstream_log {
            modifications.push(json!({"httpFilter": {
                "operation": "Patch",
                "match": {"name": ROUTER, "origin": direction.as_str()},
                "value": output::yaml(&plan.router(direction))?,
            }}));
        }
    }
    let target = if plan.options.selector.is_empty() {
        json!({"kind": "Mesh"})
    } else {
        json!({"kind": "Dataplane", "labels": plan.options.selector})
    };
    Ok(json!({
        "apiVersion": "kuma.io/v1alpha1",
        "kind": "MeshProxyPatch",
        "metadata": {"name": plan.options.name, "namespace": plan.namespace},
        "spec": {"targetRef": target, "default": {"appendModifications": modifications}},
    }))
}

fn count(plan: &Plan<'_>, direction: Direction) -> Result<Value, crate::Refused> {
    if plan.is_filter() {
        return Ok(json!({"httpFilter": {
            "operation": "AddBefore",
            "match": {"name": ROUTER, "origin": direction.as_str()},
            "value": output::yaml(&plan.http_filter(direction))?,
        }}));
    }
    let manager = json!({
        "name": MANAGER,
        "typed_config": {
            "@type": type_of("filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "access_log": [plan.access_log(direction)],
        },
    });
    Ok(json!({"networkFilter": {
        "operation": "Patch",
        "match": {"name": MANAGER, "origin": direction.as_str()},
        "value": output::yaml(&manager)?,
    }}))
}

/// Kuma takes each value as a JSON string.
fn container_patch(plan: &Plan<'_>) -> Value {
    let variable = |name: &str, path: &str| {
        let value = json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
        json!({"op": "add", "path": "/env/-", "value": value.to_string()})
    };
    let mut patches = vec![
        variable("POD_UID", "metadata.uid"),
        variable("NODE_NAME", "spec.nodeName"),
    ];
    let mounts = sidecar::volume_mounts(plan).into_iter();
    patches.extend(
        mounts.map(
            |mount| json!({"op": "add", "path": "/volumeMounts/-", "value": mount.to_string()}),
        ),
    );
    json!({
        "apiVersion": "kuma.io/v1alpha1",
        "kind": "ContainerPatch",
        "metadata": {"name": plan.options.name, "namespace": SYSTEM_NAMESPACE},
        "spec": {"sidecarPatch": patches},
    })
}
