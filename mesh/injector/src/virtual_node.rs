//! The virtual node or gateway of a pod, from which its Envoy's node ID is made.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::annotations::{MESH, VIRTUAL_NODE};
use crate::names::labels;
use crate::ports;
use crate::skipped::NoVirtualNode;

/// Longest name of a Kubernetes object, in bytes.
const NAME_MAX: usize = 253;

/// A virtual node of the pod's namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VirtualNode {
    pub name: String,
    /// `spec.awsName`: the name in node IDs, if it is not `NAME_NAMESPACE`.
    pub aws_name: Option<String>,
    pub mesh: String,
    pub ports: Vec<u16>,
    /// Kubernetes secrets that its Envoy reads in place of ACM, and their paths in its container.
    pub secrets: Vec<(String, String)>,
}

/// A virtual gateway of the pod's namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VirtualGateway {
    pub name: String,
    pub node_id: String,
    pub ports: Vec<u16>,
    /// As of a [`VirtualNode`].
    pub secrets: Vec<(String, String)>,
}

/// The virtual nodes and gateways of a Kubernetes cluster, in memory: looked up for each pod.
pub trait VirtualNodes {
    /// The node in `namespace` whose `podSelector` matches these labels.
    fn selecting(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<VirtualNode, NoVirtualNode>;

    fn named(&self, namespace: &str, name: &str) -> Option<VirtualNode>;

    /// The gateway in `namespace` whose `podSelector` matches these labels. None are known unless
    /// they are watched.
    fn gateway(
        &self,
        _namespace: &str,
        _labels: &BTreeMap<String, String>,
    ) -> Result<Option<VirtualGateway>, NoVirtualNode> {
        Ok(None)
    }
}

/// No virtual nodes are watched: pods have to name theirs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unknown;

// === impl VirtualNode ===

impl VirtualNode {
    /// The node that `pod` names, else the one that selects it.
    pub fn of(
        pod: &Value,
        namespace: &str,
        mesh: Option<&str>,
        nodes: &dyn VirtualNodes,
    ) -> Result<Self, NoVirtualNode> {
        let Some(name) = annotation(pod, VIRTUAL_NODE)? else {
            return nodes.selecting(namespace, &labels(pod));
        };
        let cached = nodes.named(namespace, &name);
        let annotated = annotation(pod, MESH)?;
        let of_node = cached.as_ref().map(|node| node.mesh.clone());
        let mesh = annotated.or(of_node).or_else(|| mesh.map(str::to_owned));
        Ok(Self {
            mesh: mesh.ok_or(NoVirtualNode::NoMesh)?,
            aws_name: cached.as_ref().and_then(|node| node.aws_name.clone()),
            secrets: cached
                .as_ref()
                .map_or_else(Vec::new, |node| node.secrets.clone()),
            ports: cached.map_or_else(|| ports::of_application(&pod["spec"]), |node| node.ports),
            name,
        })
    }

    /// The sidecar's node ID, in the form of AWS App Mesh.
    pub fn id(&self, namespace: &str) -> String {
        let default = || format!("{}_{namespace}", self.name);
        let name = self.aws_name.clone().unwrap_or_else(default);
        format!("mesh/{}/virtualNode/{name}", self.mesh)
    }
}

/// `None` if the annotation is absent or empty.
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
