//! Strict reading of Kubernetes manifests, as an API server with field validation would read them.
//!
//! ```text
//! text -> documents (YAML) -> built-in kinds (k8s-openapi's types; an unknown field is an error)
//!                          -> custom kinds (`schemas/`; an unknown field is an error)
//! ```
//!
//! A kind that neither part knows is an error too: nothing passes unread.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

mod built_in;
mod custom;

pub use custom::check_schema;

/// An object that was read without a complaint.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// `apiVersion`.
    pub api_version: String,
    /// `kind`.
    pub kind: String,
    /// `metadata.namespace`, if there is one.
    pub namespace: Option<String>,
    /// `metadata.name`.
    pub name: String,
    /// All of it, as it was written.
    pub value: Value,
}

/// Reads all documents of `text`; the error names the first that is not in order, and where it is
/// not.
pub fn check(text: &str) -> Result<Vec<Object>> {
    let documents = documents(text)?;
    let objects = documents.into_iter().enumerate().map(|(nth, value)| {
        let kind = value["kind"].as_str().unwrap_or("no kind").to_owned();
        let name = value["metadata"]["name"].as_str().unwrap_or("no name");
        let what = format!("document {}, {kind} {name}", nth + 1);
        check_object(value).context(what)
    });
    objects.collect()
}

/// The documents of `text`, without a look at what they are. Empty ones are left out; a doubled key
/// is an error.
pub fn documents(text: &str) -> Result<Vec<Value>> {
    serde_saphyr::from_multiple(text).context("not YAML")
}

pub fn check_object(value: Value) -> Result<Object> {
    let text = |value: &Value, field: &str| {
        let text = value[field].as_str().filter(|text| !text.is_empty());
        text.map(str::to_owned)
    };
    let api_version = text(&value, "apiVersion").context("there is no apiVersion")?;
    let kind = text(&value, "kind").context("there is no kind")?;
    let name = text(&value["metadata"], "name").context("there is no metadata.name")?;
    let known = built_in::check(&api_version, &kind, &value)?
        || custom::check(&api_version, &kind, &value)?;
    if !known {
        bail!("{api_version} {kind} is known neither as a built-in kind nor by a schema");
    }
    let namespace = text(&value["metadata"], "namespace");
    Ok(Object {
        api_version,
        kind,
        namespace,
        name,
        value,
    })
}
