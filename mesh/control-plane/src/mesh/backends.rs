//! The virtual services that a workload calls.

use std::collections::BTreeMap;

use super::{Key, Mesh};
use crate::resources::{Kind, VirtualNodeSpec};

/// Name of a backend group that stands for all virtual services of its namespace.
const ALL: &str = "*";

/// What the workload named, which is not there.
pub(super) struct MissingBackend {
    pub(super) field: &'static str,
    pub(super) kind: Kind,
    pub(super) key: Key,
}

impl Mesh {
    /// The backends of a workload, and those of its groups.
    pub fn backends_of(&self, key: &Key, node: &VirtualNodeSpec) -> Vec<Key> {
        self.resolved_backends(key, node).0
    }

    pub(super) fn resolved_backends(
        &self,
        key: &Key,
        node: &VirtualNodeSpec,
    ) -> (Vec<Key>, Vec<MissingBackend>) {
        let mut missing = Vec::new();
        // By key: Envoy rejects a route configuration with a repeated domain.
        let mut named = BTreeMap::new();
        for backend in &node.backends {
            let service = Key::of(&backend.virtual_service.service, &key.namespace);
            named.insert(service, "spec.backends");
        }
        for group in &node.backend_groups {
            let group = Key::of_reference(group, &key.namespace);
            if group.name == ALL {
                let services = self.services.keys();
                let of_namespace = services.filter(|other| other.namespace == group.namespace);
                named.extend(of_namespace.map(|service| (service.clone(), "spec.backendGroups")));
                continue;
            }
            let Some(spec) = self.groups.get(&group) else {
                missing.push(MissingBackend {
                    field: "spec.backendGroups",
                    kind: Kind::BackendGroup,
                    key: group,
                });
                continue;
            };
            for service in &spec.virtual_services {
                let service = Key::of_reference(service, &key.namespace);
                named.entry(service).or_insert("spec.backendGroups");
            }
        }
        let mut found = Vec::new();
        for (service, field) in named {
            if self.services.contains_key(&service) {
                found.push(service);
            } else {
                let kind = Kind::VirtualService;
                let key = service;
                missing.push(MissingBackend { field, kind, key });
            }
        }
        (found, missing)
    }
}
