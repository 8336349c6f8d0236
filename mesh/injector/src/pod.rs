//! Injection into a pod.

use serde_json::{Value, json};

use crate::annotations::{CONTROLLER, INJECT, add_env, add_mount};
use crate::envoy_sidecar;
use crate::names::{
    BOOTSTRAP_FILE, CA_VOLUME, CONFIG_VOLUME, INIT, MODULES_VOLUME, REDIRECT, RESOURCES_FILE,
    SIDECAR, SIDECAR_MOUNTS, TOKEN_VOLUME, XDS_PROXY, XDS_PROXY_V0_1, add_mounts, containers, list,
    named, object,
};
use crate::ports;
use crate::sds;
use crate::settings::Settings;
use crate::skipped::{NoVirtualNode, Skipped};
use crate::virtual_gateway::Member;
use crate::virtual_node::VirtualNodes;
use crate::xds_proxy_container;

/// Annotation of an injected pod: the version that injected it.
pub const INJECTED: &str = "meshmeter.io/injected";

/// Annotation of a mirror pod: the API's copy of a static pod, which the kubelet runs from a file.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// Node selector key; most pods for Windows have this and no `spec.os`.
const OS_LABEL: &str = "kubernetes.io/os";
/// Variable of App Mesh's agent with a file of further Envoy resources.
const RESOURCES: &str = "ENVOY_RESOURCES_CONFIG_FILE";

/// Returns the injected pod. `nodes` is used only if a stock Envoy is added.
pub fn inject(
    pod: &Value,
    namespace: &str,
    settings: &Settings,
    nodes: &dyn VirtualNodes,
) -> Result<Value, Skipped> {
    is_pod(pod)?;
    let mut pod = pod.clone();
    if is_injected(&pod) {
        return reinvoked(pod);
    }
    check_eligible(&pod)?;
    is_free(&pod)?;
    ports::are_free(&pod["spec"], settings.stock.is_some())?;
    let (mut node_id, mut gateway, mut secrets) = (None, None, Vec::new());
    if let Some(stock) = &settings.stock {
        let member = Member::of(&pod, namespace, stock.mesh.as_deref(), nodes);
        match member.map_err(|error| unspecified(&pod, error))? {
            Member::Node(node) => {
                ports::are_not_of_the_application(&node.ports)?;
                envoy_sidecar::add_redirection(&mut pod, stock, &node)?;
                node_id = Some(node.id(namespace));
                secrets = node.secrets;
            }
            Member::Gateway(found) => {
                secrets.clone_from(&found.secrets);
                gateway = Some(found);
            }
        }
    }
    list(&mut pod["spec"]["volumes"])?.extend(xds_proxy_container::volumes(settings));
    let has_sidecar = containers(&pod["spec"]).any(|container| container["name"] == SIDECAR);
    match (&settings.stock, &gateway) {
        (Some(stock), Some(gateway)) => {
            node_id = gateway.configure(&mut pod, stock)?;
            configure_sidecar(&mut pod)?;
        }
        (Some(stock), None) if !has_sidecar => envoy_sidecar::add_sidecar(&mut pod, stock)?,
        _ => {
            node_id = None;
            configure_sidecar(&mut pod)?;
        }
    }
    // Only a stock Envoy has a bootstrap of ours.
    let stock = settings.stock.as_ref().filter(|_| node_id.is_some());
    let mut sds_socket = None;
    if let Some(stock) = stock {
        sds_socket = sds::socket(&mut pod, stock)?;
        sds::mount(&mut pod, stock)?;
    }
    // A gateway that keeps its image reads them, too.
    if node_id.is_some() || gateway.is_some() {
        envoy_sidecar::add_secrets(&mut pod, &secrets)?;
    }
    let has_api_token = pod["spec"]["automountServiceAccountToken"] != false;
    // Before all other init containers: redirection follows, and those after it may need the
    // redirected network.
    list(&mut pod["spec"]["initContainers"])?.splice(
        0..0,
        [
            xds_proxy_container::init(settings, node_id.as_deref(), sds_socket.as_deref()),
            xds_proxy_container::xds_proxy(settings, has_api_token),
        ],
    );
    let annotations = object(&mut pod["metadata"]["annotations"])?;
    annotations.insert(INJECTED.to_owned(), settings.version.clone().into());
    Ok(pod)
}

/// Whether a container of this name is added by injection.
pub(crate) fn is_ours(name: &str) -> bool {
    [INIT, XDS_PROXY, XDS_PROXY_V0_1, REDIRECT].contains(&name)
}

fn is_pod(pod: &Value) -> Result<(), Skipped> {
    if !pod["spec"]["containers"].is_array() {
        return Err(Skipped::NoPod("spec.containers: expected an array"));
    }
    if !pod["metadata"].is_object() {
        return Err(Skipped::NoPod("metadata: expected an object"));
    }
    Ok(())
}

/// The annotation alone is no proof: it may be copied from an injected pod into a template.
fn is_injected(pod: &Value) -> bool {
    let annotated = pod["metadata"]["annotations"][INJECTED].is_string();
    let is_there = |name| named(&pod["spec"]["initContainers"], name).is_some();
    annotated && [XDS_PROXY, XDS_PROXY_V0_1].into_iter().any(is_there)
}

/// kube-apiserver calls the webhook again after other webhooks changed the pod: they may have added
/// a sidecar or removed an annotation.
fn reinvoked(mut pod: Value) -> Result<Value, Skipped> {
    let before = pod.clone();
    configure_sidecar(&mut pod)?;
    if pod == before {
        return Err(Skipped::Done);
    }
    Ok(pod)
}

fn check_eligible(pod: &Value) -> Result<(), Skipped> {
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

/// App Mesh's controller reads `enabled` and `disabled` in any case. With any other value it adds a
/// sidecar if a virtual node selects the pod, and silently none otherwise.
fn unspecified(pod: &Value, error: NoVirtualNode) -> Skipped {
    let word = pod["metadata"]["annotations"][CONTROLLER].as_str();
    match (word, error) {
        (Some(word), NoVirtualNode::None) if !word.eq_ignore_ascii_case("enabled") => {
            Skipped::NotSelected(word.to_owned())
        }
        (_, error) => error.into(),
    }
}

/// Fails if the pod uses a container or volume name that injection adds.
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
    for name in [CONFIG_VOLUME, MODULES_VOLUME, TOKEN_VOLUME, CA_VOLUME] {
        if named(&spec["volumes"], name).is_some() {
            return taken("volume", name);
        }
    }
    Ok(())
}

/// Makes the sidecar use the xDS proxy: changes its container if the pod has one, else the
/// annotations from which App Mesh's controller makes it.
fn configure_sidecar(pod: &mut Value) -> Result<(), Skipped> {
    let volumes = &pod["spec"]["volumes"];
    let mounts = SIDECAR_MOUNTS
        .into_iter()
        .filter(|(name, _)| named(volumes, name).is_some());
    let mounts: Vec<_> = mounts.collect();
    for of in ["containers", "initContainers"] {
        let all = pod["spec"][of].as_array_mut();
        let mut all = all.into_iter().flatten();
        if let Some(sidecar) = all.find(|container| container["name"] == SIDECAR) {
            return add_to_sidecar(sidecar, &mounts);
        }
    }
    let annotations = object(&mut pod["metadata"]["annotations"])?;
    add_env(annotations, RESOURCES, RESOURCES_FILE)?;
    for (volume, path) in mounts {
        add_mount(annotations, volume, path)?;
    }
    Ok(())
}

fn add_to_sidecar(sidecar: &mut Value, added: &[(&str, &str)]) -> Result<(), Skipped> {
    // A stock Envoy of ours: its bootstrap names the xDS proxy already.
    if sidecar["args"].to_string().contains(BOOTSTRAP_FILE) {
        return Ok(());
    }
    let env = list(&mut sidecar["env"])?;
    if let Some(variable) = env.iter().find(|variable| variable["name"] == RESOURCES) {
        if variable["value"] != RESOURCES_FILE {
            let what = "variable of the container envoy:";
            let name = RESOURCES.to_owned();
            return Err(Skipped::Taken { what, name });
        }
    } else {
        env.push(json!({"name": RESOURCES, "value": RESOURCES_FILE}));
    }
    add_mounts(sidecar, added)
}
