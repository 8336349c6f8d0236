//! Custom kinds, read against the schemas of `schemas/`.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::built_in;

/// Findings that an error names at most.
const FINDINGS_MAX: usize = 10;

/// Schemas as `(file, text)`.
macro_rules! schemas {
    ($($file:literal),+ $(,)?) => {
        [$(($file, include_str!(concat!("../schemas/", $file)))),+]
    };
}

/// The schemas: `GROUP/KIND.VERSION.json`.
static SCHEMAS: [(&str, &str); 24] = schemas![
    "appmesh.k8s.aws/Mesh.v1beta2.json",
    "appmesh.k8s.aws/VirtualNode.v1beta2.json",
    "appmesh.k8s.aws/VirtualRouter.v1beta2.json",
    "appmesh.k8s.aws/VirtualService.v1beta2.json",
    "cert-manager.io/Certificate.v1.json",
    "cert-manager.io/ClusterIssuer.v1.json",
    "cert-manager.io/Issuer.v1.json",
    "consul.hashicorp.com/ProxyDefaults.v1alpha1.json",
    "consul.hashicorp.com/ServiceDefaults.v1alpha1.json",
    "extensions.istio.io/TrafficExtension.v1alpha1.json",
    "extensions.istio.io/WasmPlugin.v1alpha1.json",
    "gateway.envoyproxy.io/Backend.v1alpha1.json",
    "gateway.envoyproxy.io/EnvoyExtensionPolicy.v1alpha1.json",
    "gateway.envoyproxy.io/EnvoyPatchPolicy.v1alpha1.json",
    "gateway.envoyproxy.io/EnvoyProxy.v1alpha1.json",
    "kuma.io/ContainerPatch.v1alpha1.json",
    "kuma.io/MeshProxyPatch.v1alpha1.json",
    "monitoring.coreos.com/PodMonitor.v1.json",
    "monitoring.coreos.com/PrometheusRule.v1.json",
    "monitoring.coreos.com/ServiceMonitor.v1.json",
    "networking.istio.io/DestinationRule.v1.json",
    "networking.istio.io/EnvoyFilter.v1alpha3.json",
    "networking.istio.io/ServiceEntry.v1.json",
    "networking.istio.io/Sidecar.v1.json",
];

/// Reads `value` against the schema of its kind; `Ok(false)` if there is none.
pub(crate) fn check(api_version: &str, kind: &str, value: &Value) -> Result<bool> {
    let Some((group, version)) = api_version.split_once('/') else {
        return Ok(false);
    };
    let file = format!("{group}/{kind}.{version}.json");
    let Some((_, schema)) = SCHEMAS.iter().find(|(name, _)| *name == file) else {
        return Ok(false);
    };
    let schema: Value = serde_json::from_str(schema).with_context(|| file.clone())?;
    check_schema(&schema, value).with_context(|| file.clone())?;
    built_in::metadata(&value["metadata"]).context("metadata")?;
    Ok(true)
}

/// Reads `value` against the JSON Schema `schema`; the error names what is not in order, and where
/// it is.
pub fn check_schema(schema: &Value, value: &Value) -> Result<()> {
    let validator = jsonschema::validator_for(schema)?;
    let findings = validator.iter_errors(value).take(FINDINGS_MAX);
    let findings: Vec<String> = findings
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    if !findings.is_empty() {
        bail!("{}", findings.join("; "));
    }
    Ok(())
}
