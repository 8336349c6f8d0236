//! The table of fields against the schemas of the custom resources, and against what is printed.

use std::collections::{BTreeMap, BTreeSet};

use mesh_control_plane::lint::Outcome;
use mesh_convert::fields::{FIELDS, Fate, field};
use mesh_convert::{Channel, convert};
use serde_json::Value;

use crate::{EVERY_FIELD, GATEWAYS, options, read};

const SCHEMAS: &str = include_str!("../../../control-plane/tests/schemas/v1beta2.json");

/// Fields that App Mesh's API has and the definitions do not.
const OF_THE_API: [(&str, &str); 1] = [("VirtualNode", "spec.serviceDiscovery.dns.ipPreference")];

/// No counterpart as a limit of what may be called, and whom a caller calls decides which of its
/// client policies are printed.
const CALLED: (&str, &str) = ("VirtualNode", "spec.backends");

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

/// Each field of the schemas has a row, and each row stands for a field.
#[test]
fn no_field_is_forgotten() {
    let schemas: Value = serde_json::from_str(SCHEMAS).unwrap();
    let mut all: Vec<_> = OF_THE_API
        .map(|(kind, path)| (kind.to_owned(), path.to_owned()))
        .into();
    for (kind, schema) in schemas.as_object().unwrap() {
        let mut found = Vec::new();
        leaves(schema, "spec", &mut found);
        all.extend(found.into_iter().map(|path| (kind.clone(), path)));
    }
    let mut used = BTreeSet::new();
    for (kind, path) in all {
        let row = field(&kind, &path).unwrap_or_else(|| panic!("{kind} {path}"));
        used.insert((row.kind, row.path));
    }
    for row in FIELDS.iter() {
        let is_used = used.contains(&(row.kind, row.path));
        assert!(is_used, "{} {}: no such field", row.kind, row.path);
    }
}

/// `path` as far as its row goes.
fn of_row(path: &str, row: &str) -> String {
    let segments: Vec<_> = path.split('.').take(row.split('.').count()).collect();
    segments.join(".")
}

/// `listeners[]` of `listeners[0]`.
fn without_indices(path: &str) -> String {
    let segments = path
        .split('.')
        .map(|segment| match segment.split_once('[') {
            Some((name, _)) => format!("{name}[]"),
            None => segment.to_owned(),
        });
    segments.collect::<Vec<_>>().join(".")
}

/// Removes the field; one that is needed and has no effect gets another value.
fn mutate(document: &mut Value, path: &str, fate: Fate) {
    let path = path.replace('[', ".").replace(']', "");
    let (parent, name) = path.rsplit_once('.').unwrap();
    let parent = document
        .pointer_mut(&format!("/{}", parent.replace('.', "/")))
        .unwrap();
    match parent {
        Value::Object(fields) if name == "name" && fate == Fate::NoEffect => {
            fields.insert(name.to_owned(), "renamed".into());
        }
        Value::Object(fields) => assert!(fields.remove(name).is_some(), "{path}"),
        Value::Array(items) => {
            items.remove(name.parse().unwrap());
        }
        _ => panic!("{path}"),
    }
}

/// What was tried of one fixture.
#[derive(Default)]
struct Tried {
    /// Rows of the table.
    rows: BTreeSet<(&'static str, &'static str)>,
    /// By kind and path, whether it mattered in any resource: a node that nobody calls is not
    /// printed. Of rows without a part in the output, `true`.
    in_output: BTreeMap<(&'static str, String), bool>,
}

// === impl Tried ===

impl Tried {
    /// Drops each field of the fixture in turn.
    fn add(&mut self, text: &str) {
        let documents = |text: &str| {
            let (report, meshes) = read(text);
            convert(&report, &meshes, &options(Channel::Experimental)).documents
        };
        let all = tests_manifests::documents(text).unwrap();
        let (report, _) = read(text);
        let before = documents(text);
        for resource in &report.resources {
            assert_eq!(resource.outcome, Outcome::Served, "{resource:?}");
            for set in &resource.fields {
                let row = field(&resource.kind, &set.path).unwrap();
                let is_in_output = matches!(
                    row.state,
                    Fate::Converted | Fate::Experimental | Fate::LeavesOut
                );
                let path = if is_in_output {
                    set.path.clone()
                } else {
                    of_row(&set.path, row.path)
                };
                // A range that is not whole is refused, which leaves the route out as well.
                let path = match path.split_once(".match.range.") {
                    Some((above, _)) => format!("{above}.match"),
                    None => path,
                };
                let mut changed = all.clone();
                let document = changed.iter_mut().find(|document| {
                    let metadata = &document["metadata"];
                    let namespace = metadata["namespace"].as_str().unwrap_or_default();
                    document["kind"] == *resource.kind
                        && metadata["name"] == *resource.name
                        && namespace == resource.namespace
                });
                mutate(document.unwrap(), &path, row.state);
                let texts: Vec<_> = changed.iter().map(ToString::to_string).collect();
                let differs = documents(&texts.join("\n---\n")) != before;
                let name = format!("{} {} {path}", resource.kind, resource.name);
                let may_differ = is_in_output || (row.kind, row.path) == CALLED;
                assert!(may_differ || !differs, "{name}: {:?}", row.state);
                let leaf = (row.kind, without_indices(&path));
                *self.in_output.entry(leaf).or_insert(!is_in_output) |= differs;
                self.rows.insert((row.kind, row.path));
            }
        }
    }
}

/// What is printed changes with each field that the table says is converted, and with no other.
#[test]
fn the_table_is_what_is_printed() {
    let mut tried = Tried::default();
    tried.add(EVERY_FIELD);
    tried.add(GATEWAYS);
    tried.in_output.retain(|_, differs| !*differs);
    assert_eq!(
        tried.in_output,
        BTreeMap::new(),
        "converted, and nothing changes"
    );
    // Refused by the control plane, or not converted as a whole.
    let untried = FIELDS
        .iter()
        .filter(|row| !tried.rows.contains(&(row.kind, row.path)));
    let untried: Vec<_> = untried
        .map(|row| format!("{} {}", row.kind, row.path))
        .collect();
    assert_eq!(untried, ["Mesh spec.meshOwner",]);
}
