//! The walkthrough's objects: a Deployment of pods that nobody runs, and an autoscaler over
//! requests per second.

use std::time::Duration;

use serde_json::{Value, json};

use crate::rest::NAMESPACE;

/// The metric of the walkthrough.
pub const METRIC: &str = "appmesh_requests_per_second";

/// Time over which the highest recommendation counts on the way down.
pub const DOWNSCALE_STABILISATION: Duration = Duration::from_secs(10);

/// A Deployment called `name` with `replicas` pods with the label `app`.
pub fn deployment(name: &str, app: &str, replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"namespace": NAMESPACE, "name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": app}},
            "template": {
                "metadata": {"labels": {"app": app}},
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "containers": [{"name": "app", "image": "app"}],
                },
            },
        },
    })
}

/// The walkthrough's autoscaler as `autoscaling/v2`: `average` requests per second per pod.
pub fn autoscaler(name: &str, (min, max): (u32, u32), average: &str) -> Value {
    json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"namespace": NAMESPACE, "name": name},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": min,
            "maxReplicas": max,
            // The controller's own flag says the same, but no API tells what it says.
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": DOWNSCALE_STABILISATION.as_secs()}},
            "metrics": [{
                "type": "Pods",
                "pods": {
                    "metric": {"name": METRIC},
                    "target": {"type": "AverageValue", "averageValue": average},
                },
            }],
        },
    })
}

/// An `APIService` that leads to the service `meshmeter-api` at `port`.
pub fn api_service(group: &str, version: &str, priority: u32, port: u16) -> Value {
    json!({
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": format!("{version}.{group}")},
        "spec": {
            "group": group,
            "version": version,
            "groupPriorityMinimum": 100,
            "versionPriority": priority,
            "service": {"namespace": "meshmeter", "name": "meshmeter-api", "port": port},
        },
    })
}

/// App Mesh's custom resources: plural, kind, scope.
pub const APP_MESH: [(&str, &str, &str); 7] = [
    ("meshes", "Mesh", "Cluster"),
    ("virtualnodes", "VirtualNode", "Namespaced"),
    ("virtualservices", "VirtualService", "Namespaced"),
    ("virtualrouters", "VirtualRouter", "Namespaced"),
    ("virtualgateways", "VirtualGateway", "Namespaced"),
    ("gatewayroutes", "GatewayRoute", "Namespaced"),
    ("backendgroups", "BackendGroup", "Namespaced"),
];

/// A service that leads to this machine: `EndpointSlices` refuse loopback, and a name does not.
pub fn service(name: &str, port: u16) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": "meshmeter", "name": name},
        "spec": {"type": "ExternalName", "externalName": "127.0.0.1", "ports": [{"port": port}]},
    })
}

/// The status of a pod that runs and is ready, at this machine's address.
pub fn running() -> Value {
    json!({"status": {
        "phase": "Running",
        "podIP": "127.0.0.1",
        "podIPs": [{"ip": "127.0.0.1"}],
        "conditions": [
            {"type": "Ready", "status": "True"},
            {"type": "ContainersReady", "status": "True"},
        ],
    }})
}
