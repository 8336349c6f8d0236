//! The whole configuration of a stock Envoy: what App Mesh's agent would have made of the resources
//! file.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

const BOOTSTRAP: &str = include_str!("../bootstrap.yaml");

/// The bootstrap of an Envoy with this node ID and `resources`, as YAML.
pub(crate) fn yaml(node_id: &str, resources: &str) -> Result<String> {
    let mut bootstrap: Value = serde_saphyr::from_str(BOOTSTRAP)?;
    let resources: Value = serde_saphyr::from_str(resources)?;
    bootstrap["node"] = json!({"id": node_id, "cluster": node_id});
    bootstrap["dynamic_resources"] = resources["dynamic_resources"].clone();
    let clusters = bootstrap["static_resources"]["clusters"].as_array_mut();
    let further = resources["static_resources"]["clusters"].as_array();
    let clusters = clusters.context("the bootstrap has no clusters")?;
    clusters.extend(further.into_iter().flatten().cloned());
    Ok(serde_saphyr::to_string(&bootstrap)?)
}
