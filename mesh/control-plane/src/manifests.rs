//! Parses manifests as `kubectl apply` does: lists are flattened, and objects without a namespace
//! get `default`. Memory is bounded whatever the text, aliases included.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::resources::{Head, Kind, OBJECTS_MAX};

/// Values of a text at most, aliases included: about 25 for each of [`OBJECTS_MAX`] objects. A
/// small map takes 640 bytes, so 50 MiB at worst.
const NODES_MAX: usize = 25 * OBJECTS_MAX;

/// Values that aliases may repeat: manifests written by hand repeat a few.
const REPEATED_MAX: usize = 10_000;

const LISTS_MAX: usize = 4;

/// Characters of a parser error that are kept: the rest repeats the text.
const ERROR_CHARS_MAX: usize = 300;

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Manifest {
    /// App Mesh resources and namespaces.
    pub(crate) objects: Vec<Value>,
    /// Number of other objects by kind; "" without a kind.
    pub(crate) others: BTreeMap<String, usize>,
}

// === impl Manifest ===

impl Manifest {
    /// Parses any number of YAML or JSON documents. An error has one line, with the position.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let documents = serde_saphyr::from_multiple_with_options::<Value>(text, options());
        let documents = documents.map_err(|error| first_line(&error.to_string()))?;
        let mut manifest = Self::default();
        for document in documents {
            manifest.add(document, LISTS_MAX)?;
        }
        Ok(manifest)
    }

    fn add(&mut self, mut document: Value, lists: usize) -> Result<(), String> {
        // An empty document, as after a trailing `---`.
        if document.is_null() {
            return Ok(());
        }
        let head = Head::of(&document);
        if let Some(kind) = head.kind.strip_suffix("List") {
            let items = document["items"].take();
            let lists = lists.checked_sub(1).ok_or("a List within Lists")?;
            return self.add_items(items, kind, &head.api_version, lists);
        }
        let is_namespace = head.api_version == "v1" && head.kind == "Namespace";
        let is_ours = head.api_version.starts_with("appmesh.k8s.aws/");
        if !is_namespace && !is_ours {
            *self.others.entry(head.kind).or_default() += 1;
            return Ok(());
        }
        let metadata = &mut document["metadata"];
        if is_ours && head.kind != Kind::Mesh.as_str() && metadata.is_object() {
            let namespace = &mut metadata["namespace"];
            if namespace.as_str().is_none_or(str::is_empty) {
                *namespace = "default".into();
            }
        }
        self.objects.push(document);
        Ok(())
    }

    /// Items of a typed list, such as a `VirtualNodeList`, may omit kind and apiVersion.
    fn add_items(
        &mut self,
        items: Value,
        kind: &str,
        api_version: &str,
        lists: usize,
    ) -> Result<(), String> {
        let items = match items {
            Value::Array(items) => items,
            Value::Null => Vec::new(),
            _ => return Err(format!("items of the {kind}List: expected an array")),
        };
        for mut item in items {
            if !kind.is_empty() && item.is_object() && item["kind"].is_null() {
                item["kind"] = kind.into();
                item["apiVersion"] = api_version.into();
            }
            self.add(item, lists)?;
        }
        Ok(())
    }
}

/// Shortens a parser error to one log line.
fn first_line(error: &str) -> String {
    let line = error.lines().next().unwrap_or_default();
    line.chars().take(ERROR_CHARS_MAX).collect()
}

fn options() -> serde_saphyr::Options {
    let mut options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 2 * OBJECTS_MAX,
            max_nodes: NODES_MAX,
            max_events: 4 * NODES_MAX,
        },
    };
    options.alias_limits.max_total_replayed_events = REPEATED_MAX;
    options
}

#[cfg(test)]
mod tests;
