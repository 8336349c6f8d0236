//! What is called: ports of Services, each with the router or node that its requests belong to.

use std::collections::BTreeMap;

use mesh_control_plane::mesh::{Key, Mesh, service_name};
use mesh_control_plane::resources::{PortMapping, VirtualServiceSpec};

use crate::finding::{self, Finding, Lack};
use crate::services::Services;

/// One port of Services of one namespace, and what answers there.
#[derive(Clone, Debug)]
pub(crate) struct Parent {
    pub(crate) provider: Provider,
    pub(crate) mapping: PortMapping,
    /// Namespace of the Services and of the route: a route elsewhere is for clients of its own
    /// namespace only.
    pub(crate) namespace: String,
    pub(crate) services: Vec<String>,
    /// The route's name.
    pub(crate) name: String,
    /// Whose routes they are, in findings.
    pub(crate) what: String,
}

#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Provider {
    Router(Key),
    Node(Key),
}

/// Finds the Services of all virtual services of a mesh.
pub(crate) fn of(mesh: &Mesh, services: &mut Services, findings: &mut Vec<Finding>) -> Vec<Parent> {
    let mut parents: BTreeMap<(Provider, u16, Key), Parent> = BTreeMap::new();
    for (key, service) in mesh.services.iter() {
        let what = finding::name("VirtualService", &key.namespace, &key.name);
        let Some(provider) = Provider::of(key, service) else {
            let why = "nothing answers without a provider, and nothing is printed for it";
            findings.push(Finding::new(
                Lack::NotConverted,
                &what,
                "spec.provider",
                why,
            ));
            continue;
        };
        let called = called(key, service, &what, services, findings);
        let mappings = mesh.ports_of(key, service);
        for &mapping in &mappings {
            if let Err(owner) = services.take(&called, mapping.port, &what) {
                let (port, name) = (mapping.port, &called.name);
                let why = format!(
                    "port {port} of the Service {}/{name} is the {owner}'s, and a Service has routes once",
                    called.namespace
                );
                findings.push(Finding::new(
                    Lack::NotConverted,
                    &what,
                    "spec.awsName",
                    &why,
                ));
                continue;
            }
            services.use_port(&called, mapping);
            // Services of a node have a route each, since its name is theirs.
            let of_service = match &provider {
                Provider::Router(_) => Key::new(&called.namespace, ""),
                Provider::Node(_) => key.clone(),
            };
            let slot = (provider.clone(), mapping.port, of_service);
            let parent = parents.entry(slot).or_insert_with(|| {
                let (base, what) = provider.naming(key, &what);
                let is_one_of_several = mappings.len() > 1;
                let port = mapping.port;
                let name = if is_one_of_several {
                    format!("{base}-{port}")
                } else {
                    base
                };
                Parent {
                    provider: provider.clone(),
                    mapping,
                    namespace: called.namespace.clone(),
                    services: Vec::new(),
                    name,
                    what,
                }
            });
            parent.services.push(called.name.clone());
        }
    }
    parents.into_values().collect()
}

/// The Service that clients of a virtual service call.
fn called(
    key: &Key,
    service: &VirtualServiceSpec,
    what: &str,
    services: &mut Services,
    findings: &mut Vec<Finding>,
) -> Key {
    let host = service_name(key, service);
    if let Some(found) = services.named(&host, &key.namespace) {
        return found;
    }
    let why = format!(
        "{host} is not the name of a Kubernetes Service: clients have to call {}.{} instead",
        key.name, key.namespace
    );
    findings.push(Finding::new(Lack::Different, what, "spec.awsName", &why));
    services.print_parent(key);
    key.clone()
}

// === impl Provider ===

impl Provider {
    pub(crate) fn of(key: &Key, service: &VirtualServiceSpec) -> Option<Self> {
        let provider = service.provider.as_ref()?;
        if let Some(of) = &provider.virtual_router {
            return Some(Self::Router(Key::of(&of.router, &key.namespace)));
        }
        let of = provider.virtual_node.as_ref()?;
        Some(Self::Node(Key::of(&of.node, &key.namespace)))
    }

    /// Name of the route, and whose it is.
    pub(crate) fn naming(&self, service: &Key, what: &str) -> (String, String) {
        match self {
            Self::Router(router) => {
                let what = finding::name("VirtualRouter", &router.namespace, &router.name);
                (router.name.clone(), what)
            }
            Self::Node(_) => (service.name.clone(), what.to_owned()),
        }
    }
}
