//! Names, paths and ports in a pod, and access to its lists.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::skipped::Skipped;

pub(crate) const INIT: &str = "meshmeter-init";
pub(crate) const XDS_PROXY: &str = "meshmeter-xds-proxy";
/// The xDS proxy in pods that v0.1.0 injected.
pub(crate) const XDS_PROXY_V0_1: &str = "meshmeter-interposer";
pub(crate) const REDIRECT: &str = "meshmeter-redirect";
/// The init container by which App Mesh's controller redirects traffic.
pub(crate) const PROXYINIT: &str = "proxyinit";
pub(crate) const SIDECAR: &str = "envoy";

pub(crate) const CONFIG_VOLUME: &str = "meshmeter-config";
pub(crate) const MODULES_VOLUME: &str = "meshmeter-modules";
pub(crate) const TOKEN_VOLUME: &str = "meshmeter-token";
pub(crate) const CA_VOLUME: &str = "meshmeter-ca";
pub(crate) const CONFIG_PATH: &str = "/etc/meshmeter";
pub(crate) const MODULES_PATH: &str = "/opt/meshmeter";
pub(crate) const TOKEN_PATH: &str = "/var/run/secrets/meshmeter";
/// Volumes that the sidecar mounts, and their paths.
pub(crate) const SIDECAR_MOUNTS: [(&str, &str); 3] = [
    (CONFIG_VOLUME, CONFIG_PATH),
    (MODULES_VOLUME, MODULES_PATH),
    (TOKEN_VOLUME, TOKEN_PATH),
];

/// Read by App Mesh's agent.
pub(crate) const RESOURCES_FILE: &str = "/etc/meshmeter/resources.yaml";
/// Read by a stock Envoy.
pub(crate) const BOOTSTRAP_FILE: &str = "/etc/meshmeter/envoy.yaml";
/// Envoy's SDS file for the token.
pub(crate) const TOKEN_SECRET_FILE: &str = "/etc/meshmeter/token.json";
/// The CAs from the `ConfigMap`, and the SDS file that the xDS proxy writes from them for Envoy.
pub(crate) const CA_PATH: &str = "/etc/meshmeter-ca";
pub(crate) const CA_FILE: &str = "/etc/meshmeter-ca/ca.crt";
pub(crate) const CA_SECRET_FILE: &str = "/etc/meshmeter/ca.json";

/// The xDS proxy's discovery service for Envoy, on loopback.
pub(crate) const XDS_PORT: u16 = 15_090;
/// Readiness and metrics of the xDS proxy.
pub(crate) const ADMIN_PORT: u16 = 15_091;
/// Readiness and metrics of a stock Envoy.
pub(crate) const STATUS_PORT: u16 = 15_092;

/// Admin interface of a stock Envoy, on loopback.
pub(crate) const ENVOY_ADMIN_PORT: u16 = 9_901;
/// Ports of the control plane's listeners to which inbound and outbound traffic is redirected.
pub(crate) const INGRESS_PORT: u16 = 15_000;
pub(crate) const EGRESS_PORT: u16 = 15_001;

/// User ID of App Mesh's sidecar, whose own traffic is not redirected.
pub(crate) const USER: u32 = 1337;

/// Security context for the Pod Security Standard `restricted`.
pub(crate) fn security() -> Value {
    json!({
        "runAsUser": USER,
        "runAsNonRoot": true,
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

pub(crate) fn named<'a>(items: &'a Value, name: &str) -> Option<&'a Value> {
    items.as_array()?.iter().find(|item| item["name"] == name)
}

/// The sidecar, wherever it is.
pub(crate) fn sidecar(pod: &mut Value) -> Option<&mut Value> {
    let fields = pod["spec"].as_object_mut()?.iter_mut();
    let lists =
        fields.filter(|(name, _)| ["initContainers", "containers"].contains(&name.as_str()));
    let mut containers = lists.filter_map(|(_, list)| list.as_array_mut()).flatten();
    containers.find(|container| container["name"] == SIDECAR)
}

/// All containers of a pod, init containers first.
pub(crate) fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["initContainers", "containers"];
    lists
        .into_iter()
        .filter_map(|list| spec[list].as_array())
        .flatten()
}

pub(crate) fn list(value: &mut Value) -> Result<&mut Vec<Value>, Skipped> {
    if value.is_null() {
        *value = json!([]);
    }
    value
        .as_array_mut()
        .ok_or(Skipped::NoPod("a field that should be an array is not"))
}

pub(crate) fn object(value: &mut Value) -> Result<&mut Map<String, Value>, Skipped> {
    if value.is_null() {
        *value = json!({});
    }
    value
        .as_object_mut()
        .ok_or(Skipped::NoPod("metadata.annotations: expected an object"))
}

/// Labels of a pod.
pub(crate) fn labels(pod: &Value) -> BTreeMap<String, String> {
    let labels = pod["metadata"]["labels"].as_object();
    let labels = labels.into_iter().flatten();
    let labels = labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
    labels.collect()
}

/// Mounts volumes, unless they are mounted already.
pub(crate) fn add_mounts(sidecar: &mut Value, added: &[(&str, &str)]) -> Result<(), Skipped> {
    let mounts = list(&mut sidecar["volumeMounts"])?;
    for (name, path) in added {
        match mounts.iter().find(|mount| mount["mountPath"] == *path) {
            None => mounts.push(json!({"name": name, "mountPath": path, "readOnly": true})),
            Some(mount) if mount["name"] == *name => {}
            Some(_) => {
                let what = "mount of the container envoy at";
                let name = (*path).to_owned();
                return Err(Skipped::Taken { what, name });
            }
        }
    }
    Ok(())
}
