//! Discovery of the API group `view.meshmeter.io`.

use serde_json::{Value, json};

use crate::path::{VIEW_GROUP, VIEW_VERSION};

/// Resources with their kinds, and whether they are namespaced. The verb is `get` alone: with
/// `list`, garbage collection and namespace deletion would list them.
const RESOURCES: [(&str, &str, bool); 9] = [
    ("pods", "PodList", true),
    ("workloads", "WorkloadList", true),
    ("namespaces", "NamespaceList", false),
    ("services", "ServiceList", true),
    ("reads", "ReadList", true),
    ("explanations", "Explanation", true),
    ("timelines", "Timeline", true),
    ("health", "Health", false),
    ("page", "Page", true),
];

/// `/apis/view.meshmeter.io/v1`
pub(super) fn resources() -> Value {
    let entries = RESOURCES.map(|(name, kind, namespaced)| {
        json!({
            "name": name,
            "singularName": "",
            "namespaced": namespaced,
            "kind": kind,
            "verbs": ["get"],
        })
    });
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": format!("{VIEW_GROUP}/{VIEW_VERSION}"),
        "resources": entries,
    })
}

/// The group in the aggregated list.
pub(super) fn aggregated_group() -> Value {
    let resources = RESOURCES.map(|(resource, kind, namespaced)| {
        json!({
            "resource": resource,
            "responseKind": {"group": VIEW_GROUP, "version": VIEW_VERSION, "kind": kind},
            "scope": if namespaced { "Namespaced" } else { "Cluster" },
            "singularResource": "",
            "verbs": ["get"],
        })
    });
    json!({"metadata": {"name": VIEW_GROUP}, "versions": [{
        "version": VIEW_VERSION, "freshness": "Current", "resources": resources,
    }]})
}
