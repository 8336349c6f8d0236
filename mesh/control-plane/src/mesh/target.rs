//! Whether a workload can be led to: what a reference means for the one who checks it, and for the
//! one who serves it.

use std::collections::BTreeMap;

use super::{Key, RefusedObjects};
use crate::resources::{Kind, VirtualNodeSpec};

/// Why a workload cannot be led to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum UnresolvedTarget {
    /// It is not in the mesh.
    Missing,
    /// It has no listeners at all.
    Deaf,
    /// It does not listen on the port.
    NotThere(u16),
    /// Nobody says where it is.
    Nowhere,
}

/// The port of `target` that is meant by `wanted`: its first one, if it is not said.
pub(crate) fn port(
    nodes: &BTreeMap<Key, VirtualNodeSpec>,
    target: &Key,
    wanted: Option<u16>,
) -> Result<u16, UnresolvedTarget> {
    let node = nodes.get(target).ok_or(UnresolvedTarget::Missing)?;
    let mut ports = node.listeners.iter().map(|one| one.port_mapping.port);
    let port = match wanted {
        None => ports.next().ok_or(UnresolvedTarget::Deaf)?,
        Some(port) if ports.any(|one| one == port) => port,
        Some(port) => return Err(UnresolvedTarget::NotThere(port)),
    };
    if node.service_discovery.is_none() {
        return Err(UnresolvedTarget::Nowhere);
    }
    Ok(port)
}

// === impl UnresolvedTarget ===

impl UnresolvedTarget {
    /// In words, of `target`.
    pub(super) fn why(self, target: &Key, gone: &RefusedObjects) -> String {
        let name = &target.name;
        match self {
            Self::Missing => gone.why(Kind::VirtualNode, target),
            Self::Deaf => format!("the VirtualNode {name} has no spec.listeners"),
            Self::NotThere(port) => format!("the VirtualNode {name} does not listen on {port}"),
            Self::Nowhere => format!("the VirtualNode {name} has no spec.serviceDiscovery"),
        }
    }
}
