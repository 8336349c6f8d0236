//! App Mesh without the webhook: the fields that it would add to a pod, as a partial Deployment.

use common_names::Role;
use mesh_injector::pod;
use mesh_injector::settings::{Secure, Settings};
use mesh_injector::virtual_node::Unknown;
use serde_json::{Value, json};

use crate::checks::{self, Refused};
use crate::options::Options;
use crate::output::Output;
use crate::sidecar::TOKEN_AUDIENCE;

const HEAD: &[&str] = &[
    "The filter in App Mesh's sidecars by an xDS proxy, for those who do not run the webhook. Apply with `kubectl apply --server-side -f FILE`: only the fields that are added to the Deployment that is there. Annotations appmesh.k8s.aws/sidecarEnv and volumeMounts that its template has already are replaced: join them by hand, or let `meshmeter-mesh inject` do it.",
    "Check: (1) App Mesh's controller injects the pods (it adds the container `envoy`, and reads the annotations). (2) The xDS proxy's startup probe passes, and its /metrics count changed listeners. (3) `meshmeter_mesh_xds_proxy_changes_rejected` stays 0: if Envoy refuses the filter, it gets the original. (4) The aggregator's admin page has the pod.",
    "Identity: the xDS proxy has the downward API and writes namespace, name, uid and node into the plugin configuration.",
    "Not by this: a pod without App Mesh's controller (the webhook's --inject-envoy), and pods that are made by something else than a Deployment (apply the same fields to their template).",
];

pub(crate) fn render(options: &Options) -> Result<Output, Refused> {
    let empty = json!({"metadata": {}, "spec": {"containers": []}});
    let namespace = options.namespace.as_deref().unwrap_or_default();
    let mut pod = pod::inject(&empty, namespace, &settings(options), &Unknown)
        .map_err(|error| checks::value("for", error.to_string()))?;
    if let Some(spec) = pod["spec"].as_object_mut() {
        spec.remove("containers");
        if !options.upstream_log
            && let Some(Value::Array(containers)) = spec.get_mut("initContainers")
        {
            containers.iter_mut().for_each(without_log);
        }
    }
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": options.workload, "namespace": options.namespace},
        "spec": {"template": pod},
    });
    Ok(Output::new(HEAD).with(&[], deployment))
}

/// The webhook's settings that correspond to the options.
fn settings(options: &Options) -> Settings {
    let aggregators = options.aggregators.iter();
    let mut xds_proxy_args = vec![format!("--direction={}", options.direction.as_str())];
    if options.role == Role::AccessLog {
        xds_proxy_args.push("--role=access-log".to_owned());
    }
    if !options.plugin_config.is_empty() {
        let fields = Value::from(options.plugin_config.clone());
        xds_proxy_args.push(format!("--plugin-config={fields}"));
    }
    let secure = options.aggregator_ca.clone().map(|ca| Secure {
        ca,
        config_map: None,
        server_name: options.aggregator_server_name.clone(),
        audience: options.aggregator_token.then(|| TOKEN_AUDIENCE.to_owned()),
    });
    Settings {
        image: options.image.clone().unwrap_or_default(),
        upstream: options.upstream.clone().unwrap_or_default(),
        aggregators: aggregators
            .map(|aggregator| format!("{}:{}", bracketed(&aggregator.host), aggregator.port))
            .collect(),
        secure,
        xds_proxy_args,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Settings::default()
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') {
        return format!("[{host}]");
    }
    host.to_owned()
}

/// Removes the logger's module from the xDS proxy's flags.
fn without_log(container: &mut Value) {
    let Some(args) = container["args"].as_array_mut() else {
        return;
    };
    let is_log = |arg: &Value| {
        arg.as_str()
            .is_some_and(|arg| arg.starts_with("--log-wasm"))
    };
    args.retain(|arg| !is_log(arg));
}
