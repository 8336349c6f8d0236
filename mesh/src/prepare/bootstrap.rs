//! The whole configuration of a stock Envoy: what App Mesh's agent would have made of the resources
//! file.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

const BOOTSTRAP: &str = include_str!("../bootstrap.yaml");

/// The cluster of an SDS server, named as by App Mesh's agent: the control plane's secrets are of
/// this one.
const SDS_CLUSTER: &str = "static_cluster_sds_unix_socket";

/// The bootstrap of an Envoy with this node ID and `resources`, as YAML; with the socket of an SDS
/// server, if there is one.
pub(crate) fn yaml(node_id: &str, resources: &str, sds_socket: Option<&Path>) -> Result<String> {
    let mut bootstrap: Value = serde_saphyr::from_str(BOOTSTRAP)?;
    let resources: Value = serde_saphyr::from_str(resources)?;
    bootstrap["node"] = json!({"id": node_id, "cluster": node_id});
    bootstrap["dynamic_resources"] = resources["dynamic_resources"].clone();
    let clusters = bootstrap["static_resources"]["clusters"].as_array_mut();
    let further = resources["static_resources"]["clusters"].as_array();
    let clusters = clusters.context("the bootstrap has no clusters")?;
    clusters.extend(further.into_iter().flatten().cloned());
    clusters.extend(sds_socket.map(sds_cluster));
    Ok(serde_saphyr::to_string(&bootstrap)?)
}

fn sds_cluster(socket: &Path) -> Value {
    let endpoint = json!({"address": {"pipe": {"path": socket}}});
    json!({
        "name": SDS_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            },
        },
        "load_assignment": {
            "cluster_name": SDS_CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
        },
    })
}
