use super::*;
use crate::metric_name::{METRICS, MetricPrefix};

fn documents() -> Documents {
    Documents::new(&MetricNames::new(&MetricPrefix::default()))
}

fn parsed(document: &Document) -> Value {
    serde_json::from_slice(&document.body).unwrap()
}

/// The group as kubectl and client-go read it: both versions, v1beta2 preferred.
#[test]
fn lists_both_versions() {
    let documents = documents();
    let group = parsed(&documents.group);
    assert_eq!(group["kind"], "APIGroup");
    assert_eq!(group["apiVersion"], "v1");
    assert_eq!(group["name"], "custom.metrics.k8s.io");
    assert_eq!(
        group["preferredVersion"]["groupVersion"],
        "custom.metrics.k8s.io/v1beta2"
    );
    let list = parsed(&documents.groups);
    assert_eq!(list["kind"], "APIGroupList");
    assert_eq!(list["groups"][0]["versions"], group["versions"]);
    assert_eq!(
        group["versions"][1],
        json!({"groupVersion": "custom.metrics.k8s.io/v1beta1", "version": "v1beta1"})
    );
}

/// An empty list would make old clients complain, and any verb but `get` would be tried by
/// controllers.
#[test]
fn lists_metrics_with_get_only() {
    let documents = documents();
    for version in ApiVersion::ALL {
        let list = parsed(documents.resources(version));
        assert_eq!(list["groupVersion"], json!(version.group_version()));
        let resources = list["resources"].as_array().unwrap();
        assert_eq!(resources.len(), parents().len() * METRICS.len());
        for resource in resources {
            assert_eq!(resource["verbs"], json!(["get"]));
            assert_eq!(resource["kind"], "MetricValueList");
        }
        assert!(resources.iter().any(|resource| {
            resource["name"] == "pods/appmesh_requests_per_second" && resource["namespaced"] == true
        }));
    }
}

/// External metrics have one version and are resources themselves.
#[test]
fn lists_external_metrics() {
    let documents = documents();
    let group = parsed(&documents.external_group);
    assert_eq!(
        group["preferredVersion"]["groupVersion"],
        "external.metrics.k8s.io/v1beta1"
    );
    let list = parsed(&documents.external_resources);
    assert_eq!(list["resources"].as_array().unwrap().len(), METRICS.len());
    let metric = &list["resources"][0];
    assert_eq!(metric["kind"], "ExternalMetricValueList");
    assert_eq!(metric["name"], "appmesh_error_ratio");
    assert_eq!(metric["verbs"], json!(["get"]));
}

/// The rules of aggregated discovery: metrics under a parent without `responseKind`, one scope per
/// parent.
#[test]
fn nests_metrics_in_aggregated_discovery() {
    let list = parsed(&documents().groups_aggregated);
    assert_eq!(list["apiVersion"], "apidiscovery.k8s.io/v2");
    let versions = list["items"][0]["versions"].as_array().unwrap();
    assert_eq!(versions[0]["version"], "v1beta2");
    for version in versions {
        for resource in version["resources"].as_array().unwrap() {
            assert!(resource.get("responseKind").is_none());
            let metric = &resource["subresources"][0];
            assert_eq!(metric["responseKind"]["kind"], "MetricValueList");
        }
    }
    let external = &list["items"][1];
    assert_eq!(external["metadata"]["name"], "external.metrics.k8s.io");
    let metric = &external["versions"][0]["resources"][0];
    assert_eq!(metric["responseKind"]["kind"], "ExternalMetricValueList");
    assert_eq!(metric["verbs"], json!(["get"]));
}

/// Documents that differ have tags that differ; the same document has the same tag in each process.
#[test]
fn tags_documents_by_content() {
    let (one, two) = (documents(), documents());
    assert_eq!(one.groups_aggregated.etag, two.groups_aggregated.etag);
    assert_ne!(one.groups_aggregated.etag, one.groups.etag);
    assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
}

/// kube-apiserver reads these every few seconds: their size has a bound that no traffic moves.
#[test]
fn stays_small() {
    let documents = documents();
    for document in [
        &documents.groups,
        &documents.groups_aggregated,
        &documents.group,
        &documents.external_group,
        &documents.external_resources,
        documents.resources(ApiVersion::V1Beta2),
    ] {
        assert!(document.body.len() < 16 * 1024, "{}", document.body.len());
    }
}

/// Whatever may be answered is documented: each status that a refusal can have.
#[test]
fn documents_every_status() {
    use crate::status::{Kind, Reason, Refusal};
    let kinds = [
        Kind::BadRequest,
        Kind::Unauthorized,
        Kind::Forbidden,
        Kind::NotFound,
        Kind::MethodNotAllowed,
        Kind::NotAcceptable,
        Kind::UriTooLong,
        Kind::HeadersTooLarge,
        Kind::Internal,
        Kind::Unavailable,
    ];
    for document in openapi::documents() {
        assert!(document["components"]["schemas"]["Status"].is_object());
        for path in document["paths"].as_object().unwrap().values() {
            let responses = path["get"]["responses"].as_object().unwrap();
            for kind in kinds {
                let code = Refusal::new(kind, Reason::Path, "").code();
                assert!(responses.contains_key(code.as_str()), "{code}");
            }
            assert_eq!(responses.len(), kinds.len() + 1);
        }
    }
}
