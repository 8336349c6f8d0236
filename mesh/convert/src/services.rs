//! Kubernetes Services: those that are called, and those that stand for virtual nodes.

use std::collections::{BTreeMap, BTreeSet};

use mesh_control_plane::cluster::service_of;
use mesh_control_plane::mesh::{Key, Mesh, Meshes};
use mesh_control_plane::resources::{
    CloudMap, PortMapping, Protocol, ServiceDiscovery, VirtualNodeSpec,
};
use mesh_control_plane::selector::{Labels, Operator, Selector};
use serde_json::{Value, json};

use crate::finding::{self, Finding, Lack};

/// Longest name of a Service, in bytes.
const NAME_BYTES_MAX: usize = 63;

/// Ports by number.
type Ports = BTreeMap<u16, Protocol>;

/// The Services that routes are about.
#[derive(Debug, Default)]
pub(crate) struct Services {
    /// Namespaces of all objects: `NAME.NAMESPACE` is a Service in one of them only.
    namespaces: BTreeSet<String>,
    used: BTreeMap<Key, Ports>,
    printed: BTreeMap<Key, Printed>,
    /// The port of a Service, and what its requests belong to.
    taken: BTreeMap<(Key, u16), String>,
}

/// A Service that is part of the output.
#[derive(Debug)]
struct Printed {
    /// `None` for one without pods of its own, whose requests all go by routes.
    selector: Option<Labels>,
    ports: Ports,
}

// === impl Services ===

impl Services {
    pub(crate) fn of(meshes: &Meshes) -> Self {
        let keys = meshes.iter().flat_map(|mesh| {
            let (nodes, services) = (mesh.nodes.keys(), mesh.services.keys());
            nodes.chain(services).chain(mesh.routers.keys())
        });
        Self {
            namespaces: keys.map(|key| key.namespace.clone()).collect(),
            ..Self::default()
        }
    }

    /// The Service with a DNS name, as a client in `namespace` resolves it.
    pub(crate) fn named(&self, host: &str, namespace: &str) -> Option<Key> {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let is_qualified = host.split('.').nth(2) == Some("svc");
        let key = match service_of(&host) {
            Some(key) if is_qualified || self.namespaces.contains(&key.namespace) => key,
            None if !host.contains('.') => Key::new(namespace, &host),
            _ => return None,
        };
        (is_label(&key.name) && is_label(&key.namespace)).then_some(key)
    }

    /// Notes that a route is about a port of a Service.
    pub(crate) fn use_port(&mut self, service: &Key, mapping: PortMapping) {
        let ports = self.used.entry(service.clone()).or_default();
        ports.entry(mapping.port).or_insert(mapping.protocol);
        if let Some(printed) = self.printed.get_mut(service) {
            printed
                .ports
                .entry(mapping.port)
                .or_insert(mapping.protocol);
        }
    }

    /// Gives the requests to a port of a Service to `what`; an error says who has them.
    pub(crate) fn take(&mut self, service: &Key, port: u16, what: &str) -> Result<(), &str> {
        let owner = self.taken.entry((service.clone(), port));
        let owner = owner.or_insert_with(|| what.to_owned());
        if owner == what { Ok(()) } else { Err(owner) }
    }

    /// A Service for a name that no Service can have.
    pub(crate) fn print_parent(&mut self, key: &Key) {
        self.printed.entry(key.clone()).or_insert_with(|| Printed {
            selector: None,
            ports: Ports::new(),
        });
    }

    /// The Service with the pods of a node; an error is the field that has none, and why.
    pub(crate) fn of_node(
        &mut self,
        mesh: &Mesh,
        key: &Key,
        node: &VirtualNodeSpec,
        findings: &mut Vec<Finding>,
    ) -> Result<Key, (&'static str, String)> {
        match &node.service_discovery {
            None => Err(("spec.serviceDiscovery", "there is none".to_owned())),
            Some(ServiceDiscovery::Dns(dns)) => {
                let found = self.named(&dns.hostname, &key.namespace);
                found.ok_or_else(|| {
                    let host = &dns.hostname;
                    let why = format!("{host} is not the name of a Kubernetes Service");
                    ("spec.serviceDiscovery.dns.hostname", why)
                })
            }
            Some(ServiceDiscovery::AwsCloudMap(cloud_map)) => {
                self.print_node(mesh, (key, node), cloud_map, findings)
            }
        }
    }

    /// The Service that stands for a node, if routes are about it.
    pub(crate) fn in_use(&self, key: &Key, node: &VirtualNodeSpec) -> Option<Key> {
        let service = match node.service_discovery.as_ref()? {
            ServiceDiscovery::Dns(dns) => self.named(&dns.hostname, &key.namespace)?,
            ServiceDiscovery::AwsCloudMap(_) => {
                let printed = self.printed.get(key)?;
                printed.selector.as_ref().map(|_| key.clone())?
            }
        };
        self.used.contains_key(&service).then_some(service)
    }

    /// Whether routes lead to a port of HTTP/2 among `ports`, or among all of them.
    pub(crate) fn has_http2(&self, service: &Key, ports: Option<&BTreeSet<u16>>) -> bool {
        let used = self.used.get(service).into_iter().flatten();
        let mut used = used.filter(|(port, _)| ports.is_none_or(|ports| ports.contains(port)));
        used.any(|(_, protocol)| protocol.is_http2())
    }

    /// The name of a port, which is known of Services that are printed.
    pub(crate) fn port_name(&self, service: &Key, port: u16) -> Option<String> {
        let protocol = self.printed.get(service)?.ports.get(&port)?;
        Some(port_name(port, *protocol))
    }

    fn print_node(
        &mut self,
        mesh: &Mesh,
        (key, node): (&Key, &VirtualNodeSpec),
        cloud_map: &CloudMap,
        findings: &mut Vec<Finding>,
    ) -> Result<Key, (&'static str, String)> {
        let labels = node.pod_selector.as_ref().and_then(labels_of);
        let labels = labels.filter(|labels| !labels.is_empty());
        let labels = labels.ok_or_else(|| {
            let why = "a Service selects pods by labels with one value each";
            ("spec.podSelector", why.to_owned())
        })?;
        if !is_label(&key.name) {
            let why = "the name of the node cannot be that of a Service".to_owned();
            return Err(("metadata.name", why));
        }
        let what = finding::name("VirtualNode", &key.namespace, &key.name);
        for other in sharing(mesh, key, cloud_map) {
            let why = format!(
                "App Mesh takes the pods of the VirtualNode {other} too, which have the same service in Cloud Map; the Service that is printed has those of this node"
            );
            let path = "spec.serviceDiscovery.awsCloudMap";
            findings.push(Finding::new(Lack::Different, &what, path, &why));
        }
        let mappings = node.listeners.iter().map(|listener| listener.port_mapping);
        let ports: Ports = mappings
            .map(|mapping| (mapping.port, mapping.protocol))
            .collect();
        let printed = self.printed.entry(key.clone()).or_insert_with(|| Printed {
            selector: None,
            ports: Ports::new(),
        });
        printed.selector = Some(labels);
        printed.ports.extend(ports);
        Ok(key.clone())
    }

    /// Services that are not printed, with what routes need of them.
    pub(crate) fn needed(&self) -> Vec<String> {
        let used = self.used.iter();
        let needed = used.filter(|(key, _)| !self.printed.contains_key(key));
        let line = |(key, ports): (&Key, &Ports)| {
            let ports: Vec<_> = ports.iter().map(needed_port).collect();
            format!("{}/{}: {}", key.namespace, key.name, ports.join(", "))
        };
        needed.map(line).collect()
    }

    pub(crate) fn printed(&self) -> Vec<String> {
        let keys = self.printed.keys();
        keys.map(|key| format!("{}/{}", key.namespace, key.name))
            .collect()
    }

    pub(crate) fn documents(&self) -> Vec<Value> {
        let printed = self.printed.iter();
        printed
            .map(|(key, printed)| printed.document(key))
            .collect()
    }
}

fn port_name(port: u16, protocol: Protocol) -> String {
    format!("{}-{port}", protocol.as_str())
}

fn needed_port((port, protocol): (&u16, &Protocol)) -> String {
    match app_protocol(*protocol) {
        None => format!("port {port}"),
        Some(name) => format!("port {port} with appProtocol: {name}"),
    }
}

/// How a proxy knows that the pods speak HTTP/2.
fn app_protocol(protocol: Protocol) -> Option<&'static str> {
    protocol.is_http2().then_some("kubernetes.io/h2c")
}

fn is_label(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    begins && !name.ends_with('-') && name.len() <= NAME_BYTES_MAX && name.bytes().all(is_plain)
}

/// The labels that a selector asks for; `None` if it asks for anything else.
fn labels_of(selector: &Selector) -> Option<Labels> {
    let mut labels = selector.match_labels.clone();
    for expression in &selector.match_expressions {
        let [value] = &expression.values[..] else {
            return None;
        };
        let before = labels.insert(expression.key.clone(), value.clone());
        if expression.operator != Operator::In || before.is_some_and(|before| before != *value) {
            return None;
        }
    }
    Some(labels)
}

/// Other nodes whose pods may have the attributes of this one in Cloud Map.
fn sharing(mesh: &Mesh, key: &Key, cloud_map: &CloudMap) -> Vec<String> {
    let mut names = Vec::new();
    for (other_key, other) in mesh.nodes.iter() {
        let discovery = other.service_discovery.as_ref();
        let Some(theirs) = discovery.and_then(ServiceDiscovery::cloud_map) else {
            continue;
        };
        let is_same = theirs.namespace_name == cloud_map.namespace_name
            && theirs.service_name == cloud_map.service_name;
        let labels = other
            .pod_selector
            .as_ref()
            .map(|selector| &selector.match_labels);
        let differs = cloud_map.attributes.iter().any(|own| {
            let mut attributes = theirs.attributes.iter();
            let attribute = attributes.find(|attribute| attribute.key == own.key);
            let attribute = attribute.map(|attribute| &attribute.value);
            let label = labels.and_then(|labels| labels.get(&own.key));
            attribute.or(label).is_some_and(|value| *value != own.value)
        });
        if other_key != key && is_same && labels.is_some() && !differs {
            names.push(format!("{}/{}", other_key.namespace, other_key.name));
        }
    }
    names
}

// === impl Printed ===

impl Printed {
    fn document(&self, key: &Key) -> Value {
        let ports = self.ports.iter().map(|(port, protocol)| {
            let name = port_name(*port, *protocol);
            let mut value = json!({"name": name, "port": port, "targetPort": port});
            if let Some(name) = app_protocol(*protocol) {
                value["appProtocol"] = json!(name);
            }
            value
        });
        let mut spec = json!({"ports": ports.collect::<Vec<_>>()});
        if let Some(selector) = &self.selector {
            spec["selector"] = json!(selector);
        }
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": key.name, "namespace": key.namespace},
            "spec": spec,
        })
    }
}
