//! Why a pod is not injected.

use thiserror::Error;

use crate::annotations::{AnnotationError, CONTROLLER, INJECT, MESH, VIRTUAL_NODE};

#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Skipped {
    #[error("{INJECT} is disabled")]
    Disabled,
    /// The pod opts out of App Mesh.
    #[error("{CONTROLLER} is disabled")]
    NotInMesh,
    #[error("already injected")]
    Done,
    /// As for App Mesh's controller, injection depends on a virtual node that selects the pod.
    #[error(
        "{CONTROLLER} is {0:?}, neither enabled nor disabled, and no VirtualNode or VirtualGateway selects the pod"
    )]
    NotSelected(String),
    /// An update, a subresource or another kind.
    #[error("the request is {0}, not the creation of a pod")]
    NoCreation(String),
    /// Redirection would affect the whole node.
    #[error("the pod uses hostNetwork")]
    HostNetwork,
    /// The kubelet ignores changes of a mirror pod.
    #[error("mirror of a static pod")]
    Mirror,
    #[error("the pod is for {0} nodes")]
    System(String),
    /// A name, port or path conflicts.
    #[error("the pod already has a {what} {name}")]
    Taken { what: &'static str, name: String },
    #[error(transparent)]
    Annotation(#[from] AnnotationError),
    #[error(
        "the pod has {count} ports to redirect, at most {max} are supported: list those of the mesh in the annotation appmesh.k8s.aws/ports"
    )]
    TooManyPorts { count: usize, max: usize },
    #[error("the environment of the sidecar sets {name}: {why}")]
    AgentOnly { name: String, why: &'static str },
    #[error(
        "the annotation for the sidecar's mounts names the volume {0:?}, which the pod does not have"
    )]
    NoVolume(String),
    #[error("the VirtualGateway {0} selects the pod, which has no container envoy")]
    NoEnvoy(String),
    /// The sidecar would have no node ID.
    #[error(transparent)]
    NoVirtualNode(#[from] NoVirtualNode),
    #[error("not a Pod: {0}")]
    NoPod(&'static str),
}

#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum NoVirtualNode {
    #[error("the annotation {VIRTUAL_NODE} is missing, and VirtualNodes are not watched")]
    Unnamed,
    #[error("the VirtualNodes of the Kubernetes cluster have not been read yet")]
    Unread,
    #[error(
        "no supported VirtualNode or VirtualGateway of the namespace selects this pod, and the annotation {VIRTUAL_NODE} is missing"
    )]
    None,
    #[error("more than one VirtualNode or VirtualGateway selects the pod: {}", .0.join(", "))]
    Several(Vec<String>),
    #[error("the annotation {MESH} is missing, and --mesh is not set")]
    NoMesh,
    #[error("{0} is malformed: {1:?}")]
    Malformed(&'static str, String),
}

// === impl Skipped ===

impl Skipped {
    /// All values of [`Self::reason`].
    pub const REASONS: [&'static str; 16] = [
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
        "no_envoy",
        "no_virtual_node",
        "no_pod",
    ];

    /// Label of metrics and Events, from [`Self::REASONS`].
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
            Self::AgentOnly { .. } => "agent_only",
            Self::NoVolume(_) => "no_volume",
            Self::NoEnvoy(_) => "no_envoy",
            Self::NoVirtualNode(_) => "no_virtual_node",
            Self::NoPod(_) => "no_pod",
        }
    }

    /// Requested by the user or normal: no reason to warn.
    pub fn is_expected(&self) -> bool {
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
