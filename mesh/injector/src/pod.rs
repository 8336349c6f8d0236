//! What is added to a pod.

use serde_json::{Value, json};
use thiserror::Error;

use crate::annotations::{AnnotationError, add_env, add_mount};
use crate::beside;
use crate::layout::{
    BOOTSTRAP_FILE, CONFIG_VOLUME, INIT, INTERPOSER, MODULES_VOLUME, REDIRECT, RESOURCES_FILE,
    SEEN, SIDECAR, TOKEN_VOLUME, containers, list, named, object,
};
use crate::ports;
use crate::settings::Settings;
use crate::stock::{self, CONTROLLER};
use crate::virtual_node::{NoVirtualNode, VirtualNode, VirtualNodes};

/// Label or annotation of a pod: `disabled` leaves it as it is.
pub const INJECT: &str = "meshmeter.io/inject";
/// Annotation that says that it was done, and by which version.
pub const INJECTED: &str = "meshmeter.io/injected";

/// Kubernetes' annotation of a pod that its node made from a file; the API has only its image.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// Which nodes a pod may run on; most pods for Windows have this and no `os`.
const OS_LABEL: &str = "kubernetes.io/os";
/// Tells App Mesh's agent what to read.
const RESOURCES: &str = "ENVOY_RESOURCES_CONFIG_FILE";

/// A pod that is left as it is.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Skipped {
    /// It says so.
    #[error("{INJECT} is disabled")]
    Disabled,
    /// It wants no sidecar of App Mesh.
    #[error("{CONTROLLER} is disabled")]
    NotInMesh,
    /// It has everything already.
    #[error("it is injected already")]
    Done,
    /// Whether it wants one depends on a virtual node, as for App Mesh's controller, and there is none.
    #[error("{CONTROLLER} is {0:?}, neither enabled nor disabled, and no virtual node selects it")]
    NotSelected(String),
    /// Nothing that is asked for here: a change of a pod that is there, or a part of it.
    #[error("it is {0}, not the creation of a pod")]
    NoCreation(String),
    /// Nobody's sidecar could see the other containers' network as it should.
    #[error("it is on the network of its host")]
    HostNetwork,
    /// Changing the image of a pod changes nothing.
    #[error("it is the mirror of a static pod")]
    Mirror,
    /// There is no sidecar for it.
    #[error("it is for nodes of {0}")]
    System(String),
    /// A name or port is taken.
    #[error("it has a {what} {name} of its own")]
    Taken {
        /// What is taken.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// An annotation cannot be added to.
    #[error(transparent)]
    Annotation(#[from] AnnotationError),
    /// More ports than can be redirected.
    #[error(
        "it has {count} ports to redirect, and at most {max} can be: name those of the mesh in the annotation appmesh.k8s.aws/ports"
    )]
    TooManyPorts {
        /// How many there are.
        count: usize,
        /// How many there can be.
        max: usize,
    },
    /// A variable that only App Mesh's image reads.
    #[error(
        "the annotation for the sidecar's environment has {0}, which a stock Envoy does not read"
    )]
    AgentOnly(String),
    /// A mount of a volume that is not there.
    #[error("the annotation for the sidecar's mounts has {0:?}, which is no volume of it")]
    NoVolume(String),
    /// Its sidecar would not know what to call itself.
    #[error(transparent)]
    NoVirtualNode(#[from] NoVirtualNode),
    /// Not a pod.
    #[error("it is no pod: {0}")]
    NoPod(&'static str),
}

// === impl Skipped ===

impl Skipped {
    /// All that [`Self::reason`] says.
    pub const REASONS: [&'static str; 15] = [
        "disabled",
        "not_in_mesh",
        "not_selected",
        "too_many_ports",
        "done",
        "no_creation",
        "host_network",
        "mirror",
        "system",
        "taken",
        "annotation",
        "agent_only",
        "no_volume",
        "no_virtual_node",
        "no_pod",
    ];

    /// The reason in a word, one of a fixed set: a label of metrics and events.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::NotInMesh => "not_in_mesh",
            Self::NotSelected(_) => "not_selected",
            Self::TooManyPorts { .. } => "too_many_ports",
            Self::Done => "done",
            Self::NoCreation(_) => "no_creation",
            Self::HostNetwork => "host_network",
            Self::Mirror => "mirror",
            Self::System(_) => "system",
            Self::Taken { .. } => "taken",
            Self::Annotation(_) => "annotation",
            Self::AgentOnly(_) => "agent_only",
            Self::NoVolume(_) => "no_volume",
            Self::NoVirtualNode(_) => "no_virtual_node",
            Self::NoPod(_) => "no_pod",
        }
    }

    /// What somebody asked for, or what is as it should be: no reason to warn.
    pub fn is_wanted(&self) -> bool {
        matches!(
            self,
            Self::Disabled
                | Self::NotInMesh
                | Self::NotSelected(_)
                | Self::Done
                | Self::Mirror
                | Self::NoCreation(_)
        )
    }
}

/// The pod of `namespace` with the filter's surroundings. `nodes` is only asked where the sidecar is ours too.
pub fn inject(
    pod: &Value,
    namespace: &str,
    settings: &Settings,
    nodes: &dyn VirtualNodes,
) -> Result<Value, Skipped> {
    is_pod(pod)?;
    let mut pod = pod.clone();
    if is_injected(&pod) {
        return called_again(pod);
    }
    wanted(&pod)?;
    is_free(&pod)?;
    ports::are_free(&pod["spec"], settings.stock.is_some())?;
    let mut node_id = None;
    if let Some(stock) = &settings.stock {
        let node = VirtualNode::of(&pod, namespace, stock.mesh.as_deref(), nodes);
        let node = node.map_err(|error| unspecified(&pod, error))?;
        ports::are_not_of_the_application(&node.ports)?;
        stock::add_redirection(&mut pod, stock, &node)?;
        node_id = Some(node.id(namespace));
    }
    list(&mut pod["spec"]["volumes"])?.extend(beside::volumes(settings));
    let has_sidecar = containers(&pod["spec"]).any(|container| container["name"] == SIDECAR);
    match &settings.stock {
        Some(stock) if !has_sidecar => stock::add_sidecar(&mut pod, stock)?,
        _ => {
            node_id = None;
            tell_sidecar(&mut pod)?;
        }
    }
    let has_api_token = pod["spec"]["automountServiceAccountToken"] != false;
    // First of all: what redirects traffic comes later, and others may need the network as it is then.
    list(&mut pod["spec"]["initContainers"])?.splice(
        0..0,
        [
            beside::prepares(settings, node_id.as_deref()),
            beside::interposer(settings, has_api_token),
        ],
    );
    let annotations = object(&mut pod["metadata"]["annotations"])?;
    annotations.insert(INJECTED.to_owned(), settings.version.clone().into());
    Ok(pod)
}

/// Whether a container of that name is one of ours.
pub(crate) fn is_ours(name: &str) -> bool {
    [INIT, INTERPOSER, REDIRECT].contains(&name)
}

fn is_pod(pod: &Value) -> Result<(), Skipped> {
    if !pod["spec"]["containers"].is_array() {
        return Err(Skipped::NoPod("spec.containers is no list"));
    }
    if !pod["metadata"].is_object() {
        return Err(Skipped::NoPod("metadata is no object"));
    }
    Ok(())
}

/// The annotation alone says nothing: it may have been copied.
fn is_injected(pod: &Value) -> bool {
    let annotated = pod["metadata"]["annotations"][INJECTED].is_string();
    annotated && named(&pod["spec"]["initContainers"], INTERPOSER).is_some()
}

/// Others have changed the pod since the first call: a sidecar may be there that was not, or an annotation be gone.
fn called_again(mut pod: Value) -> Result<Value, Skipped> {
    let before = pod.clone();
    tell_sidecar(&mut pod)?;
    if pod == before {
        return Err(Skipped::Done);
    }
    Ok(pod)
}

fn wanted(pod: &Value) -> Result<(), Skipped> {
    let metadata = &pod["metadata"];
    let is = |of: &str, name: &str, word: &str| {
        let value = metadata[of][name].as_str();
        value.is_some_and(|value| value.trim().eq_ignore_ascii_case(word))
    };
    let off = |of: &str| is(of, INJECT, "disabled") || is(of, INJECT, "false");
    if off("labels") || off("annotations") {
        return Err(Skipped::Disabled);
    }
    if is("annotations", CONTROLLER, "disabled") {
        return Err(Skipped::NotInMesh);
    }
    if metadata["annotations"][MIRROR].is_string() {
        return Err(Skipped::Mirror);
    }
    if pod["spec"]["hostNetwork"] == true {
        return Err(Skipped::HostNetwork);
    }
    let spec = &pod["spec"];
    let systems = [&spec["os"]["name"], &spec["nodeSelector"][OS_LABEL]];
    let mut systems = systems.into_iter().filter_map(Value::as_str);
    match systems.find(|system| *system != "linux") {
        None => Ok(()),
        Some(other) => Err(Skipped::System(other.to_owned())),
    }
}

/// App Mesh's controller reads `enabled` and `disabled` in whatever case. With any other word it adds a sidecar where a virtual node selects the pod,
/// and says nothing where none does.
fn unspecified(pod: &Value, error: NoVirtualNode) -> Skipped {
    let word = pod["metadata"]["annotations"][CONTROLLER].as_str();
    match (word, error) {
        (Some(word), NoVirtualNode::None) if !word.eq_ignore_ascii_case("enabled") => {
            Skipped::NotSelected(word.to_owned())
        }
        (_, error) => error.into(),
    }
}

/// Names of ours are nobody else's.
fn is_free(pod: &Value) -> Result<(), Skipped> {
    let spec = &pod["spec"];
    let taken = |what, name: &str| {
        let name = name.to_owned();
        Err(Skipped::Taken { what, name })
    };
    for container in containers(spec) {
        let name = container["name"].as_str().unwrap_or_default();
        if is_ours(name) {
            return taken("container", name);
        }
    }
    for name in [CONFIG_VOLUME, MODULES_VOLUME, TOKEN_VOLUME] {
        if named(&spec["volumes"], name).is_some() {
            return taken("volume", name);
        }
    }
    Ok(())
}

/// Leads the sidecar to the interposer: the container, if it is there and theirs, else the annotations that App Mesh's
/// controller makes one of.
fn tell_sidecar(pod: &mut Value) -> Result<(), Skipped> {
    let volumes = &pod["spec"]["volumes"];
    let seen = SEEN
        .into_iter()
        .filter(|(name, _)| named(volumes, name).is_some());
    let seen: Vec<_> = seen.collect();
    for of in ["containers", "initContainers"] {
        let all = pod["spec"][of].as_array_mut();
        let mut all = all.into_iter().flatten();
        if let Some(sidecar) = all.find(|container| container["name"] == SIDECAR) {
            return add_to_sidecar(sidecar, &seen);
        }
    }
    let annotations = object(&mut pod["metadata"]["annotations"])?;
    add_env(annotations, RESOURCES, RESOURCES_FILE)?;
    for (volume, path) in seen {
        add_mount(annotations, volume, path)?;
    }
    Ok(())
}

fn add_to_sidecar(sidecar: &mut Value, seen: &[(&str, &str)]) -> Result<(), Skipped> {
    // Ours has its bootstrap, which leads there.
    if sidecar["args"].to_string().contains(BOOTSTRAP_FILE) {
        return Ok(());
    }
    let env = list(&mut sidecar["env"])?;
    if let Some(there) = env.iter().find(|variable| variable["name"] == RESOURCES) {
        if there["value"] != RESOURCES_FILE {
            let what = "variable of the container envoy:";
            let name = RESOURCES.to_owned();
            return Err(Skipped::Taken { what, name });
        }
    } else {
        env.push(json!({"name": RESOURCES, "value": RESOURCES_FILE}));
    }
    let mounts = list(&mut sidecar["volumeMounts"])?;
    for (name, path) in seen {
        match mounts.iter().find(|mount| mount["mountPath"] == *path) {
            None => mounts.push(json!({"name": name, "mountPath": path, "readOnly": true})),
            Some(there) if there["name"] == *name => {}
            Some(_) => {
                let what = "mount of the container envoy at";
                let name = (*path).to_owned();
                return Err(Skipped::Taken { what, name });
            }
        }
    }
    Ok(())
}
