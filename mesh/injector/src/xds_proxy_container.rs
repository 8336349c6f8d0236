//! The volumes, the init container that fills them, and the xDS proxy, which every pod gets.

use serde_json::{Value, json};

use crate::names::{
    ADMIN_PORT, CA_FILE, CA_PATH, CA_SECRET_FILE, CA_VOLUME, CONFIG_PATH, CONFIG_VOLUME, INIT,
    MODULES_PATH, MODULES_VOLUME, TOKEN_SECRET_FILE, TOKEN_VOLUME, XDS_PORT, XDS_PROXY, security,
};
use crate::settings::{Modules, Settings};

/// The modules' volume in the init container, whose image has them at [`MODULES_PATH`] itself.
const MODULES_PATH_OUT: &str = "/mnt/meshmeter";
/// Size limit of a volume: two modules of less than 160 KiB each, and four small files.
const VOLUME_MAX: &str = "16Mi";
/// Lifetime of a token in seconds; the kubelet replaces it after four fifths of it.
const TOKEN_SECONDS: u32 = 3_600;

pub(crate) fn volumes(settings: &Settings) -> Vec<Value> {
    let empty = |name: &str| json!({"name": name, "emptyDir": {"sizeLimit": VOLUME_MAX}});
    let modules = match settings.modules {
        Modules::Copied => empty(MODULES_VOLUME),
        Modules::ImageVolume => json!({
            "name": MODULES_VOLUME,
            "image": {"reference": settings.image, "pullPolicy": "IfNotPresent"},
        }),
    };
    let mut volumes = vec![empty(CONFIG_VOLUME), modules];
    let secure = settings.secure.as_ref();
    if let Some(audience) = secure.and_then(|secure| secure.audience.as_ref()) {
        // Not the pod's API token: only the aggregator accepts this audience, so a pod with
        // automountServiceAccountToken: false can have it. The kubelet chooses the file mode:
        // readable by all (0644); by the group of `fsGroup`, which every container is in; or by
        // the one user of all containers, then 1337.
        let token = json!({
            "path": "token",
            "audience": audience,
            "expirationSeconds": TOKEN_SECONDS,
        });
        volumes.push(json!({
            "name": TOKEN_VOLUME,
            "projected": {"sources": [{"serviceAccountToken": token}]},
        }));
    }
    if let Some(config_map) = config_map(settings) {
        // Optional, or the kubelet would not start the pod without it. Without it the sidecar
        // serves, and streams as soon as it exists.
        volumes.push(json!({
            "name": CA_VOLUME,
            "configMap": {"name": config_map, "optional": true},
        }));
    }
    volumes
}

/// Writes the sidecar's files, and copies the modules unless they are a volume. `node` is the node
/// ID of a stock Envoy, and `sds_socket` the path of its SDS server.
pub(crate) fn init(settings: &Settings, node: Option<&str>, sds_socket: Option<&str>) -> Value {
    let mut args = vec!["prepare".to_owned(), format!("--config={CONFIG_PATH}")];
    let mut mounts = vec![json!({"name": CONFIG_VOLUME, "mountPath": CONFIG_PATH})];
    if settings.modules == Modules::Copied {
        args.push(format!("--modules={MODULES_PATH_OUT}"));
        mounts.push(json!({"name": MODULES_VOLUME, "mountPath": MODULES_PATH_OUT}));
    }
    if sends_token(settings) {
        args.push("--token-secret".to_owned());
    }
    args.extend(node.map(|node| format!("--bootstrap={node}")));
    args.extend(sds_socket.map(|path| format!("--sds-socket={path}")));
    json!({
        "name": INIT,
        "image": settings.image,
        "args": args,
        "volumeMounts": mounts,
        "resources": resources(),
        "securityContext": security(),
    })
}

pub(crate) fn xds_proxy(settings: &Settings, has_api_token: bool) -> Value {
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let mut env = vec![
        field("POD_NAMESPACE", "metadata.namespace"),
        field("POD_NAME", "metadata.name"),
        field("POD_UID", "metadata.uid"),
        field("NODE_NAME", "spec.nodeName"),
    ];
    let watches_ca = config_map(settings).is_some();
    // Writable for the SDS file that the xDS proxy makes from the ConfigMap.
    let mut mounts = vec![
        json!({"name": CONFIG_VOLUME, "mountPath": CONFIG_PATH, "readOnly": !watches_ca}),
        json!({"name": MODULES_VOLUME, "mountPath": MODULES_PATH, "readOnly": true}),
    ];
    if watches_ca {
        // The folder, not a subPath: the kubelet does not update files mounted by subPath.
        mounts.push(json!({"name": CA_VOLUME, "mountPath": CA_PATH, "readOnly": true}));
    } else if let Some(secure) = &settings.secure {
        env.push(json!({"name": "MESHMETER_AGGREGATOR_CA", "value": secure.ca}));
    }
    let probe = |period: u32, failures: u32| {
        json!({
            "httpGet": {"path": "/readyz", "port": ADMIN_PORT},
            "periodSeconds": period,
            "failureThreshold": failures,
        })
    };
    json!({
        "name": XDS_PROXY,
        "image": settings.image,
        // A native sidecar starts before Envoy, which needs it, and ends after it.
        "restartPolicy": "Always",
        "args": xds_proxy_args(settings, has_api_token),
        "env": env,
        "ports": [{"name": "meshmeter", "containerPort": ADMIN_PORT, "protocol": "TCP"}],
        // No readiness probe: if the xDS proxy fails, Envoy keeps its configuration and the pod
        // serves.
        "startupProbe": probe(1, 30),
        "volumeMounts": mounts,
        "resources": resources(),
        "securityContext": security(),
    })
}

fn xds_proxy_args(settings: &Settings, has_api_token: bool) -> Vec<String> {
    let modules = match settings.modules {
        Modules::Copied => MODULES_PATH.to_owned(),
        // The volume is the whole image: App Mesh's annotation has no subPath.
        Modules::ImageVolume => format!("{MODULES_PATH}{MODULES_PATH}"),
    };
    let mut args = vec![
        "xds-proxy".to_owned(),
        format!("--listen=127.0.0.1:{XDS_PORT}"),
        format!("--admin-listen=0.0.0.0:{ADMIN_PORT}"),
        format!("--upstream={}", settings.upstream),
        format!("--aggregator={}", settings.aggregators.join(",")),
        format!("--filter-wasm={modules}/meshmeter-filter.wasm"),
        format!("--log-wasm={modules}/meshmeter-log.wasm"),
    ];
    let secure = settings.secure.as_ref();
    let server_name = secure.and_then(|secure| secure.server_name.as_ref());
    args.extend(server_name.map(|name| format!("--aggregator-server-name={name}")));
    if config_map(settings).is_some() {
        args.push(format!("--aggregator-ca-file={CA_FILE}"));
        args.push(format!("--aggregator-ca-secret={CA_SECRET_FILE}"));
    }
    if sends_token(settings) {
        args.push(format!("--aggregator-token-file={TOKEN_SECRET_FILE}"));
    }
    if settings.events && has_api_token {
        args.push("--events".to_owned());
    }
    args.extend(settings.xds_proxy_args.iter().cloned());
    args
}

fn sends_token(settings: &Settings) -> bool {
    let secure = settings.secure.as_ref();
    secure.is_some_and(|secure| secure.audience.is_some())
}

fn config_map(settings: &Settings) -> Option<&String> {
    let secure = settings.secure.as_ref();
    secure.and_then(|secure| secure.config_map.as_ref())
}

/// Measured: 13 MiB and 0.02 % of a core (`scripts/bench mesh`). The limit leaves room for larger
/// configurations.
fn resources() -> Value {
    json!({"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}})
}
