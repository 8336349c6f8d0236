//! Each field of the fixture is dropped in turn: for each row that is served Envoy's configuration
//! differs at least once, and for one without effect never.
#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::collections::{BTreeMap, BTreeSet};

use mesh_control_plane::envoy::{Ports, Snapshot};
use mesh_control_plane::fields::{FIELDS, FieldState, field};
use mesh_control_plane::mesh::{AcmMap, Meshes, RefusedObject};
use mesh_control_plane::selector::Labels;
use serde_json::{Map, Value};

const EVERY_FIELD: &str = include_str!("every-field.yaml");
const ACM: &str = "arn:aws:acm:us-west-2:111122223333:certificate/1: web\n\
                   arn:aws:acm-pca:us-west-2:111122223333:certificate-authority/1: roots\n";

/// Served fields that the fixture does not show, and why.
const SHOWN_ELSEWHERE: [(&str, &str, &str); 2] = [
    (
        "VirtualNode",
        "spec.serviceDiscovery.awsCloudMap",
        "the pods are those of a cluster: `cluster::cloud_map`",
    ),
    (
        "Mesh",
        "spec.awsName",
        "the fixture's is the default, for other objects name it",
    ),
];

/// What pods and Envoys get of the resources.
#[derive(Debug, PartialEq)]
struct Outcome {
    snapshots: BTreeMap<String, Snapshot>,
    /// Node IDs by pod.
    pods: BTreeMap<String, String>,
    refused: Vec<RefusedObject>,
}

fn documents() -> Vec<Value> {
    serde_saphyr::from_multiple(EVERY_FIELD).unwrap()
}

fn outcome(documents: &[Value]) -> Outcome {
    let acm = Meshes::with_acm(AcmMap::parse(ACM).unwrap());
    let (meshes, refused) = Meshes::of(documents, &acm);
    let mut snapshots = BTreeMap::new();
    for mesh in meshes.iter() {
        let nodes = mesh.nodes.keys().map(|key| ("virtualNode", key));
        let gateways = mesh.gateways.keys().map(|key| ("virtualGateway", key));
        for (kind, key) in nodes.chain(gateways) {
            // Envoys have the node ID of their pod: that of before, if the name changes.
            for name in [key.name.clone(), format!("{}_{}", key.name, key.namespace)] {
                let id = format!("mesh/{}/{kind}/{name}", mesh.name);
                let node = meshes.node_of(&id);
                let node = node.map(|node| Snapshot::new(&node, &Ports::default()));
                let gateway = meshes.gateway_of(&id);
                let gateway = gateway.map(|one| Snapshot::of_gateway(&one, &Ports::default()));
                if let Some(snapshot) = node.or(gateway) {
                    snapshots.insert(id, snapshot);
                }
            }
        }
    }
    Outcome {
        snapshots,
        pods: pods(&meshes),
        refused,
    }
}

/// The node ID of each pod that one of the selectors tells from another.
fn pods(meshes: &Meshes) -> BTreeMap<String, String> {
    let mut pods = BTreeMap::new();
    for app in [
        "caller", "one", "two", "in", "text", "alone", "rest", "secure",
    ] {
        for tier in ["front", "edge", "back"] {
            for namespace in ["prod", "edge", "other", "draft"] {
                let labels: Labels = [("app", app), ("tier", tier)]
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .into();
                let node = meshes.workload_of(namespace, &labels);
                let node = node.map(|node| node.map(|node| node.node_id()));
                let gateway = meshes.gateway_of_pod(namespace, &labels);
                let gateway = gateway.map(|gateway| gateway.map(|gateway| gateway.node_id()));
                let pod = format!("{namespace} {app} {tier}");
                pods.insert(pod, format!("{node:?} {gateway:?}"));
            }
        }
    }
    pods
}

/// Calls `with` for each field of the value with its path, and the value without it.
fn each_drop(value: &Value, path: &str, with: &mut dyn FnMut(&str, Value)) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let path = format!("{path}.{name}");
                let mut without = fields.clone();
                without.remove(name);
                with(&path, Value::Object(without));
                each_drop(field, &path, &mut |path, changed| {
                    let mut fields: Map<String, Value> = fields.clone();
                    fields.insert(name.clone(), changed);
                    with(path, Value::Object(fields));
                });
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let path = format!("{path}[{index}]");
                let mut without = items.clone();
                without.remove(index);
                with(&path, Value::Array(without));
                each_drop(item, &path, &mut |path, changed| {
                    let mut items = items.clone();
                    items[index] = changed;
                    with(path, Value::Array(items));
                });
            }
        }
        _ => {}
    }
}

#[test]
fn each_field_does_what_the_table_says() {
    let all = documents();
    let whole = outcome(&all);
    assert_eq!(whole.refused, []);
    let mut shown = BTreeSet::new();
    let mut wrong = Vec::new();
    for (nth, document) in all.iter().enumerate() {
        let kind = document["kind"].as_str().unwrap();
        each_drop(&document["spec"], "spec", &mut |path, spec| {
            let Some(row) = field(kind, path) else {
                return;
            };
            let mut changed = all.clone();
            changed[nth]["spec"] = spec;
            let changed = outcome(&changed);
            if row.state != FieldState::NoEffect {
                if changed != whole {
                    shown.insert((row.kind, row.path));
                }
            // One that is refused without it says nothing: the schema wants it.
            } else if changed != whole && changed.refused.is_empty() {
                wrong.push(format!("{kind} {} {path}", document["metadata"]["name"]));
            }
        });
    }
    assert!(wrong.is_empty(), "they have an effect: {wrong:#?}");
    let served = FIELDS
        .iter()
        .filter(|row| matches!(row.state, FieldState::Served | FieldState::Mapped));
    let elsewhere = |kind: &str, path: &str| {
        let mut known = SHOWN_ELSEWHERE.iter();
        known.any(|known| known.0 == kind && path.starts_with(known.1))
    };
    let missing: Vec<_> = served
        .filter(|row| !shown.contains(&(row.kind, row.path)) && !elsewhere(row.kind, row.path))
        .map(|row| format!("{} {}", row.kind, row.path))
        .collect();
    assert!(missing.is_empty(), "no effect is shown: {missing:#?}");
}
