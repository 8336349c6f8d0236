//! The target of a request, parsed from path and query.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::kubernetes::custom;
use crate::kubernetes::objects::{RESOURCES, Resource};

pub(super) struct Target {
    pub(super) resource: Resource,
    pub(super) namespace: String,
    pub(super) name: Option<String>,
}

pub(super) fn target(path: &str) -> Option<Target> {
    let mesh = custom::RESOURCES
        .into_iter()
        .chain([custom::ENDPOINT_SLICE]);
    RESOURCES.into_iter().chain(mesh).find_map(|resource| {
        let rest = path.strip_prefix(resource.group_path)?.strip_prefix('/')?;
        let (namespace, rest) = match rest.strip_prefix("namespaces/") {
            Some(rest) => rest.split_once('/')?,
            None => ("", rest),
        };
        let rest = rest.strip_prefix(resource.plural)?;
        let name = match rest {
            "" => None,
            // A status is written as part of its object.
            rest => Some(
                rest.strip_suffix("/status")
                    .unwrap_or(rest)
                    .strip_prefix('/')
                    .filter(|name| !name.contains('/'))?
                    .to_owned(),
            ),
        };
        Some(Target {
            resource,
            namespace: namespace.to_owned(),
            name,
        })
    })
}

pub(super) fn parameters(query: &str) -> BTreeMap<String, String> {
    form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect()
}

/// Field selectors of one name are all that is known.
pub(super) fn selected(object: &Value, query: &BTreeMap<String, String>) -> bool {
    let field = query
        .get("fieldSelector")
        .and_then(|field| field.strip_prefix("metadata.name="));
    field.is_none_or(|name| object["metadata"]["name"] == name)
}
