//! Turns ARNs into references: an ARN has the name that an object has in AWS App Mesh.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Key, Mesh, node_name, router_name, service_name};
use crate::resources::{Pointer, Reference, Route};

type Names = BTreeMap<String, Key>;

/// Resolves the ARNs of a mesh. One that no object of this mesh has stays.
pub(super) fn resolve(mesh: &mut Mesh) {
    if !has_arns(mesh) {
        return;
    }
    let nodes = mesh.nodes.iter();
    let nodes: Names = nodes
        .map(|(key, node)| (node_name(key, node), key.clone()))
        .collect();
    let routers = mesh.routers.iter();
    let routers: Names = routers
        .map(|(key, router)| (router_name(key, router), key.clone()))
        .collect();
    let services = mesh.services.iter();
    let services: Names = services
        .map(|(key, service)| (service_name(key, service), key.clone()))
        .collect();
    let name = &mesh.name;
    for node in Arc::make_mut(&mut mesh.nodes).values_mut() {
        for backend in &mut node.backends {
            replace(&mut backend.virtual_service.service, name, &services);
        }
    }
    for service in Arc::make_mut(&mut mesh.services).values_mut() {
        let Some(provider) = &mut service.provider else {
            continue;
        };
        if let Some(provider) = &mut provider.virtual_node {
            replace(&mut provider.node, name, &nodes);
        }
        if let Some(provider) = &mut provider.virtual_router {
            replace(&mut provider.router, name, &routers);
        }
    }
    for route in Arc::make_mut(&mut mesh.gateway_routes).values_mut() {
        for target in route.targets_mut() {
            replace(&mut target.virtual_service.service, name, &services);
        }
    }
    for router in Arc::make_mut(&mut mesh.routers).values_mut() {
        let all = router.routes.iter_mut();
        for target in all.flat_map(Route::targets_mut) {
            replace(&mut target.node, name, &nodes);
        }
    }
}

/// Most meshes have none, and then no object is copied.
fn has_arns(mesh: &Mesh) -> bool {
    let is_arn = |pointer: &Pointer| matches!(pointer, Pointer::Arn(_));
    let mut nodes = mesh.nodes.values();
    let mut services = mesh.services.values();
    let mut routers = mesh.routers.values();
    let mut gateway_routes = mesh.gateway_routes.values();
    nodes.any(|node| {
        let mut backends = node.backends.iter();
        backends.any(|backend| is_arn(&backend.virtual_service.service))
    }) || services.any(|service| {
        let provider = service.provider.as_ref();
        let node = provider.and_then(|provider| provider.virtual_node.as_ref());
        let router = provider.and_then(|provider| provider.virtual_router.as_ref());
        node.is_some_and(|of| is_arn(&of.node)) || router.is_some_and(|of| is_arn(&of.router))
    }) || routers.any(|router| {
        let mut actions = router.routes.iter().filter_map(Route::routing);
        actions.any(|routing| {
            let mut targets = routing.action().weighted_targets.iter();
            targets.any(|target| is_arn(&target.node))
        })
    }) || gateway_routes.any(|route| {
        let mut targets = route.targets();
        targets.any(|target| is_arn(&target.virtual_service.service))
    })
}

fn replace(pointer: &mut Pointer, mesh: &str, names: &Names) {
    let Pointer::Arn(arn) = pointer else {
        return;
    };
    let Some(key) = names.get(&arn.name).filter(|_| arn.mesh == mesh) else {
        return;
    };
    *pointer = Pointer::Name(Reference {
        name: key.name.clone(),
        namespace: Some(key.namespace.clone()),
    });
}
