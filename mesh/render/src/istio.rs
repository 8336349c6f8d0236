//! Istio by `TrafficExtension` or the older `WasmPlugin`: Istio fetches the module, checks its
//! digest and inserts the filter.

use common_names::{Direction, Role};
use mesh_core::injection::{Directions, HOST_ENV_KEYS, NAME};
use serde_json::{Value, json};

use crate::envoy::{Plan, Stream};
use crate::output::Output;
use crate::sidecar;

/// The kind of Istio that holds the plugin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Api {
    /// From Istio 1.30 on.
    TrafficExtension,
    WasmPlugin,
}

const HEAD: &[&str] = &[
    "The filter in Istio's sidecars by its API for Wasm: TrafficExtension from Istio 1.30 on, WasmPlugin (istio-wasmplugin) before. Apply with `kubectl apply --server-side -f FILE`.",
    "Check: (1) `istioctl proxy-config cluster POD --port 7470` (the aggregator's port) names the clusters that pluginConfig names; a Sidecar resource with egress hosts hides them until it lists the aggregators' hosts. (2) Envoy's log has no warning of `wasm`; its /stats has wasmcustom.meshmeter counters after the first request. (3) The aggregator's admin page has the pod.",
    "Identity: istio-proxy has POD_NAME and POD_NAMESPACE in its environment, but neither the pod's uid nor its node. The aggregator's --ingest-identity pod-ip compares the address instead; with a uid missing, a pod is told apart from a predecessor of the same name by its address alone.",
    "If the VM dies, requests in flight at that moment may get 503: Istio's FAIL_OPEN becomes an option of Envoy that lets only later ones pass. istio-envoyfilter has the one that lets all pass.",
];
const PLUGIN: &[&str] = &[
    "An image is fetched by the sidecar itself: it has to reach the registry (imagePullSecret for a private one).",
];
const ENTRY: &[&str] = &[
    "Makes the aggregator a cluster of its own, by DNS: the headless service alone would be one without balancing that a filter cannot stream to. MESH_EXTERNAL: no mutual TLS of the mesh towards it.",
];
const RULE: &[&str] = &["Whether the sidecars speak TLS to it, with whom."];
const AUTHORITY: &[&str] =
    &["The CA of the aggregators' certificates, as a file for the sidecars."];

/// Mount path of the CA in the sidecars.
const CA_PATH: &str = "/etc/meshmeter";

pub(crate) fn render(plan: &Plan<'_>, api: Api) -> Output {
    let mut output = Output::new(HEAD);
    for direction in plan.options.direction.each() {
        output = output.with(PLUGIN, plugin(plan, api, *direction));
    }
    for (nth, stream) in plan.streams.iter().enumerate() {
        let name = format!("{}-aggregator-{nth}", plan.options.name);
        output = output
            .with(ENTRY, service_entry(plan, &name, stream))
            .with(RULE, destination_rule(plan, &name, stream));
    }
    output
        .with_some(AUTHORITY, authority(plan))
        .with_some(sidecar::DEPLOYMENT, deployment(plan))
}

/// One plugin for each direction: one for both would have to ask Envoy at each request.
fn plugin(plan: &Plan<'_>, api: Api, direction: Direction) -> Value {
    let options = plan.options;
    let mode = match direction {
        Direction::Inbound => "SERVER",
        Direction::Outbound => "CLIENT",
    };
    let name = match options.direction {
        Directions::Both => format!("{}-{}", options.name, direction.as_str()),
        Directions::Inbound | Directions::Outbound => options.name.clone(),
    };
    let environment = HOST_ENV_KEYS.map(|name| json!({"name": name, "valueFrom": "HOST"}));
    let mut wasm = json!({
        "url": url(plan),
        "pluginName": NAME,
        "failStrategy": "FAIL_OPEN",
        "pluginConfig": plan.configuration(Role::Filter, direction),
        "vmConfig": {"env": environment},
    });
    if let Some(sha256) = &options.module_sha256 {
        wasm["sha256"] = sha256.as_str().into();
    }
    let (kind, mut spec) = match api {
        // Without a phase it is the last filter before the router, as elsewhere.
        Api::TrafficExtension => ("TrafficExtension", json!({"wasm": wasm})),
        Api::WasmPlugin => {
            wasm["phase"] = "STATS".into();
            ("WasmPlugin", wasm)
        }
    };
    spec["match"] = json!([{"mode": mode}]);
    if !options.selector.is_empty() {
        spec["selector"] = json!({"matchLabels": options.selector});
    }
    json!({
        "apiVersion": "extensions.istio.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": plan.namespace},
        "spec": spec,
    })
}

fn url(plan: &Plan<'_>) -> Option<String> {
    let options = plan.options;
    let image = options.module_image.as_ref();
    let file = options.module_file.as_ref();
    image
        .map(|image| format!("oci://{image}"))
        .or_else(|| file.map(|file| format!("file://{file}")))
        .or_else(|| options.module_url.clone())
}

fn service_entry(plan: &Plan<'_>, name: &str, stream: &Stream<'_>) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": name, "namespace": plan.namespace},
        "spec": {
            "hosts": [stream.address.host],
            "location": "MESH_EXTERNAL",
            "resolution": "DNS",
            "exportTo": ["."],
            // For this protocol Istio makes an HTTP/2 cluster.
            "ports": [{"number": stream.address.port, "name": "grpc", "protocol": "GRPC"}],
        },
    })
}

fn destination_rule(plan: &Plan<'_>, name: &str, stream: &Stream<'_>) -> Value {
    let host = &stream.address.host;
    let tls = if plan.options.aggregator_ca.is_some() {
        let name = plan.options.aggregator_server_name.as_ref();
        let name = name.unwrap_or(host);
        json!({
            "mode": "SIMPLE",
            "caCertificates": format!("{CA_PATH}/ca.crt"),
            "sni": name,
            "subjectAltNames": [name],
        })
    } else {
        json!({"mode": "DISABLE"})
    };
    let mut spec = json!({"host": host, "exportTo": ["."], "trafficPolicy": {"tls": tls}});
    if !plan.options.selector.is_empty() {
        spec["workloadSelector"] = json!({"matchLabels": plan.options.selector});
    }
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": name, "namespace": plan.namespace},
        "spec": spec,
    })
}

fn ca_name(plan: &Plan<'_>) -> String {
    format!("{}-ca", plan.options.name)
}

fn authority(plan: &Plan<'_>) -> Option<Value> {
    let authority = plan.options.aggregator_ca.as_ref()?;
    Some(json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": ca_name(plan), "namespace": plan.namespace},
        "data": {"ca.crt": authority},
    }))
}

fn deployment(plan: &Plan<'_>) -> Option<Value> {
    plan.options.aggregator_ca.as_ref()?;
    let mounts = json!({"meshmeter-config": {"mountPath": CA_PATH, "readOnly": true}});
    let annotations = json!({USER_VOLUME_MOUNT: mounts.to_string()});
    let volume = json!({"name": "meshmeter-config", "configMap": {"name": ca_name(plan)}});
    let spec = json!({"volumes": [volume]});
    Some(sidecar::partial(plan, &annotations, &spec))
}

/// Annotation with the sidecar's mounts: a JSON object keyed by volume name.
pub(crate) const USER_VOLUME_MOUNT: &str = "sidecar.istio.io/userVolumeMount";
