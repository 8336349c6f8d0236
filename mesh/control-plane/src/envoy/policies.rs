//! The client policies of a caller: which TLS it uses with which backend.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::mesh::Key;
use crate::resources::{ClientTls, VirtualNodeSpec};

/// TLS of calls to one backend.
#[derive(Clone, Debug, Default)]
pub(super) struct Policy {
    tls: Option<Arc<ClientTls>>,
    /// The virtual service, if its policy differs from that of the other backends: the clusters of
    /// its targets are others than theirs, and need names of their own.
    own: Option<Key>,
}

/// The policies of a caller.
#[derive(Debug)]
pub(super) struct Policies {
    default: Policy,
    own: BTreeMap<Key, Policy>,
}

/// The policies of the workload `key`.
pub(super) fn of_backends(key: &Key, node: &VirtualNodeSpec) -> Policies {
    let default = node.default_tls();
    let mut own = BTreeMap::new();
    for backend in &node.backends {
        let Some(tls) = backend.virtual_service.own_tls() else {
            continue;
        };
        if Some(tls) == default {
            continue;
        }
        let service = Key::of(&backend.virtual_service.service, &key.namespace);
        let policy = Policy {
            tls: Some(Arc::new(tls.clone())),
            own: Some(service.clone()),
        };
        own.insert(service, policy);
    }
    Policies {
        default: Policy::of_all(default),
        own,
    }
}

// === impl Policies ===

impl Policies {
    pub(super) fn of(&self, service: &Key) -> Policy {
        self.own.get(service).unwrap_or(&self.default).clone()
    }
}

// === impl Policy ===

impl Policy {
    /// Of all backends of a caller.
    pub(super) fn of_all(tls: Option<&ClientTls>) -> Self {
        Self {
            tls: tls.map(|tls| Arc::new(tls.clone())),
            own: None,
        }
    }

    pub(super) fn tls(&self) -> Option<&ClientTls> {
        self.tls.as_deref()
    }

    /// The end of the names of its clusters.
    pub(super) fn suffix(&self) -> String {
        let own = self.own.as_ref();
        own.map_or_else(String::new, |service| {
            format!("_{}_{}", service.name, service.namespace)
        })
    }
}
