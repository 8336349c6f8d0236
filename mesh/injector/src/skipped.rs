//! Why a pod is not injected.

use thiserror::Error;

use crate::annotations::{AnnotationError, CONTROLLER, INJECT, MESH, VIRTUAL_NODE};

/// A pod that is left as it is.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Skipped {
    #[error("{INJECT} is disabled")]
    Disabled,
    /// It wants no sidecar of App Mesh.
    #[error("{CONTROLLER} is disabled")]
    NotInMesh,
    /// It has everything already.
    #[error("already injected")]
    Done,
    /// Whether it wants one depends on a virtual node, as for App Mesh's controller, and there is
    /// none.
    #[error(
        "{CONTROLLER} is {0:?}, neither enabled nor disabled, and no VirtualNode selects the pod"
    )]
    NotSelected(String),
    /// Nothing that is asked for here: a change of a pod that is there, or a part of it.
    #[error("the request is {0}, not the creation of a pod")]
    NoCreation(String),
    /// Nobody's sidecar could see the other containers' network as it should.
    #[error("the pod uses hostNetwork")]
    HostNetwork,
    /// Changing the image of a pod changes nothing.
    #[error("mirror of a static pod")]
    Mirror,
    /// There is no sidecar for it.
    #[error("the pod is for {0} nodes")]
    System(String),
    /// A name or port is taken.
    #[error("the pod already has a {what} {name}")]
    Taken { what: &'static str, name: String },
    /// An annotation cannot be added to.
    #[error(transparent)]
    Annotation(#[from] AnnotationError),
    /// More ports than can be redirected.
    #[error(
        "it has {count} ports to redirect, and at most {max} can be: name those of the mesh in the annotation appmesh.k8s.aws/ports"
    )]
    TooManyPorts {
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
    #[error(
        "the annotation for the sidecar's mounts names the volume {0:?}, which the pod does not have"
    )]
    NoVolume(String),
    /// Its sidecar would not know what to call itself.
    #[error(transparent)]
    NoVirtualNode(#[from] NoVirtualNode),
    #[error("not a Pod: {0}")]
    NoPod(&'static str),
}

/// A pod without a virtual node.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum NoVirtualNode {
    #[error("the annotation {VIRTUAL_NODE} is missing, and VirtualNodes are not watched")]
    Unnamed,
    #[error("the VirtualNodes of the Kubernetes cluster have not been read yet")]
    Unread,
    /// None takes the pod.
    #[error(
        "no supported VirtualNode of the namespace selects this pod, and the annotation {VIRTUAL_NODE} is missing"
    )]
    None,
    /// More than one takes it.
    #[error("more than one VirtualNode selects the pod: {}", .0.join(", "))]
    Several(Vec<String>),
    /// It is not said of which mesh.
    #[error("the annotation {MESH} is missing, and --mesh is not set")]
    NoMesh,
    /// A value that is no name.
    #[error("{0} is malformed: {1:?}")]
    Malformed(&'static str, String),
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
