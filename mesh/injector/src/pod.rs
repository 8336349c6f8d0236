//! What is added to a pod.

use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::annotations::{AnnotationError, add_env, add_mount};

/// Label or annotation of a pod: `disabled` leaves it as it is.
pub const INJECT: &str = "meshmeter.io/inject";
/// Annotation that says that it was done, and by which version.
pub const INJECTED: &str = "meshmeter.io/injected";

const CONFIG_VOLUME: &str = "meshmeter-config";
const MODULES_VOLUME: &str = "meshmeter-modules";
const CONFIG_PATH: &str = "/etc/meshmeter";
const MODULES_PATH: &str = "/opt/meshmeter";
const INIT: &str = "meshmeter-init";
const INTERPOSER: &str = "meshmeter-interposer";
const SIDECAR: &str = "envoy";
const RESOURCES: &str = "ENVOY_RESOURCES_CONFIG_FILE";

/// The user of App Mesh's sidecar: its traffic is not redirected.
const USER: u32 = 1337;
/// Where the interposer says whether it is ready.
const ADMIN_PORT: u16 = 15_091;

/// What every pod gets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Image with `meshmeter-mesh` and, in `/opt/meshmeter`, the modules.
    pub image: String,
    /// Where the interposers get the configuration from, as `--upstream` has it.
    pub upstream: String,
    /// Where the sidecars stream to, as HOST:PORT.
    pub aggregators: Vec<String>,
    /// Version of this program.
    pub version: String,
}

/// A pod that is left as it is.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Skipped {
    /// It says so.
    #[error("{INJECT} is disabled")]
    Disabled,
    /// It has everything already.
    #[error("it is injected already")]
    Done,
    /// Nobody's sidecar could see the other containers' network as it should.
    #[error("it is on the network of its host")]
    HostNetwork,
    /// A name is taken.
    #[error("it has a {what} {name} of its own")]
    Taken {
        /// Container or volume.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// An annotation cannot be added to.
    #[error(transparent)]
    Annotation(#[from] AnnotationError),
    /// Not a pod.
    #[error("it is no pod: {0}")]
    NoPod(&'static str),
}

/// The pod with the filter's surroundings.
pub fn inject(pod: &Value, settings: &Settings) -> Result<Value, Skipped> {
    let mut pod = pod.clone();
    wanted(&pod)?;
    let has_sidecar = named(&pod["spec"]["containers"], SIDECAR).is_some();
    for (list, what, names) in [
        ("initContainers", "container", [INIT, INTERPOSER]),
        ("containers", "container", [INIT, INTERPOSER]),
        ("volumes", "volume", [CONFIG_VOLUME, MODULES_VOLUME]),
    ] {
        for name in names {
            if named(&pod["spec"][list], name).is_some() {
                let name = name.to_owned();
                return Err(Skipped::Taken { what, name });
            }
        }
    }
    let file = format!("{CONFIG_PATH}/resources.yaml");
    let annotations = object(&mut pod["metadata"]["annotations"])?;
    annotations.insert(INJECTED.to_owned(), settings.version.clone().into());
    if has_sidecar {
        // The controller leaves it alone, so it is ours to change.
        add_to_sidecar(&mut pod["spec"]["containers"], &file)?;
    } else {
        add_env(annotations, RESOURCES, &file)?;
        add_mount(annotations, CONFIG_VOLUME, CONFIG_PATH);
        add_mount(annotations, MODULES_VOLUME, MODULES_PATH);
    }
    let spec = &mut pod["spec"];
    for volume in [CONFIG_VOLUME, MODULES_VOLUME] {
        let limit = json!({"name": volume, "emptyDir": {"sizeLimit": "16Mi"}});
        list(&mut spec["volumes"])?.push(limit);
    }
    // First of all: App Mesh's own init container redirects traffic, and others may need the network as it is then.
    let init = list(&mut spec["initContainers"])?;
    init.splice(0..0, [prepares(settings), interposer(settings)]);
    Ok(pod)
}

fn wanted(pod: &Value) -> Result<(), Skipped> {
    if !pod["spec"]["containers"].is_array() {
        return Err(Skipped::NoPod("spec.containers is no list"));
    }
    let metadata = &pod["metadata"];
    if !metadata.is_object() {
        return Err(Skipped::NoPod("metadata is no object"));
    }
    let disabled = |of: &str| metadata[of][INJECT].as_str() == Some("disabled");
    if disabled("labels") || disabled("annotations") {
        return Err(Skipped::Disabled);
    }
    if metadata["annotations"][INJECTED].is_string() {
        return Err(Skipped::Done);
    }
    if pod["spec"]["hostNetwork"].as_bool() == Some(true) {
        return Err(Skipped::HostNetwork);
    }
    Ok(())
}

fn add_to_sidecar(containers: &mut Value, file: &str) -> Result<(), Skipped> {
    let containers = list(containers)?;
    let Some(sidecar) = containers
        .iter_mut()
        .find(|container| container["name"] == SIDECAR)
    else {
        return Ok(());
    };
    let env = list(&mut sidecar["env"])?;
    if let Some(there) = env.iter().find(|variable| variable["name"] == RESOURCES) {
        if there["value"] != file {
            let what = "variable of the container envoy:";
            let name = RESOURCES.to_owned();
            return Err(Skipped::Taken { what, name });
        }
    } else {
        env.push(json!({"name": RESOURCES, "value": file}));
    }
    let mounts = list(&mut sidecar["volumeMounts"])?;
    for (name, path) in [(CONFIG_VOLUME, CONFIG_PATH), (MODULES_VOLUME, MODULES_PATH)] {
        mounts.push(json!({"name": name, "mountPath": path, "readOnly": true}));
    }
    Ok(())
}

/// Copies the modules and writes the sidecar's resources file.
fn prepares(settings: &Settings) -> Value {
    json!({
        "name": INIT,
        "image": settings.image,
        "args": ["prepare", "--modules", MODULES_PATH_OUT, "--config", CONFIG_PATH],
        "volumeMounts": [
            {"name": CONFIG_VOLUME, "mountPath": CONFIG_PATH},
            {"name": MODULES_VOLUME, "mountPath": MODULES_PATH_OUT},
        ],
        "resources": resources("10m", "16Mi"),
        "securityContext": security(),
    })
}

/// Where the modules are written to: in the image they are at [`MODULES_PATH`] themselves.
const MODULES_PATH_OUT: &str = "/mnt/meshmeter";

fn interposer(settings: &Settings) -> Value {
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    json!({
        "name": INTERPOSER,
        "image": settings.image,
        // A native sidecar: it is there before the sidecar that waits for it, and ends after it.
        "restartPolicy": "Always",
        "args": [
            "interposer",
            "--listen=127.0.0.1:15090",
            format!("--admin-listen=0.0.0.0:{ADMIN_PORT}"),
            format!("--upstream={}", settings.upstream),
            format!("--aggregator={}", settings.aggregators.join(",")),
            format!("--filter-wasm={MODULES_PATH}/meshmeter-filter.wasm"),
            format!("--log-wasm={MODULES_PATH}/meshmeter-log.wasm"),
        ],
        "env": [
            field("POD_NAMESPACE", "metadata.namespace"),
            field("POD_NAME", "metadata.name"),
            field("POD_UID", "metadata.uid"),
            field("NODE_NAME", "spec.nodeName"),
        ],
        "ports": [{"name": "meshmeter", "containerPort": ADMIN_PORT}],
        "startupProbe": {
            "httpGet": {"path": "/readyz", "port": ADMIN_PORT},
            "periodSeconds": 1,
            "failureThreshold": 30,
        },
        "volumeMounts": [{"name": MODULES_VOLUME, "mountPath": MODULES_PATH, "readOnly": true}],
        "resources": resources("10m", "16Mi"),
        "securityContext": security(),
    })
}

fn resources(cpu: &str, memory: &str) -> Value {
    json!({"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": "64Mi"}})
}

fn security() -> Value {
    json!({
        "runAsUser": USER,
        "runAsNonRoot": true,
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

fn named<'a>(items: &'a Value, name: &str) -> Option<&'a Value> {
    items.as_array()?.iter().find(|item| item["name"] == name)
}

fn list(value: &mut Value) -> Result<&mut Vec<Value>, Skipped> {
    if value.is_null() {
        *value = json!([]);
    }
    value.as_array_mut().ok_or(Skipped::NoPod("a list is none"))
}

fn object(value: &mut Value) -> Result<&mut Map<String, Value>, Skipped> {
    if value.is_null() {
        *value = json!({});
    }
    value
        .as_object_mut()
        .ok_or(Skipped::NoPod("annotations are none"))
}
