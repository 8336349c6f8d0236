//! What a control plane for sidecars looks at besides services: custom resources of App Mesh, whose
//! status is a subresource, and `EndpointSlices`.

use serde_json::Value;

use super::Resource;

/// Meshes; they have no namespace.
pub const MESH: Resource = app_mesh("meshes", "Mesh");
pub const VIRTUAL_NODE: Resource = app_mesh("virtualnodes", "VirtualNode");
pub const VIRTUAL_SERVICE: Resource = app_mesh("virtualservices", "VirtualService");
pub const VIRTUAL_ROUTER: Resource = app_mesh("virtualrouters", "VirtualRouter");
pub const VIRTUAL_GATEWAY: Resource = app_mesh("virtualgateways", "VirtualGateway");
pub const GATEWAY_ROUTE: Resource = app_mesh("gatewayroutes", "GatewayRoute");
pub const BACKEND_GROUP: Resource = app_mesh("backendgroups", "BackendGroup");
pub const RESOURCES: [Resource; 7] = [
    MESH,
    VIRTUAL_NODE,
    VIRTUAL_SERVICE,
    VIRTUAL_ROUTER,
    VIRTUAL_GATEWAY,
    GATEWAY_ROUTE,
    BACKEND_GROUP,
];
pub const ENDPOINT_SLICE: Resource = Resource {
    group_path: "/apis/discovery.k8s.io/v1",
    plural: "endpointslices",
    kind: "EndpointSlice",
    api_version: "discovery.k8s.io/v1",
};

const fn app_mesh(plural: &'static str, kind: &'static str) -> Resource {
    Resource {
        group_path: "/apis/appmesh.k8s.aws/v1beta2",
        plural,
        kind,
        api_version: "appmesh.k8s.aws/v1beta2",
    }
}

/// The kind of a manifest, if it is one of App Mesh.
pub fn of_manifest(manifest: &Value) -> Option<Resource> {
    RESOURCES
        .into_iter()
        .find(|resource| manifest["kind"] == resource.kind)
}

/// Rises when `spec` changes, and only then.
pub(super) fn generation(old: Option<&Value>, new: &Value) -> i64 {
    let Some(old) = old else {
        return 1;
    };
    let before = old["metadata"]["generation"].as_i64().unwrap_or(0);
    before + i64::from(old["spec"] != new["spec"])
}
