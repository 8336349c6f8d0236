//! Names in the cluster.

/// Namespace and name of the release.
pub const RELEASE: &str = "meshmeter";
/// Namespace of djapp, as its manifests have it.
pub const NAMESPACE: &str = "prod";
/// Namespace of what kills and stops processes of nodes.
pub const HANDS: &str = "meshmeter-hands";
/// Labels `app` of djapp's pods, and names of their containers.
pub const APPS: [&str; 3] = ["dj", "jazz", "metal"];
/// Where the load goes: the virtual service, which the sidecar of dj routes.
pub const TARGET: &str = "http://jazz.prod.svc.cluster.local:9080/";
/// Port of djapp that the sidecar leaves alone.
pub const CONTROL_PORT: u16 = 9081;
pub const HANDS_PORT: u16 = 9082;

/// The question of an autoscaler about the pods with the labels `selector`.
pub fn values_path(selector: &str) -> String {
    let selector = selector.replace('=', "%3D").replace(',', "%2C");
    format!(
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/{NAMESPACE}/pods/*/appmesh_requests_per_second?labelSelector={selector}"
    )
}
