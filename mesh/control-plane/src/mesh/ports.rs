//! The ports of virtual services.

use std::collections::{BTreeMap, BTreeSet};

use super::{Key, Mesh};
use crate::resources::{PortMapping, Protocol, VirtualServiceSpec};

/// The ports on which a service is called: of its router's listeners, or of its workload.
pub(crate) fn ports_of(mesh: &Mesh, key: &Key, service: &VirtualServiceSpec) -> Vec<PortMapping> {
    let Some(provider) = &service.provider else {
        return Vec::new();
    };
    if let Some(provider) = &provider.virtual_router {
        let router = mesh.routers.get(&Key::of(&provider.router, &key.namespace));
        let listeners = router.into_iter().flat_map(|router| &router.listeners);
        return listeners.map(|listener| listener.port_mapping).collect();
    }
    let node = provider.virtual_node.as_ref();
    let node = node.and_then(|of| mesh.nodes.get(&Key::of(&of.node, &key.namespace)));
    let listeners = node.into_iter().flat_map(|node| &node.listeners);
    listeners.map(|listener| listener.port_mapping).collect()
}

/// The service that gets the TCP connections to each port. Unlike requests by HTTP, they have no
/// name in them: a port that a service of HTTP has, too, is that one's, and of several services of
/// TCP the first by key has it.
pub(crate) fn tcp_owners(mesh: &Mesh, services: &[Key]) -> BTreeMap<u16, Key> {
    let mut http = BTreeSet::new();
    let mut owners = BTreeMap::new();
    for key in services {
        let Some(service) = mesh.services.get(key) else {
            continue;
        };
        for PortMapping { port, protocol } in ports_of(mesh, key, service) {
            if protocol == Protocol::Tcp {
                owners.entry(port).or_insert_with(|| key.clone());
            } else {
                http.insert(port);
            }
        }
    }
    owners.retain(|port, _| !http.contains(port));
    owners
}

/// Says which backends of TCP get no connections.
pub(super) fn shadowed(mesh: &Mesh, services: &[Key]) -> Vec<String> {
    let owners = tcp_owners(mesh, services);
    let mut faults = Vec::new();
    for key in services {
        let Some(service) = mesh.services.get(key) else {
            continue;
        };
        for PortMapping { port, protocol } in ports_of(mesh, key, service) {
            if protocol == Protocol::Tcp && owners.get(&port) != Some(key) {
                let name = &key.name;
                faults.push(format!(
                    "connections to the VirtualService {name} by TCP cannot be told from those to another backend on port {port}"
                ));
            }
        }
    }
    faults
}
