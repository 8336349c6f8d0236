//! Resolves a reference to a workload, the same way for checks and for Envoy's configuration.

use std::collections::BTreeMap;

use super::{Key, RefusedObjects};
use crate::resources::{Kind, VirtualNodeSpec};

/// Why a target is not resolved.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum UnresolvedTarget {
    Missing,
    NoListeners,
    NoListenerOn(u16),
    NoServiceDiscovery,
}

/// The port of `target`: `requested`, or else its first.
pub(crate) fn port(
    nodes: &BTreeMap<Key, VirtualNodeSpec>,
    target: &Key,
    requested: Option<u16>,
) -> Result<u16, UnresolvedTarget> {
    let node = nodes.get(target).ok_or(UnresolvedTarget::Missing)?;
    let listeners = node.listeners.iter();
    let mut ports = listeners.map(|listener| listener.port_mapping.port);
    let port = match requested {
        None => ports.next().ok_or(UnresolvedTarget::NoListeners)?,
        Some(port) if ports.any(|other| other == port) => port,
        Some(port) => return Err(UnresolvedTarget::NoListenerOn(port)),
    };
    if node.service_discovery.is_none() {
        return Err(UnresolvedTarget::NoServiceDiscovery);
    }
    Ok(port)
}

// === impl UnresolvedTarget ===

impl UnresolvedTarget {
    /// The message for the status of the object that refers to `target`.
    pub(super) fn why(self, target: &Key, refused: &RefusedObjects) -> String {
        let name = &target.name;
        match self {
            Self::Missing => refused.why(Kind::VirtualNode, target),
            Self::NoListeners => format!("the VirtualNode {name} has no spec.listeners"),
            Self::NoListenerOn(port) => format!("the VirtualNode {name} does not listen on {port}"),
            Self::NoServiceDiscovery => {
                format!("the VirtualNode {name} has no spec.serviceDiscovery")
            }
        }
    }
}
