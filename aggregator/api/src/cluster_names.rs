//! Maps names of Envoy clusters to services and workloads.
//!
//! Three sources, in this order: the operator's list, App Mesh's names, Istio's names. Other names
//! are not guessed.
//!
//! | name | destination |
//! |---|---|
//! | `cds_egress_MESH_NODE_NAMESPACE_PROTOCOL_PORT` | service and workloads named NODE |
//! | `cds_ingress_…` | the pod itself |
//! | `cds_egress_MESH_amazonaws`, `cds_egress_MESH_mesh-allow-all` | elsewhere |
//! | `outbound\|PORT\|SUBSET\|NAME.NAMESPACE.svc.DOMAIN`, `outbound_.PORT_.SUBSET_.…` | service |
//! | `outbound\|PORT\|\|any other host`, `PassthroughCluster`, `BlackHoleCluster` | elsewhere |
//! | `inbound\|PORT\|\|`, `InboundPassthroughCluster…` | the pod itself |

use std::collections::BTreeMap;

use thiserror::Error;

use crate::names::{namespace_fault, pod_name_fault};
use crate::workload::Workload;

/// Entries of the operator's list.
pub const CLUSTER_RULES_MAX: usize = 10_000;

/// Where requests to a cluster go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Destination {
    Service {
        namespace: String,
        name: String,
    },
    /// A workload, by the operator's list.
    Workload {
        namespace: String,
        kind: Workload,
        name: String,
    },
    /// A virtual node of App Mesh. By convention, its service and workload have the same name.
    VirtualNode {
        namespace: String,
        name: String,
    },
    Own,
    /// Outside the mesh, or nowhere.
    Elsewhere,
}

/// Finds the destination of a cluster.
#[derive(Clone, Debug, Default)]
pub struct ClusterNames {
    rules: BTreeMap<String, Destination>,
}

/// Why an entry of the operator's list was refused.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum ClusterRuleError {
    /// Not of the form `CLUSTER=KIND/NAMESPACE/NAME`.
    #[error("{0:?} is not of the form CLUSTER=KIND/NAMESPACE/NAME")]
    Form(String),
    #[error(
        "{rule:?}: unknown kind {kind:?}; known kinds: service, deployment, replicaset, statefulset, daemonset, job"
    )]
    Kind { rule: String, kind: String },
    #[error("{rule:?}: {name:?} is not valid: {fault}")]
    Name {
        rule: String,
        name: String,
        fault: &'static str,
    },
    #[error("the cluster {0:?} is given more than once")]
    Twice(String),
    #[error("more than {CLUSTER_RULES_MAX} clusters are given")]
    TooMany,
}

// === impl ClusterNames ===

impl ClusterNames {
    /// Parses entries such as `orders-upstream=service/prod/orders`; they precede all patterns.
    pub fn new(rules: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, ClusterRuleError> {
        let mut parsed = BTreeMap::new();
        for rule in rules {
            if parsed.len() >= CLUSTER_RULES_MAX {
                return Err(ClusterRuleError::TooMany);
            }
            let (cluster, destination) = parse_rule(rule.as_ref())?;
            if parsed.insert(cluster.to_owned(), destination).is_some() {
                return Err(ClusterRuleError::Twice(cluster.to_owned()));
            }
        }
        Ok(Self { rules: parsed })
    }

    /// Where requests to `cluster` go; `None` if unknown.
    pub(crate) fn destination(&self, cluster: &str) -> Option<Destination> {
        self.rules
            .get(cluster)
            .cloned()
            .or_else(|| app_mesh(cluster))
            .or_else(|| istio(cluster))
    }
}

// === impl Destination ===

impl Destination {
    /// True if requests for the service `name` go there.
    pub(crate) fn is_service(&self, namespace: &str, name: &str) -> bool {
        match self {
            Self::Service {
                namespace: at,
                name: to,
            }
            | Self::VirtualNode {
                namespace: at,
                name: to,
            } => (at.as_str(), to.as_str()) == (namespace, name),
            Self::Workload { .. } | Self::Own | Self::Elsewhere => false,
        }
    }

    /// True if requests for the workload `name` go there.
    pub(crate) fn is_workload(&self, namespace: &str, kind: Workload, name: &str) -> bool {
        match self {
            Self::Workload {
                namespace: at,
                kind: of,
                name: to,
            } => (at.as_str(), *of, to.as_str()) == (namespace, kind, name),
            Self::VirtualNode {
                namespace: at,
                name: to,
            } => (at.as_str(), to.as_str()) == (namespace, name),
            Self::Service { .. } | Self::Own | Self::Elsewhere => false,
        }
    }
}

fn parse_rule(rule: &str) -> Result<(&str, Destination), ClusterRuleError> {
    let form = || ClusterRuleError::Form(rule.to_owned());
    // Cluster names may contain `=`, object names may not: so the last one separates them.
    let (cluster, object) = rule.rsplit_once('=').ok_or_else(form)?;
    let [kind, namespace, name] = object.split('/').collect::<Vec<_>>()[..] else {
        return Err(form());
    };
    if cluster.is_empty() {
        return Err(form());
    }
    for (name, fault) in [
        (namespace, namespace_fault(namespace)),
        (name, pod_name_fault(name)),
    ] {
        if let Some(fault) = fault {
            return Err(ClusterRuleError::Name {
                rule: rule.to_owned(),
                name: name.to_owned(),
                fault,
            });
        }
    }
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    let destination = if kind == "service" {
        Destination::Service { namespace, name }
    } else {
        let kind = Workload::parse(kind).ok_or_else(|| ClusterRuleError::Kind {
            rule: rule.to_owned(),
            kind: kind.to_owned(),
        })?;
        Destination::Workload {
            namespace,
            kind,
            name,
        }
    };
    Ok((cluster, destination))
}

/// Protocols in App Mesh's names.
const PROTOCOLS: [&str; 4] = ["http", "http2", "grpc", "tcp"];

fn app_mesh(cluster: &str) -> Option<Destination> {
    // Matched from the end: names of Kubernetes objects have no `_`, but the mesh's name may.
    let parts: Vec<&str> = cluster.split('_').collect();
    let egress = match parts[..] {
        [_, "egress", _, ..] => true,
        [_, "ingress", _, ..] => false,
        _ => return None,
    };
    match parts[3..] {
        [.., node, namespace, protocol, port]
            if PROTOCOLS.contains(&protocol) && is_port(port) && is_object(namespace, node) =>
        {
            Some(if egress {
                Destination::VirtualNode {
                    namespace: namespace.to_owned(),
                    name: node.to_owned(),
                }
            } else {
                Destination::Own
            })
        }
        [.., "amazonaws" | "mesh-allow-all"] if egress => Some(Destination::Elsewhere),
        _ => None,
    }
}

fn istio(cluster: &str) -> Option<Destination> {
    if cluster.starts_with("InboundPassthroughCluster") {
        return Some(Destination::Own);
    }
    if matches!(cluster, "PassthroughCluster" | "BlackHoleCluster") {
        return Some(Destination::Elsewhere);
    }
    let separator = if cluster.contains('|') { "|" } else { "_." };
    let parts: Vec<&str> = cluster.splitn(4, separator).collect();
    let [direction, port, _subset, host] = parts[..] else {
        return None;
    };
    match direction {
        _ if !is_port(port) => None,
        "inbound" => Some(Destination::Own),
        "outbound" => Some(service_of_host(host)),
        _ => None,
    }
}

/// `NAME.NAMESPACE.svc.DOMAIN`; any other host is not in the cluster.
fn service_of_host(host: &str) -> Destination {
    let parts: Vec<&str> = host.splitn(4, '.').collect();
    match parts[..] {
        [name, namespace, "svc", _] if is_object(namespace, name) => Destination::Service {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        },
        _ => Destination::Elsewhere,
    }
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_object(namespace: &str, name: &str) -> bool {
    namespace_fault(namespace).is_none() && pod_name_fault(name).is_none()
}

#[cfg(test)]
mod tests;
