//! Pods in manifests: a pod, the template of what makes pods, a list of either.

use serde_json::Value;
use thiserror::Error;

use crate::bypass::Bypass;
use crate::pod::inject;
use crate::settings::Settings;
use crate::skipped::Skipped;
use crate::virtual_node::VirtualNodes;

/// An object of a manifest that is left as it is.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Unchanged {
    #[error(transparent)]
    Pod(#[from] Skipped),
    /// There are none in it.
    #[error("this kind has no pod template")]
    NoPods,
}

/// What became of an object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outcome {
    pub what: String,
    /// Why it is left as it is, if it is.
    pub left: Option<Unchanged>,
    /// What is wrong with its pods although they are injected.
    pub bypass: Option<Bypass>,
}

/// Adds to the pods in `object` what the webhook would add to them. `namespace` is that of objects
/// that name none.
pub fn inject_all(
    object: &mut Value,
    namespace: &str,
    settings: &Settings,
    nodes: &dyn VirtualNodes,
) -> Vec<Outcome> {
    if object["kind"] == "List" {
        let items = object["items"].as_array_mut().into_iter().flatten();
        return items
            .flat_map(|item| inject_all(item, namespace, settings, nodes))
            .collect();
    }
    let kind = object["kind"]
        .as_str()
        .unwrap_or("an object without a kind")
        .to_owned();
    let metadata = &object["metadata"];
    let namespace = metadata["namespace"]
        .as_str()
        .unwrap_or(namespace)
        .to_owned();
    let name = metadata["name"]
        .as_str()
        .or(metadata["generateName"].as_str());
    let what = format!("{kind} {namespace}/{}", name.unwrap_or_default());
    let mut bypass = None;
    let left = match pod_of(&kind).and_then(|path| object.pointer_mut(path)) {
        None => Some(Unchanged::NoPods),
        Some(pod) => match inject(pod, &namespace, settings, nodes) {
            Ok(injected) => {
                bypass = Bypass::of(pod);
                *pod = injected;
                None
            }
            Err(skipped) => Some(skipped.into()),
        },
    };
    vec![Outcome { what, left, bypass }]
}

/// Where a pod is, as a JSON pointer.
fn pod_of(kind: &str) -> Option<&'static str> {
    match kind {
        "Pod" => Some(""),
        "CronJob" => Some("/spec/jobTemplate/spec/template"),
        "DaemonSet"
        | "Deployment"
        | "Job"
        | "ReplicaSet"
        | "ReplicationController"
        | "StatefulSet" => Some("/spec/template"),
        _ => None,
    }
}
