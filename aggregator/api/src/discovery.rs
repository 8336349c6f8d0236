//! Discovery documents: groups, versions and metrics. They are built once and never depend on
//! reports: kube-apiserver reads them five times every 30 s and marks the whole API unavailable if
//! it cannot.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::metric_name::MetricNames;
use crate::openapi;
use crate::path::{ApiVersion, EXTERNAL_GROUP, EXTERNAL_VERSION, GROUP, VIEW_GROUP, VIEW_VERSION};
use crate::workload::Workload;

mod view;

/// Media type of aggregated discovery.
pub(crate) const AGGREGATED: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// One document, ready to send.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// JSON.
    pub(crate) body: Bytes,
    /// Changes with the body; quoted.
    pub(crate) etag: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Documents {
    /// `/`
    pub(crate) root: Document,
    /// `/api`
    pub(crate) legacy_groups: Document,
    /// `/api`, aggregated: empty, but without it clients do not use the aggregated `/apis` either.
    pub(crate) legacy_groups_aggregated: Document,
    /// `/apis`
    pub(crate) groups: Document,
    /// `/apis`, aggregated.
    pub(crate) groups_aggregated: Document,
    /// `/apis/G`
    pub(crate) group: Document,
    /// `/apis/X`, of external metrics
    pub(crate) external_group: Document,
    /// `/apis/X/v1beta1`
    pub(crate) external_resources: Document,
    /// `/apis/view.meshmeter.io`
    pub(crate) view_group: Document,
    /// `/apis/view.meshmeter.io/v1`
    pub(crate) view_resources: Document,
    /// `/version`
    pub(crate) version: Document,
    /// `/openapi/v3`
    pub(crate) openapi: Document,
    openapi_by_index: [Document; 4],
    resources: [(ApiVersion, Document); 2],
}

// === impl Document ===

impl Document {
    fn new(value: &Value) -> Self {
        let body = Bytes::from(value.to_string());
        let etag = format!("\"{:016X}\"", fnv1a(&body));
        Self { body, etag }
    }
}

/// FNV-1a: the same on every replica and in every build, unlike the standard library's hash.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

// === impl Documents ===

impl Documents {
    /// Builds all documents for metrics with these names.
    pub(crate) fn new(names: &MetricNames) -> Self {
        let groups = json!({
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [group(None), external_group(None), view_group(None)],
        });
        let openapi_by_index = openapi::documents().map(|document| Document::new(&document));
        let etags = openapi_by_index
            .each_ref()
            .map(|document| document.etag.as_str());
        let aggregated_groups = json!([
            aggregated_group(names),
            aggregated_external_group(names),
            view::aggregated_group()
        ]);
        Self {
            root: Document::new(&root()),
            legacy_groups: Document::new(&json!({
                "kind": "APIVersions",
                "versions": [],
                "serverAddressByClientCIDRs": [],
            })),
            legacy_groups_aggregated: Document::new(&aggregated(&json!([]))),
            groups: Document::new(&groups),
            groups_aggregated: Document::new(&aggregated(&aggregated_groups)),
            group: Document::new(&group(Some("v1"))),
            external_group: Document::new(&external_group(Some("v1"))),
            external_resources: Document::new(&external_resources(names)),
            view_group: Document::new(&view_group(Some("v1"))),
            view_resources: Document::new(&view::resources()),
            version: Document::new(&version()),
            openapi: Document::new(&openapi::root(etags)),
            openapi_by_index,
            resources: ApiVersion::ALL
                .map(|version| (version, Document::new(&resources(version, names)))),
        }
    }

    /// `/openapi/v3/apis/G/V`, by its index
    pub(crate) fn openapi_of(&self, index: usize) -> Option<&Document> {
        self.openapi_by_index.get(index)
    }

    /// `/apis/G/V`
    pub(crate) fn resources(&self, version: ApiVersion) -> &Document {
        let [(first, preferred), (_, other)] = &self.resources;
        if *first == version { preferred } else { other }
    }
}

fn root() -> Value {
    let mut paths = vec![
        "/api".to_owned(),
        "/apis".to_owned(),
        format!("/apis/{GROUP}"),
    ];
    paths.extend(ApiVersion::ALL.map(|version| format!("/apis/{}", version.group_version())));
    paths.push(format!("/apis/{EXTERNAL_GROUP}"));
    paths.push(format!("/apis/{EXTERNAL_GROUP}/{EXTERNAL_VERSION}"));
    paths.push(format!("/apis/{VIEW_GROUP}"));
    paths.push(format!("/apis/{VIEW_GROUP}/{VIEW_VERSION}"));
    paths.extend(["/healthz", "/livez", "/openapi/v3", "/readyz", "/version"].map(str::to_owned));
    json!({"paths": paths})
}

fn group(api_version: Option<&str>) -> Value {
    group_of(GROUP, &ApiVersion::ALL.map(ApiVersion::as_str), api_version)
}

fn external_group(api_version: Option<&str>) -> Value {
    group_of(EXTERNAL_GROUP, &[EXTERNAL_VERSION], api_version)
}

fn view_group(api_version: Option<&str>) -> Value {
    group_of(VIEW_GROUP, &[VIEW_VERSION], api_version)
}

/// A group of `versions`, the preferred one first. Within a list it has neither `kind` nor
/// `apiVersion`.
fn group_of(name: &str, versions: &[&str], api_version: Option<&str>) -> Value {
    let version =
        |version: &&str| json!({"groupVersion": format!("{name}/{version}"), "version": version});
    let mut group = json!({
        "kind": "APIGroup",
        "name": name,
        "versions": versions.iter().map(version).collect::<Vec<_>>(),
        "preferredVersion": versions.first().map(version),
    });
    match api_version {
        Some(api_version) => group["apiVersion"] = json!(api_version),
        None => drop(group.as_object_mut().and_then(|group| group.remove("kind"))),
    }
    group
}

/// Resources with metrics, and whether they are namespaced.
fn parents() -> Vec<(&'static str, bool)> {
    let workloads = Workload::ALL.map(|kind| (kind.resource(), true));
    let others = [("namespaces", false), ("pods", true), ("services", true)];
    others.into_iter().chain(workloads).collect()
}

fn resources(version: ApiVersion, names: &MetricNames) -> Value {
    // Only `get`: with `list` or `watch`, garbage collection and namespace deletion would use them.
    let parents = parents();
    let entries = parents.iter().flat_map(|(parent, namespaced)| {
        names.all().map(move |metric| {
            json!({
                "name": format!("{parent}/{metric}"),
                "singularName": "",
                "namespaced": namespaced,
                "kind": "MetricValueList",
                "verbs": ["get"],
            })
        })
    });
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": version.group_version(),
        "resources": entries.collect::<Vec<_>>(),
    })
}

fn external_resources(names: &MetricNames) -> Value {
    let entries = names.all().map(|metric| {
        json!({
            "name": metric,
            "singularName": "",
            "namespaced": true,
            "kind": "ExternalMetricValueList",
            "verbs": ["get"],
        })
    });
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": format!("{EXTERNAL_GROUP}/{EXTERNAL_VERSION}"),
        "resources": entries.collect::<Vec<_>>(),
    })
}

fn aggregated(items: &Value) -> Value {
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    })
}

/// A metric is a subresource of its object; the object itself has no `responseKind`, so clients do
/// not list it as served.
fn aggregated_group(names: &MetricNames) -> Value {
    let metrics: Vec<_> = names
        .all()
        .map(|metric| {
            json!({
                "subresource": metric,
                "responseKind": {"group": "", "version": "", "kind": "MetricValueList"},
                "verbs": ["get"],
            })
        })
        .collect();
    let parent = |(parent, namespaced): (&str, bool)| {
        json!({
            "resource": parent,
            "scope": if namespaced { "Namespaced" } else { "Cluster" },
            "singularResource": "",
            "verbs": [],
            "subresources": metrics,
        })
    };
    let resources: Vec<_> = parents().into_iter().map(parent).collect();
    let versions = ApiVersion::ALL.map(|version| {
        json!({"version": version.as_str(), "freshness": "Current", "resources": resources})
    });
    json!({"metadata": {"name": GROUP}, "versions": versions})
}

/// An external metric is a resource of its own.
fn aggregated_external_group(names: &MetricNames) -> Value {
    let resources = names.all().map(|metric| {
        json!({
            "resource": metric,
            "responseKind": {"group": "", "version": "", "kind": "ExternalMetricValueList"},
            "scope": "Namespaced",
            "singularResource": "",
            "verbs": ["get"],
        })
    });
    let version = json!({
        "version": EXTERNAL_VERSION,
        "freshness": "Current",
        "resources": resources.collect::<Vec<_>>(),
    });
    json!({"metadata": {"name": EXTERNAL_GROUP}, "versions": [version]})
}

fn version() -> Value {
    // Python's client rejects a version without any of these fields.
    json!({
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "",
        "goVersion": "",
        "compiler": "rustc",
        "major": env!("CARGO_PKG_VERSION_MAJOR"),
        "minor": env!("CARGO_PKG_VERSION_MINOR"),
        "gitVersion": concat!("v", env!("CARGO_PKG_VERSION")),
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}

#[cfg(test)]
mod tests;
