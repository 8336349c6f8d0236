//! The table of fields against the schemas of the custom resources, and against what the
//! control plane takes.
#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::collections::BTreeSet;

use mesh_control_plane::fields::{FIELDS, FieldState, field};
use mesh_control_plane::mesh::Meshes;
use serde_json::{Map, Value, json};

const SCHEMAS: &str = include_str!("schemas/v1beta2.json");

/// Fields that the definitions do not have: those that App Mesh's API has,
/// or that a public example sets.
const OF_THE_API: [(&str, &str); 4] = [
    ("VirtualNode", "spec.serviceDiscovery.dns.ipPreference"),
    (
        "VirtualNode",
        "spec.backends[].virtualService.clientPolicy.tls.mode",
    ),
    ("VirtualNode", "spec.backendDefaults.clientPolicy.tls.mode"),
    (
        "VirtualGateway",
        "spec.backendDefaults.clientPolicy.tls.mode",
    ),
];

fn schemas() -> Map<String, Value> {
    serde_json::from_str(SCHEMAS).unwrap()
}

/// Paths of all fields without fields of their own.
fn leaves(schema: &Value, path: &str, found: &mut Vec<String>) {
    if let Some(fields) = schema["properties"].as_object() {
        for (name, field) in fields {
            leaves(field, &format!("{path}.{name}"), found);
        }
    } else if schema["items"].is_object() {
        leaves(&schema["items"], &format!("{path}[]"), found);
    } else {
        found.push(path.to_owned());
    }
}

fn all_leaves() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (kind, schema) in schemas() {
        let mut found = Vec::new();
        leaves(&schema, "spec", &mut found);
        all.extend(found.into_iter().map(|path| (kind.clone(), path)));
    }
    let others = OF_THE_API.map(|(kind, path)| (kind.to_owned(), path.to_owned()));
    all.into_iter().chain(others).collect()
}

/// The smallest value of a schema with the field `path`: `path` and what is required beside it.
fn sample(schema: &Value, path: &[&str]) -> Value {
    if let Some(words) = schema["enum"].as_array() {
        let http = words.iter().find(|word| *word == "http");
        return http.unwrap_or(&words[0]).clone();
    }
    match schema["type"].as_str() {
        Some("object") => {
            let mut object = Map::new();
            let fields = schema["properties"].as_object();
            let required = schema["required"].as_array().into_iter().flatten();
            let required: BTreeSet<_> = required.filter_map(Value::as_str).collect();
            let wanted = path.first().map(|name| name.trim_end_matches("[]"));
            for (name, field) in fields.into_iter().flatten() {
                if wanted == Some(name) {
                    object.insert(name.clone(), sample(field, &path[1..]));
                } else if required.contains(name.as_str()) || is_needed(name, wanted) {
                    object.insert(name.clone(), sample(field, &[]));
                }
            }
            Value::Object(object)
        }
        Some("array") => json!([sample(&schema["items"], path)]),
        Some("integer") => json!(1),
        Some("boolean") => json!(true),
        _ => json!("x"),
    }
}

/// An object is named by a reference or by an ARN, which the schemas cannot say.
fn is_needed(name: &str, wanted: Option<&str>) -> bool {
    let references = ["virtualNodeRef", "virtualRouterRef", "virtualServiceRef"];
    references.contains(&name) && !wanted.is_some_and(|wanted| wanted.ends_with("ARN"))
}

/// Each field of the schemas has a row, one that serves it is its own, and each row stands for a
/// field.
#[test]
fn no_field_is_forgotten() {
    let mut used = BTreeSet::new();
    for (kind, path) in all_leaves() {
        let row = field(&kind, &path).unwrap_or_else(|| panic!("{kind} {path}"));
        used.insert((row.kind, row.path));
    }
    for row in FIELDS.iter() {
        let is_used = used.contains(&(row.kind, row.path));
        assert!(is_used, "{} {}: no such field", row.kind, row.path);
    }
}

/// The control plane refuses the fields that the table refuses, by name and with its reason, and
/// takes all others.
#[test]
fn the_table_is_what_the_control_plane_does() {
    let schemas = schemas();
    for (kind, path) in all_leaves() {
        let mut schema = schemas[&kind].clone();
        schema["properties"]["serviceDiscovery"]["properties"]["dns"]["properties"]["ipPreference"] =
            json!({"type": "string", "enum": ["IPv4_ONLY"]});
        for place in ["/backendDefaults", "/backends/items/virtualService"] {
            let tls = place
                .replacen('/', "/properties/", 1)
                .replace("/items/", "/items/properties/");
            let tls = format!("{tls}/properties/clientPolicy/properties/tls/properties");
            if let Some(tls) = schema.pointer_mut(&tls) {
                tls["mode"] = json!({"type": "string"});
            }
        }
        let segments: Vec<_> = path.split('.').skip(1).collect();
        let object = json!({
            "apiVersion": "appmesh.k8s.aws/v1beta2", "kind": kind,
            "metadata": {"name": "x", "namespace": "prod"},
            "spec": sample(&schema, &segments),
        });
        let (_, refused) = Meshes::of([&object], &Meshes::default());
        let not_served = refused
            .iter()
            .any(|refused| refused.why.contains("is not served"));
        let row = field(&kind, &path).unwrap();
        if row.state == FieldState::Refused {
            let with_reason = refused
                .iter()
                .any(|refused| refused.why.contains(row.reason));
            assert!(with_reason, "{kind} {path} {object}: {refused:?}");
        } else {
            assert!(!not_served, "{kind} {path} {object}: {refused:?}");
        }
    }
}
