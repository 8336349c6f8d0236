//! Pods that manifests make: their containers, with names of ports resolved and variables as the
//! kubelet sets them.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tests_manifests::Object;

use crate::{list, text};

/// Kinds that make pods.
const WORKLOADS: [&str; 4] = ["StatefulSet", "Deployment", "DaemonSet", "Job"];

/// The template of a workload, or a pod of its own.
#[derive(Clone, Copy, Debug)]
pub struct Template<'a> {
    pub object: &'a Object,
    /// `spec.template`, or all of a pod.
    pub value: &'a Value,
}

/// Every workload among `objects`.
pub fn templates(objects: &[Object]) -> Vec<Template<'_>> {
    let templates = objects.iter().filter_map(|object| {
        let value = match object.kind.as_str() {
            "Pod" => &object.value,
            kind if WORKLOADS.contains(&kind) => &object.value["spec"]["template"],
            _ => return None,
        };
        Some(Template { object, value })
    });
    templates.collect()
}

// === impl Template ===

impl<'a> Template<'a> {
    /// All containers, those that begin first included.
    pub fn containers(&self) -> Vec<&'a Value> {
        let spec = &self.value["spec"];
        list(&spec["initContainers"])
            .iter()
            .chain(list(&spec["containers"]))
            .collect()
    }

    /// True if `selector` (a map of labels) selects these pods.
    pub fn is_selected(&self, selector: &Value) -> bool {
        let labels = &self.value["metadata"]["labels"];
        let selector = selector.as_object();
        selector.is_some_and(|selector| {
            !selector.is_empty() && selector.iter().all(|(key, value)| labels[key] == *value)
        })
    }

    /// The number of the port that a number or a name means.
    pub fn port(&self, port: &Value) -> Option<u64> {
        let declared = self.containers();
        let mut declared = declared
            .iter()
            .flat_map(|container| list(&container["ports"]));
        let found = match port {
            Value::Number(_) => declared.find(|declared| declared["containerPort"] == *port),
            name => declared.find(|declared| declared["name"] == *name),
        };
        found.and_then(|port| port["containerPort"].as_u64())
    }
}

/// Arguments of a container, with any free port of loopback in place of its own.
pub fn arguments(container: &Value) -> Vec<String> {
    let arguments = list(&container["args"]).iter().map(text);
    arguments
        .map(|argument| match argument.split_once("listen=") {
            Some((flag, _)) => format!("{flag}listen=127.0.0.1:0"),
            None => argument.to_owned(),
        })
        .collect()
}

/// Variables of a container, with `$(NAME)` resolved as the kubelet does it: by the variables above
/// only. What comes from elsewhere (a field, a `ConfigMap` among `objects`) is filled in, `POD` for
/// a field of the pod that is no address.
pub fn variables(container: &Value, objects: &[Object]) -> Result<BTreeMap<String, String>> {
    // The container runtime's.
    let mut known = BTreeMap::from([("HOSTNAME".to_owned(), "POD".to_owned())]);
    for variable in list(&container["env"]) {
        let name = text(&variable["name"]);
        let from = &variable["valueFrom"];
        let value = if from["fieldRef"].is_object() {
            of_field(text(&from["fieldRef"]["fieldPath"])).to_owned()
        } else if from["configMapKeyRef"].is_object() {
            let reference = &from["configMapKeyRef"];
            let map = crate::find(objects, "ConfigMap", text(&reference["name"]))?;
            let value = &map.value["data"][text(&reference["key"])];
            value
                .as_str()
                .with_context(|| format!("{name}: no such key in {}", map.name))?
                .to_owned()
        } else {
            expand(text(&variable["value"]), &known).with_context(|| name.to_owned())?
        };
        known.insert(name.to_owned(), value);
    }
    Ok(known)
}

fn of_field(path: &str) -> &'static str {
    if path == "status.podIP" {
        "127.0.0.1"
    } else {
        "POD"
    }
}

fn expand(value: &str, known: &BTreeMap<String, String>) -> Result<String> {
    let mut parts = value.split("$(");
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let Some((name, rest)) = part.split_once(')') else {
            bail!("{value}: a variable without an end");
        };
        let Some(found) = known.get(name) else {
            bail!("{value}: $({name}) is not set above it, so it would stay as it is");
        };
        whole.push_str(found);
        whole.push_str(rest);
    }
    Ok(whole)
}
