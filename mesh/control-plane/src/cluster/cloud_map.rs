//! Addresses of workloads with `awsCloudMap`: those that App Mesh's controller registered in AWS
//! Cloud Map, without AWS.
//!
//! The controller registered each pod that the `podSelector` of a virtual node selects, with the
//! pod's labels and the node's attributes; Envoys asked for the instances of a service with all
//! attributes of a node. Nodes that share a service may therefore share pods.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::objects::Pod;
use crate::mesh::{Endpoints, Key, Mesh};
use crate::resources::{CloudMap, IpPreference, VirtualNodeSpec};

/// The pods registered by service, as `(namespaceName, serviceName)`.
pub(super) struct Instances<'a> {
    by_service: BTreeMap<(&'a str, &'a str), Vec<Instance<'a>>>,
}

#[derive(Clone, Copy)]
struct Instance<'a> {
    pod: &'a Pod,
    /// Of the virtual node that selects the pod.
    cloud_map: &'a CloudMap,
}

// === impl Instances ===

impl<'a> Instances<'a> {
    pub(super) fn of(mesh: &'a Mesh, pods: &'a BTreeMap<Key, Arc<Pod>>) -> Self {
        let mut by_service: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (key, node) in mesh.nodes.iter() {
            let (Some(cloud_map), Some(selector)) = (cloud_map(node), &node.pod_selector) else {
                continue;
            };
            let of_namespace = pods.range(Key::new(&key.namespace, "")..);
            let of_namespace = of_namespace.take_while(|(pod, _)| pod.namespace == key.namespace);
            let selected = of_namespace.filter(|(_, pod)| selector.selects(&pod.metadata.labels));
            let instances = selected.map(|(_, pod)| Instance { pod, cloud_map });
            by_service
                .entry(service(cloud_map))
                .or_default()
                .extend(instances);
        }
        Self { by_service }
    }

    /// Addresses of a node's pods by port; `None` without `awsCloudMap`.
    pub(super) fn endpoints(&self, mesh: &Mesh, node: &VirtualNodeSpec) -> Option<Endpoints> {
        let cloud_map = cloud_map(node)?;
        let instances = self.by_service.get(&service(cloud_map));
        let prefers_v6 = matches!(
            mesh.ip_preference_of(node),
            Some(IpPreference::V6Preferred | IpPreference::V6Only)
        );
        let matching = instances.into_iter().flatten();
        let matching =
            matching.filter(|instance| instance.has(cloud_map) && instance.pod.is_ready());
        let addresses = matching.filter_map(|instance| instance.pod.address(prefers_v6));
        let mut addresses: Vec<IpAddr> = addresses.collect();
        // Sorted, so that the order of watch events does not change the version sent to Envoy.
        addresses.sort_unstable();
        addresses.dedup();
        let ports = node
            .listeners
            .iter()
            .map(|listener| listener.port_mapping.port);
        let of_port = |port: u16| {
            let all = addresses.iter().map(|ip| SocketAddr::new(*ip, port));
            (port, all.collect())
        };
        Some(ports.map(of_port).collect())
    }
}

fn cloud_map(node: &VirtualNodeSpec) -> Option<&CloudMap> {
    node.service_discovery.as_ref()?.cloud_map()
}

fn service(cloud_map: &CloudMap) -> (&str, &str) {
    (&cloud_map.namespace_name, &cloud_map.service_name)
}

// === impl Instance ===

impl Instance<'_> {
    /// Whether it has all attributes of `asked`. An attribute comes before a label of its name.
    fn has(self, asked: &CloudMap) -> bool {
        asked.attributes.iter().all(|attribute| {
            let mut own = self.cloud_map.attributes.iter();
            let own = own.find(|own| own.key == attribute.key);
            let value = own.map(|own| &own.value);
            let value = value.or_else(|| self.pod.metadata.labels.get(&attribute.key));
            value == Some(&attribute.value)
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::mesh::Meshes;

    const MESH: &str = "
apiVersion: appmesh.k8s.aws/v1beta2
kind: Mesh
metadata: {name: m}
spec: {namespaceSelector: {}}
";

    /// A manifest of nodes: name, pods' label `app`, service, attributes.
    fn mesh(nodes: &[(&str, &str, &str, Value)], preference: Option<&str>) -> Meshes {
        let node = |(name, app, service, attributes): &(&str, &str, &str, Value)| {
            json!({"apiVersion": "appmesh.k8s.aws/v1beta2", "kind": "VirtualNode",
                   "metadata": {"name": name, "namespace": "prod"},
                   "spec": {"podSelector": {"matchLabels": {"app": app}},
                            "listeners": [{"portMapping": {"port": 80, "protocol": "http"}},
                                          {"portMapping": {"port": 81, "protocol": "tcp"}}],
                            "serviceDiscovery": {"awsCloudMap": {"namespaceName": "x.local", "serviceName": service,
                                                                 "attributes": attributes}}}})
            .to_string()
        };
        let nodes: Vec<_> = nodes.iter().map(node).collect();
        let preferred = preference.map_or_else(String::new, |preference| {
            format!(", meshServiceDiscovery: {{ipPreference: {preference}}}")
        });
        let mesh = MESH.replace(
            "{namespaceSelector: {}",
            &format!("{{namespaceSelector: {{}}{preferred}"),
        );
        let text = format!("{mesh}---\n{}\n", nodes.join("\n---\n"));
        let (meshes, refused) = Meshes::parse([("m.yaml", text.as_str())], &Meshes::default());
        assert_eq!(refused, []);
        meshes
    }

    fn pods(pods: &[Value]) -> BTreeMap<Key, Arc<Pod>> {
        let pods = pods.iter().map(|pod| {
            let pod: Pod = serde_json::from_value(pod.clone()).unwrap();
            let key = Key::new(&pod.metadata.namespace, &pod.metadata.name);
            (key, Arc::new(pod))
        });
        pods.collect()
    }

    fn pod(namespace: &str, name: &str, labels: &Value, ips: &[&str], is_ready: bool) -> Value {
        let ips: Vec<_> = ips.iter().map(|ip| json!({"ip": ip})).collect();
        let status = if is_ready { "True" } else { "False" };
        json!({"metadata": {"namespace": namespace, "name": name, "labels": labels},
               "status": {"podIPs": ips, "conditions": [{"type": "ContainersReady", "status": status}]}})
    }

    fn addresses(meshes: &Meshes, pods: &BTreeMap<Key, Arc<Pod>>, node: &str) -> Vec<String> {
        let mesh = meshes.iter().next().unwrap();
        let node = &mesh.nodes[&Key::new("prod", node)];
        let instances = Instances::of(mesh, pods);
        let endpoints = instances.endpoints(mesh, node).unwrap();
        let all = endpoints.values().flatten();
        all.map(ToString::to_string).collect()
    }

    /// Pods of the service and others, ready or not, with an address or without.
    fn pods_of_all_kinds() -> BTreeMap<Key, Arc<Pod>> {
        pods(&[
            pod(
                "prod",
                "b1",
                &json!({"app": "blue"}),
                &["10.0.0.2", "fd00::2"],
                true,
            ),
            pod(
                "prod",
                "b2",
                &json!({"app": "blue", "version": "v2"}),
                &["10.0.0.1"],
                true,
            ),
            // A label does not come before the attribute of the node.
            pod(
                "prod",
                "r",
                &json!({"app": "red", "color": "blue"}),
                &["10.0.0.3"],
                true,
            ),
            pod(
                "prod",
                "starting",
                &json!({"app": "blue"}),
                &["10.0.0.4"],
                false,
            ),
            pod("prod", "pending", &json!({"app": "blue"}), &[], true),
            pod(
                "dev",
                "elsewhere",
                &json!({"app": "blue"}),
                &["10.0.0.5"],
                true,
            ),
            pod(
                "prod",
                "unselected",
                &json!({"app": "green"}),
                &["10.0.0.6"],
                true,
            ),
        ])
    }

    #[test]
    fn pods_are_those_of_the_service_with_the_attributes() {
        let color = |color: &str| json!([{"key": "color", "value": color}]);
        let meshes = mesh(
            &[
                ("blue", "blue", "color", color("blue")),
                ("red", "red", "color", color("red")),
                ("any", "none", "color", json!([])),
                (
                    "labelled",
                    "none",
                    "color",
                    json!([{"key": "version", "value": "v2"}]),
                ),
                ("other", "blue", "other", json!([])),
            ],
            None,
        );
        let pods = pods_of_all_kinds();
        for (node, ips) in [
            ("blue", &["10.0.0.1", "10.0.0.2"][..]),
            ("red", &["10.0.0.3"]),
            ("any", &["10.0.0.1", "10.0.0.2", "10.0.0.3"]),
            ("labelled", &["10.0.0.1"]),
            ("other", &["10.0.0.1", "10.0.0.2"]),
        ] {
            let of_port = |port: u16| ips.iter().map(move |ip| format!("{ip}:{port}"));
            let expected: Vec<_> = of_port(80).chain(of_port(81)).collect();
            assert_eq!(addresses(&meshes, &pods, node), expected, "{node}");
        }
    }

    #[test]
    fn the_family_is_the_preferred_one_if_there_is_one() {
        let pods = pods(&[
            pod(
                "prod",
                "both",
                &json!({"app": "a"}),
                &["10.0.0.1", "fd00::1"],
                true,
            ),
            pod("prod", "four", &json!({"app": "a"}), &["10.0.0.2"], true),
            pod("prod", "six", &json!({"app": "a"}), &["fd00::3"], true),
        ]);
        for (preference, expected) in [
            (None, ["10.0.0.1", "10.0.0.2", "[fd00::3]"]),
            (
                Some("IPv6_PREFERRED"),
                ["10.0.0.2", "[fd00::1]", "[fd00::3]"],
            ),
        ] {
            let meshes = mesh(&[("a", "a", "s", json!([]))], preference);
            let all = addresses(&meshes, &pods, "a");
            let expected = expected.map(|ip| format!("{ip}:80"));
            assert_eq!(all[..3], expected, "{preference:?}");
        }
    }
}
