//! Pods in manifests: a pod, the template of a controller, or a list of either.

use serde_json::Value;
use thiserror::Error;

use crate::bypass::Bypass;
use crate::pod::inject;
use crate::settings::Settings;
use crate::skipped::Skipped;
use crate::virtual_node::VirtualNodes;

#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Unchanged {
    #[error(transparent)]
    Pod(#[from] Skipped),
    #[error("this kind has no pod template")]
    NoPods,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outcome {
    pub what: String,
    pub unchanged: Option<Unchanged>,
    /// Set although the pods were injected.
    pub bypass: Option<Bypass>,
}

/// Injects the pods in `object` as the webhook would. `namespace` applies to objects without one.
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
    let unchanged = match pod_of(&kind).and_then(|path| object.pointer_mut(path)) {
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
    vec![Outcome {
        what,
        unchanged,
        bypass,
    }]
}

/// JSON pointer to the pod or pod template.
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
