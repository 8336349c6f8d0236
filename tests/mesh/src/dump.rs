//! An Envoy's config dump.

use anyhow::{Context as _, Result};
use serde_json::Value;
use tests_support::envoy::Envoy;
use tests_support::http;

/// Its `/config_dump`.
pub async fn config_dump(envoy: &Envoy) -> Result<Value> {
    http::get_ok(envoy.admin(), "/config_dump").await?.json()
}

/// The listeners of a dump that are in use, as resources.
pub fn listeners(dump: &Value) -> Result<Vec<Value>> {
    let configs = dump["configs"].as_array().context("configs")?.iter();
    let of_listeners = configs.filter(|config| {
        let kind = config["@type"].as_str().unwrap_or_default();
        kind.ends_with("ListenersConfigDump")
    });
    let all = of_listeners.filter_map(|config| config["dynamic_listeners"].as_array());
    let all = all
        .flatten()
        .map(|one| one["active_state"]["listener"].clone());
    Ok(all.collect())
}

/// The listeners, clusters and routes of a dump without our parts, times, and what differs between
/// two processes.
pub fn stripped(dump: &Value) -> Result<Value> {
    let configs = dump["configs"].as_array().context("configs")?.iter();
    let wanted = [
        "ListenersConfigDump",
        "ClustersConfigDump",
        "RoutesConfigDump",
    ];
    let wanted = configs.filter(|config| {
        let kind = config["@type"].as_str().unwrap_or_default();
        wanted.iter().any(|wanted| kind.ends_with(wanted))
    });
    let mut all: Value = wanted.cloned().collect();
    strip(&mut all);
    Ok(all)
}

fn strip(value: &mut Value) {
    match value {
        Value::Array(items) => {
            items.retain(|item| {
                let name = item["name"].as_str().or(item["cluster"]["name"].as_str());
                !name.is_some_and(|name| name.starts_with("meshmeter"))
            });
            items.iter_mut().for_each(strip);
            // Envoy lists routes in the order of a hash table.
            if items.iter().any(|item| item["route_config"].is_object()) {
                items.sort_by_key(ToString::to_string);
            }
        }
        Value::Object(fields) => {
            for field in ["last_updated", "version_info", "port_value"] {
                fields.remove(field);
            }
            fields.values_mut().for_each(strip);
            // A list of ours alone was not there before.
            fields.retain(|_, value| value.as_array().is_none_or(|items| !items.is_empty()));
        }
        _ => {}
    }
}
