//! What `NetworkPolicies` let through: manifests and one connection in, its verdict out. Follows
//! the API's documentation (`networking.k8s.io/v1`): a pod that no policy of a direction selects is
//! open in that direction; a pod that one selects is closed but for what the rules of all that
//! select it open.
//!
//! ```text
//! objects ── Policies::read ──> policies ── refusal(connection) ──> None, or who refuses it
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;
use serde_json::Value;
use tests_manifests::Object;

use crate::{list, text};

/// Labels of a pod or a namespace.
pub type Labels = BTreeMap<String, String>;

/// All policies of some manifests.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    policies: Vec<Policy>,
    /// By name of the namespace.
    namespaces: BTreeMap<String, Labels>,
}

/// One end of a connection.
#[derive(Clone, Debug)]
pub enum End {
    Pod(Pod),
    /// What is no pod: a host, a service of the cloud.
    Address(IpAddr),
    /// The node that the pod at the other end runs on: policies never close a pod to its own node
    /// (kubelet).
    OwnNode,
}

/// A pod, as far as policies see it.
#[derive(Clone, Debug)]
pub struct Pod {
    pub namespace: String,
    pub labels: Labels,
    /// Ports that its containers declare with a name: (name, protocol) to number.
    pub ports: BTreeMap<(String, String), u16>,
    /// Some network plugins hold `ipBlock` against addresses of pods too (Calico), others do not
    /// (Cilium). `None` is the latter.
    pub address: Option<IpAddr>,
}

/// One connection that somebody opens.
#[derive(Clone, Debug)]
pub struct Connection {
    pub from: End,
    pub to: End,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: &'static str,
    /// The port that is listened at, behind any service.
    pub port: u16,
}

#[derive(Clone, Debug)]
struct Policy {
    name: String,
    namespace: String,
    selector: Value,
    ingress: Option<Vec<Value>>,
    egress: Option<Vec<Value>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Direction {
    Ingress,
    Egress,
}

// === impl Policies ===

impl Policies {
    /// The policies and the labels of namespaces among `objects`.
    pub fn read(objects: &[Object]) -> Result<Self> {
        let mut all = Self::default();
        for object in objects {
            match object.kind.as_str() {
                "NetworkPolicy" => all
                    .policies
                    .push(Policy::read(object).with_context(|| format!("policy {}", object.name))?),
                "Namespace" => {
                    all.set_namespace(&object.name, labels(&object.value["metadata"]["labels"]));
                }
                _ => {}
            }
        }
        Ok(all)
    }

    /// Adds a namespace that is not among the manifests.
    pub fn set_namespace(&mut self, name: &str, mut labels: Labels) {
        // Kubernetes sets it itself.
        labels.insert("kubernetes.io/metadata.name".to_owned(), name.to_owned());
        self.namespaces.insert(name.to_owned(), labels);
    }

    /// True if a policy closes `pod` in either direction.
    pub fn isolates(&self, pod: &Pod) -> Result<bool> {
        let ingress = self.of(pod, Direction::Ingress)?;
        Ok(!ingress.is_empty() || !self.of(pod, Direction::Egress)?.is_empty())
    }

    /// Who refuses `connection`; `None` if it is let through.
    pub fn refusal(&self, connection: &Connection) -> Result<Option<String>> {
        let Connection { from, to, .. } = connection;
        for (pod, peer, direction) in [
            (from, to, Direction::Egress),
            (to, from, Direction::Ingress),
        ] {
            let End::Pod(pod) = pod else { continue };
            if matches!(peer, End::OwnNode) {
                continue;
            }
            let policies = self.of(pod, direction)?;
            let mut opened = policies.is_empty();
            for policy in &policies {
                for rule in policy.rules(direction).unwrap_or_default() {
                    opened |= self.opens(policy, rule, direction, connection)?;
                }
            }
            if !opened {
                let names: Vec<&str> = policies.iter().map(|one| one.name.as_str()).collect();
                return Ok(Some(format!("{direction:?} by {}", names.join(", "))));
            }
        }
        Ok(None)
    }

    /// Policies that select `pod` in that direction.
    fn of(&self, pod: &Pod, direction: Direction) -> Result<Vec<&Policy>> {
        let mut found = Vec::new();
        for policy in &self.policies {
            if policy.namespace == pod.namespace
                && policy.rules(direction).is_some()
                && is_selected(&policy.selector, &pod.labels)?
            {
                found.push(policy);
            }
        }
        Ok(found)
    }

    fn opens(
        &self,
        policy: &Policy,
        rule: &Value,
        direction: Direction,
        connection: &Connection,
    ) -> Result<bool> {
        let (peers, peer) = match direction {
            Direction::Ingress => (&rule["from"], &connection.from),
            Direction::Egress => (&rule["to"], &connection.to),
        };
        let mut is_peer = list(peers).is_empty();
        for one in list(peers) {
            is_peer |= self.is_peer(policy, one, peer)?;
        }
        let ports = list(&rule["ports"]);
        let mut is_port = ports.is_empty();
        for port in ports {
            is_port |= matches_port(port, connection)?;
        }
        Ok(is_peer && is_port)
    }

    fn is_peer(&self, policy: &Policy, peer: &Value, end: &End) -> Result<bool> {
        if peer["ipBlock"].is_object() {
            let address = match end {
                End::Address(address) => Some(*address),
                End::Pod(pod) => pod.address,
                End::OwnNode => None,
            };
            return address.map_or(Ok(false), |address| in_block(&peer["ipBlock"], address));
        }
        let End::Pod(pod) = end else {
            return Ok(false);
        };
        let namespace = &peer["namespaceSelector"];
        let is_namespace = if namespace.is_null() {
            policy.namespace == pod.namespace
        } else {
            let labels = self.namespaces.get(&pod.namespace);
            let labels = labels.with_context(|| format!("no namespace {}", pod.namespace))?;
            is_selected(namespace, labels)?
        };
        let pods = &peer["podSelector"];
        Ok(is_namespace && (pods.is_null() || is_selected(pods, &pod.labels)?))
    }
}

// === impl Policy ===

impl Policy {
    fn read(object: &Object) -> Result<Self> {
        let spec = &object.value["spec"];
        let types: Vec<&str> = list(&spec["policyTypes"]).iter().map(text).collect();
        // Without types: ingress always, egress where there are rules for it.
        let (ingress, egress) = if types.is_empty() {
            (true, !list(&spec["egress"]).is_empty())
        } else {
            if let Some(unknown) = types
                .iter()
                .find(|one| !["Ingress", "Egress"].contains(one))
            {
                bail!("policyTypes: {unknown}");
            }
            (types.contains(&"Ingress"), types.contains(&"Egress"))
        };
        Ok(Self {
            name: object.name.clone(),
            namespace: object.namespace.clone().unwrap_or("default".to_owned()),
            selector: spec["podSelector"].clone(),
            ingress: ingress.then(|| list(&spec["ingress"]).to_vec()),
            egress: egress.then(|| list(&spec["egress"]).to_vec()),
        })
    }

    /// `None`: it says nothing of that direction.
    fn rules(&self, direction: Direction) -> Option<&[Value]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

/// Labels as they are in a manifest.
pub fn labels(value: &Value) -> Labels {
    let pairs = value.as_object().into_iter().flatten();
    pairs
        .map(|(key, value)| (key.clone(), text(value).to_owned()))
        .collect()
}

/// A selector without requirements selects everything.
fn is_selected(selector: &Value, has: &Labels) -> Result<bool> {
    let wanted = labels(&selector["matchLabels"]);
    let mut selected = wanted
        .iter()
        .all(|(key, value)| has.get(key) == Some(value));
    for requirement in list(&selector["matchExpressions"]) {
        let value = has.get(text(&requirement["key"]));
        let is_one_of = value.is_some_and(|value| {
            list(&requirement["values"])
                .iter()
                .any(|one| one == value.as_str())
        });
        selected &= match text(&requirement["operator"]) {
            "In" => is_one_of,
            "NotIn" => !is_one_of,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            operator => bail!("operator {operator:?}"),
        };
    }
    Ok(selected)
}

fn in_block(block: &Value, address: IpAddr) -> Result<bool> {
    let contains = |range: &Value| -> Result<bool> {
        let net: IpNet = text(range).parse().with_context(|| range.to_string())?;
        Ok(net.contains(&address))
    };
    let mut inside = contains(&block["cidr"])?;
    for except in list(&block["except"]) {
        inside &= !contains(except)?;
    }
    Ok(inside)
}

fn matches_port(port: &Value, connection: &Connection) -> Result<bool> {
    let protocol = port["protocol"].as_str().unwrap_or("TCP");
    if protocol != connection.protocol {
        return Ok(false);
    }
    let first = match &port["port"] {
        Value::Null => return Ok(true),
        // A name means what the pod that listens declares under it, so nothing where no pod
        // listens.
        Value::String(name) => {
            let End::Pod(pod) = &connection.to else {
                return Ok(false);
            };
            let declared = pod.ports.get(&(name.clone(), protocol.to_owned()));
            return Ok(declared == Some(&connection.port));
        }
        number => number.as_u64().context("port")?,
    };
    let last = port["endPort"].as_u64().unwrap_or(first);
    Ok((first..=last).contains(&connection.port.into()))
}
