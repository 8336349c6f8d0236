//! What becomes of each resource and field of folders of manifests.
//!
//! ```text
//! texts -> placeholders -> manifests -> mesh (as it is served) ─┬─> report
//!                            each field set -> fields (table) ──┘
//! ```
//!
//! Whether a resource is served is what the control plane itself says of it: the same code reads
//! the same documents. The table only names what a field that is taken does.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::fields::{FIELDS, Field, FieldState, field};
use crate::folder::Folder;
use crate::manifests::Manifest;
use crate::mesh::{AcmMap, Key, Meshes, RefusedObject, first_fault};
use crate::resources::{Head, Kind};

mod placeholders;

pub use placeholders::Placeholders;

/// Unknown fields of one resource that are named at most.
const UNKNOWN_MAX: usize = 64;

/// The outcome for all manifests.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    pub resources: Vec<Resource>,
    /// Files that are no manifests, with the error.
    pub unreadable: BTreeMap<String, String>,
    /// Number of other objects by kind.
    pub others: BTreeMap<String, usize>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Resource {
    pub file: String,
    pub kind: String,
    /// "" for a Mesh.
    pub namespace: String,
    pub name: String,
    pub outcome: Outcome,
    /// Why it is refused in whole or in part.
    pub refused: Vec<String>,
    /// Each field that is set.
    pub fields: Vec<FieldOutcome>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Served,
    ServedInPart,
    Refused,
}

#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct FieldOutcome {
    /// From `spec`, with indices.
    pub path: String,
    #[serde(serialize_with = "as_word")]
    pub effect: FieldState,
    /// "" for a field that is served.
    pub why: String,
}

/// Reads the folders together. Errors: one cannot be read, or has more or larger files than a
/// control plane takes.
pub fn folders(folders: &[PathBuf], placeholders: &Placeholders, acm: AcmMap) -> Result<Report> {
    Ok(examine(&texts(folders, placeholders)?, placeholders, acm).0)
}

/// Text or read error by file, of all folders. Errors: as of [`folders`].
pub fn texts(
    folders: &[PathBuf],
    placeholders: &Placeholders,
) -> Result<BTreeMap<String, Result<String, String>>> {
    let mut texts = BTreeMap::new();
    for manifests in folders {
        let folder = Folder {
            manifests: manifests.clone(),
            endpoints: None,
        };
        texts.extend(folder.manifests(placeholders.are_expected())?);
    }
    Ok(texts)
}

/// The report for texts by file, and the meshes that would be served. Pure.
pub fn examine(
    texts: &BTreeMap<String, Result<String, String>>,
    placeholders: &Placeholders,
    acm: AcmMap,
) -> (Report, Meshes) {
    let mut report = Report::default();
    let mut documents: Vec<(&str, Value)> = Vec::new();
    for (file, text) in texts {
        let text = text.as_ref().map(|text| placeholders.replace(text));
        match text
            .map_err(String::clone)
            .and_then(|text| Manifest::read(&text))
        {
            Ok(manifest) => {
                documents.extend(manifest.objects.into_iter().map(|object| (&**file, object)));
                for (kind, count) in manifest.others {
                    *report.others.entry(kind).or_default() += count;
                }
            }
            Err(why) => {
                report.unreadable.insert(file.clone(), why);
            }
        }
    }
    let objects = documents.iter().map(|(_, document)| document);
    let (meshes, refused) = Meshes::of(objects, &Meshes::with_acm(acm));
    let ours = documents
        .iter()
        .filter(|(_, document)| Head::of(document).api_version != "v1");
    report.resources = ours
        .map(|(file, document)| Resource::of(file, document, &meshes, &refused))
        .collect();
    (report, meshes)
}

// === impl Report ===

impl Report {
    /// Whether anything is refused.
    pub fn refuses(&self) -> bool {
        let mut resources = self.resources.iter();
        resources.any(|resource| resource.outcome != Outcome::Served)
    }
}

// === impl Resource ===

impl Resource {
    fn of(file: &str, document: &Value, meshes: &Meshes, refused: &[RefusedObject]) -> Self {
        let head = Head::of(document);
        let text = |field: &str| document["metadata"][field].as_str().unwrap_or_default();
        let kind = Kind::parse(&head.kind);
        let namespace = if kind == Some(Kind::Mesh) {
            ""
        } else {
            text("namespace")
        };
        let key = Key::new(namespace, text("name"));
        let mut fields = Vec::new();
        each_field(
            &document["spec"],
            &mut "spec".to_owned(),
            &mut |path, value| {
                fields.push(FieldOutcome::of(&head.kind, path, value));
            },
        );
        let what = format!("{} {}/{}", head.kind, key.namespace, key.name);
        let mut whys: Vec<_> = refused
            .iter()
            .filter(|refused| refused.what == what)
            .map(|refused| refused.why.clone())
            .collect();
        for why in unknown_fields(document, &mut fields) {
            if !whys.contains(&why) {
                whys.push(why);
            }
        }
        let left = fields
            .iter()
            .filter(|field| field.why.starts_with(PLACEHOLDER));
        whys.extend(left.map(|field| format!("{}: {}", field.path, field.why)));
        let served = kind.is_some_and(|kind| meshes.serves(kind, &key));
        let outcome = match (whys.is_empty(), served) {
            (true, _) => Outcome::Served,
            (false, true) => Outcome::ServedInPart,
            (false, false) => Outcome::Refused,
        };
        Self {
            file: file.to_owned(),
            kind: head.kind,
            namespace: key.namespace,
            name: key.name,
            outcome,
            refused: whys,
            fields,
        }
    }
}

/// Begin of the reason why a placeholder is refused.
const PLACEHOLDER: &str = "the placeholder ";

// === impl FieldOutcome ===

impl FieldOutcome {
    fn of(kind: &str, path: &str, value: &Value) -> Self {
        let placeholder = value.as_str().and_then(placeholders::braced);
        let (effect, why) = match (placeholder, effect(kind, path)) {
            (Some(name), _) => {
                let why = format!("{PLACEHOLDER}${{{name}}} has no value");
                (FieldState::Refused, why)
            }
            (None, Some(field)) => (field.state, field.reason.to_owned()),
            (None, None) => {
                let why = format!("{kind} has no such field");
                (FieldState::Refused, why)
            }
        };
        Self {
            path: path.to_owned(),
            effect,
            why,
        }
    }
}

/// The row of a field; for one with fields of its own, such as an empty list, that of one of those,
/// a served one if any is.
fn effect(kind: &str, path: &str) -> Option<&'static Field> {
    let within = |row: &&Field| {
        row.kind == kind && {
            let mut names = row.path.split('.').map(without_index);
            let mut own = path.split('.').map(without_index);
            own.all(|name| names.next() == Some(name))
        }
    };
    let rows = || FIELDS.iter().filter(within);
    let served = || rows().find(|row| row.state == FieldState::Served);
    let below = || served().or_else(|| rows().next());
    // Keys of a map are no fields.
    let map = || {
        FIELDS
            .iter()
            .find(|row| row.kind == kind && is_map(row.path, path))
    };
    field(kind, path).or_else(below).or_else(map)
}

fn is_map(map: &str, path: &str) -> bool {
    let rest = path.strip_prefix(map);
    map.ends_with(".matchLabels") && rest.is_some_and(|rest| rest.starts_with('.'))
}

/// `listeners` for `listeners[]` and `listeners[0]`.
fn without_index(segment: &str) -> &str {
    segment.split_once('[').map_or(segment, |(name, _)| name)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn as_word<S: Serializer>(state: &FieldState, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(state.as_str())
}

/// Reasons for all fields that the control plane does not know, and for the first value that it
/// refuses: it stops at the first, and a user wants to know them at once.
fn unknown_fields(document: &Value, fields: &mut [FieldOutcome]) -> Vec<String> {
    let mut document = document.clone();
    let mut whys = Vec::new();
    while let Some(fault) = first_fault(&document)
        && whys.len() < UNKNOWN_MAX
    {
        for field in fields
            .iter_mut()
            .filter(|field| is_below(&field.path, &fault.path))
        {
            field.effect = FieldState::Refused;
            // The path stands beside it.
            let named = format!("{} is not served: ", fault.path);
            let why = fault.why.strip_prefix(&named).unwrap_or(&fault.why);
            why.clone_into(&mut field.why);
        }
        whys.push(fault.why);
        if !fault.is_unknown_field || !remove(&mut document, &fault.path) {
            break;
        }
    }
    whys
}

fn is_below(path: &str, ancestor: &str) -> bool {
    let rest = path.strip_prefix(ancestor);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Removes the field at `path`, as in `spec.listeners[0].tls`.
fn remove(document: &mut Value, path: &str) -> bool {
    let mut pointer = String::new();
    for segment in path.split(['.', '[']) {
        pointer.push('/');
        pointer.push_str(segment.trim_end_matches(']'));
    }
    let Some((parent, name)) = pointer.rsplit_once('/') else {
        return false;
    };
    let parent = document.pointer_mut(parent).and_then(Value::as_object_mut);
    parent.is_some_and(|parent| parent.remove(name).is_some())
}

/// Calls `with` for each leaf; an empty map or list is one, null is none.
fn each_field(value: &Value, path: &mut String, with: &mut impl FnMut(&str, &Value)) {
    let length = path.len();
    match value {
        Value::Null => {}
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                if length > 0 {
                    path.push('.');
                }
                path.push_str(name);
                each_field(value, path, with);
                path.truncate(length);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                // Writing to a string cannot fail.
                let _ = write!(path, "[{index}]");
                each_field(item, path, with);
                path.truncate(length);
            }
        }
        _ if length > 0 => with(path, value),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
