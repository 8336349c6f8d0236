//! Routes as Kubernetes objects, within the sizes that Gateway API takes.

use std::collections::{BTreeMap, BTreeSet};

use mesh_control_plane::resources::Protocol;
use serde_json::{Value, json};

use crate::Channel;
use crate::finding::{Finding, Lack};
use crate::parents::Parent;
use crate::rules::Rule;

/// Rules of a route, and matches of them together, at most.
const RULES_MAX: usize = 16;
const ROUTE_MATCHES_MAX: usize = 128;
/// Parents of a route at most.
const PARENTS_MAX: usize = 32;
/// Services of a grant at most.
const GRANTED_MAX: usize = 16;

pub(crate) const GROUP: &str = "gateway.networking.k8s.io";

#[derive(Debug, Default)]
pub(crate) struct Routes {
    /// By kind, namespace and name.
    by_name: BTreeMap<(&'static str, String, String), Value>,
    /// Services by their namespace, and the kind and namespace of routes that lead to them.
    grants: BTreeMap<(String, &'static str, String), BTreeSet<String>>,
    gateways: Vec<Value>,
}

/// Where a route is, and what for.
#[derive(Debug)]
pub(crate) struct Placement<'a> {
    pub(crate) protocol: Protocol,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    /// Items of `parentRefs`.
    pub(crate) parents: Vec<Value>,
    /// Empty for all.
    pub(crate) hostnames: &'a [String],
}

// === impl Routes ===

impl Routes {
    pub(crate) fn add(
        &mut self,
        parent: &Parent,
        rules: &[Rule],
        channel: Channel,
        findings: &mut Vec<Finding>,
    ) {
        let protocol = parent.mapping.protocol;
        if protocol == Protocol::Tcp && channel == Channel::Standard {
            let port = parent.mapping.port;
            let why = format!(
                "port {port} has no route: TCPRoute is of the experimental channel, use --channel experimental"
            );
            findings.push(Finding::new(Lack::NotConverted, &parent.what, "", &why));
            return;
        }
        for services in parent.services.chunks(PARENTS_MAX) {
            let parents = services.iter().map(|name| reference(parent, name));
            let placement = Placement {
                protocol,
                namespace: &parent.namespace,
                name: &parent.name,
                parents: parents.collect(),
                hostnames: &[],
            };
            self.place(&placement, rules);
        }
    }

    pub(crate) fn place(&mut self, placement: &Placement<'_>, rules: &[Rule]) {
        let (kind, version) = kind(placement.protocol);
        let namespace = placement.namespace;
        for rule in rules {
            for (service, ..) in &rule.outcome.backends {
                if service.namespace != namespace {
                    let slot = (service.namespace.clone(), kind, namespace.to_owned());
                    let granted = self.grants.entry(slot).or_default();
                    granted.insert(service.name.clone());
                }
            }
        }
        for part in parts(rules) {
            let rules = part.iter();
            let rules = rules.map(|rule| rule.to_value(placement.protocol, namespace));
            let mut spec = json!({
                "parentRefs": placement.parents,
                "rules": rules.collect::<Vec<_>>(),
            });
            if !placement.hostnames.is_empty() {
                spec["hostnames"] = json!(placement.hostnames);
            }
            let name = self.free_name(kind, namespace, placement.name);
            let document = json!({
                "apiVersion": format!("{GROUP}/{version}"), "kind": kind,
                "metadata": {"name": name, "namespace": namespace},
                "spec": spec,
            });
            self.by_name
                .insert((kind, namespace.to_owned(), name), document);
        }
    }

    pub(crate) fn add_gateway(&mut self, gateway: Value) {
        self.gateways.push(gateway);
    }

    /// Between matches that are alike, implementations go by the names of routes: later parts of
    /// one have later names.
    fn free_name(&self, kind: &'static str, namespace: &str, base: &str) -> String {
        let is_free = |name: &String| {
            let slot = (kind, namespace.to_owned(), name.clone());
            !self.by_name.contains_key(&slot)
        };
        let numbered = (2..).map(|nth| format!("{base}-part-{nth:04}"));
        let mut names = std::iter::once(base.to_owned()).chain(numbered);
        names.find(is_free).unwrap_or_default()
    }

    /// Gateways and grants before the routes that need them.
    pub(crate) fn into_documents(self) -> Vec<Value> {
        let grants = self.grants.into_iter().flat_map(|(slot, services)| {
            let services: Vec<_> = services.into_iter().collect();
            let parts = services.chunks(GRANTED_MAX).enumerate();
            let grants = parts.map(|(nth, services)| grant(&slot, nth, services));
            grants.collect::<Vec<_>>()
        });
        let gateways = self.gateways.into_iter();
        let needed = gateways.chain(grants);
        needed.chain(self.by_name.into_values()).collect()
    }
}

fn kind(protocol: Protocol) -> (&'static str, &'static str) {
    match protocol {
        Protocol::Http | Protocol::Http2 => ("HTTPRoute", "v1"),
        Protocol::Grpc => ("GRPCRoute", "v1"),
        Protocol::Tcp => ("TCPRoute", "v1alpha2"),
    }
}

/// Routes have a limited number of rules; their order is kept.
fn parts(rules: &[Rule]) -> Vec<&[Rule]> {
    let mut parts = Vec::new();
    let mut rest = rules;
    while !rest.is_empty() {
        let mut matches = 0;
        let fits = |rule: &&Rule| {
            matches += rule.matches.len();
            matches <= ROUTE_MATCHES_MAX
        };
        let count = rest.iter().take(RULES_MAX).take_while(fits).count().max(1);
        let (part, others) = rest.split_at(count);
        parts.push(part);
        rest = others;
    }
    parts
}

fn reference(parent: &Parent, name: &str) -> Value {
    json!({"group": "", "kind": "Service", "name": name, "port": parent.mapping.port})
}

fn grant(
    (namespace, kind, from): &(String, &'static str, String),
    nth: usize,
    services: &[String],
) -> Value {
    let part = if nth == 0 {
        String::new()
    } else {
        format!("-{}", nth + 1)
    };
    let to = services.iter();
    let to = to.map(|name| json!({"group": "", "kind": "Service", "name": name}));
    json!({
        "apiVersion": format!("{GROUP}/v1beta1"), "kind": "ReferenceGrant",
        "metadata": {
            "name": format!("{}s-of-{from}{part}", kind.to_ascii_lowercase()),
            "namespace": namespace,
        },
        "spec": {
            "from": [{"group": GROUP, "kind": kind, "namespace": from}],
            "to": to.collect::<Vec<_>>(),
        },
    })
}
