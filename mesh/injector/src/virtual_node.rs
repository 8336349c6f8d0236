//! Which virtual node a pod is of: what its sidecar calls itself.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::annotations::{MESH, VIRTUAL_NODE};
use crate::ports;
use crate::skipped::NoVirtualNode;

/// Longest name, as Kubernetes takes them.
const NAME_MAX: usize = 253;

/// A virtual node of the pod's namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VirtualNode {
    pub name: String,
    /// Its name in node ids, where it is not `NAME_NAMESPACE` (`awsName`).
    pub aws_name: Option<String>,
    pub mesh: String,
    pub ports: Vec<u16>,
}

/// The virtual nodes of a cluster. Asked for each pod, so it answers from memory.
pub trait VirtualNodes {
    /// The one in `namespace` whose `podSelector` takes these labels.
    fn selecting(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<VirtualNode, NoVirtualNode>;

    /// The one of this name.
    fn named(&self, namespace: &str, name: &str) -> Option<VirtualNode>;
}

/// Nobody knows any: pods have to name theirs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unknown;

// === impl VirtualNode ===

impl VirtualNode {
    /// The node of `pod` in `namespace`: the one it names, else the one that selects it.
    pub fn of(
        pod: &Value,
        namespace: &str,
        mesh: Option<&str>,
        nodes: &dyn VirtualNodes,
    ) -> Result<Self, NoVirtualNode> {
        let Some(name) = annotation(pod, VIRTUAL_NODE)? else {
            let labels = pod["metadata"]["labels"].as_object();
            let labels = labels.into_iter().flatten();
            let labels =
                labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
            return nodes.selecting(namespace, &labels.collect());
        };
        let known = nodes.named(namespace, &name);
        let named = annotation(pod, MESH)?;
        let of_node = known.as_ref().map(|node| node.mesh.clone());
        let mesh = named.or(of_node).or_else(|| mesh.map(str::to_owned));
        Ok(Self {
            mesh: mesh.ok_or(NoVirtualNode::NoMesh)?,
            aws_name: known.as_ref().and_then(|node| node.aws_name.clone()),
            ports: known.map_or_else(|| ports::of_application(&pod["spec"]), |node| node.ports),
            name,
        })
    }

    /// What its sidecar calls itself, as Amazon's control plane knew it.
    pub fn id(&self, namespace: &str) -> String {
        let default = || format!("{}_{namespace}", self.name);
        let name = self.aws_name.clone().unwrap_or_else(default);
        format!("mesh/{}/virtualNode/{name}", self.mesh)
    }
}

/// An empty one is none.
fn annotation(pod: &Value, name: &'static str) -> Result<Option<String>, NoVirtualNode> {
    let value = pod["metadata"]["annotations"][name].as_str();
    let Some(value) = value.map(str::trim).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let is_name = value
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if is_name && (1..=NAME_MAX).contains(&value.len()) {
        Ok(Some(value.to_owned()))
    } else {
        Err(NoVirtualNode::Malformed(name, value.to_owned()))
    }
}

// === impl Unknown ===

impl VirtualNodes for Unknown {
    fn selecting(
        &self,
        _: &str,
        _: &BTreeMap<String, String>,
    ) -> Result<VirtualNode, NoVirtualNode> {
        Err(NoVirtualNode::Unnamed)
    }

    fn named(&self, _: &str, _: &str) -> Option<VirtualNode> {
        None
    }
}
