//! Virtual nodes and gateways of the Kubernetes cluster, for pods that get an Envoy.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_control_plane::cluster::Cluster;
use mesh_control_plane::mesh::{
    ACM_PATH, Key, Meshes, Workload, acm_secrets, acm_secrets_of_gateway,
};
use mesh_injector::skipped::NoVirtualNode;
use mesh_injector::virtual_node::{VirtualGateway, VirtualNode, VirtualNodes};
use tokio::sync::watch;

/// Why lookups are not possible yet; `None` once they are.
type MissingLists = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// Looks up watched virtual nodes. During an outage of kube-apiserver the last known ones are used.
pub(super) struct WatchedNodes {
    meshes: watch::Receiver<Arc<Meshes>>,
    missing: MissingLists,
}

// === impl WatchedNodes ===

impl WatchedNodes {
    pub(super) fn new(cluster: &Cluster) -> Self {
        Self {
            meshes: cluster.meshes.clone(),
            missing: Box::new(cluster.missing()),
        }
    }
}

impl VirtualNodes for WatchedNodes {
    fn selecting(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<VirtualNode, NoVirtualNode> {
        if (self.missing)().is_some() {
            return Err(NoVirtualNode::Unread);
        }
        let meshes = self.meshes.borrow();
        match meshes.workload_of(namespace, labels) {
            Ok(Some(workload)) => Ok(virtual_node(&workload)),
            Ok(None) => Err(NoVirtualNode::None),
            Err(ambiguous) => Err(NoVirtualNode::Several(ambiguous.0)),
        }
    }

    fn named(&self, namespace: &str, name: &str) -> Option<VirtualNode> {
        let meshes = self.meshes.borrow();
        let key = Key::new(namespace, name);
        meshes.iter().find_map(|mesh| {
            let (key, spec) = mesh.nodes.get_key_value(&key)?;
            Some(virtual_node(&Workload { mesh, key, spec }))
        })
    }

    fn gateway(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<Option<VirtualGateway>, NoVirtualNode> {
        let meshes = self.meshes.borrow();
        let found = meshes.gateway_of_pod(namespace, labels);
        let found = found.map_err(|ambiguous| NoVirtualNode::Several(ambiguous.0))?;
        Ok(found.map(|gateway| VirtualGateway {
            name: gateway.key.name.clone(),
            node_id: gateway.node_id(),
            ports: gateway.ports().collect(),
            secrets: mounted(acm_secrets_of_gateway(gateway.spec)),
        }))
    }
}

fn virtual_node(workload: &Workload<'_>) -> VirtualNode {
    VirtualNode {
        name: workload.key.name.clone(),
        aws_name: workload.spec.aws_name.clone(),
        mesh: workload.mesh.name.clone(),
        ports: workload.ports().collect(),
        secrets: mounted(acm_secrets(workload.spec)),
    }
}

/// Secrets with their paths in Envoy's container.
fn mounted(secrets: Vec<String>) -> Vec<(String, String)> {
    let secrets = secrets.into_iter();
    let with_path = |secret| {
        let path = format!("{ACM_PATH}/{secret}");
        (secret, path)
    };
    secrets.map(with_path).collect()
}
