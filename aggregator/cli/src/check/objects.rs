//! The few fields of Kubernetes' objects that are looked at.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Version {
    pub(super) git_version: String,
}

/// `/apis`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Groups {
    pub(super) groups: Vec<ApiGroup>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ApiGroup {
    pub(super) versions: Vec<GroupVersion>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct GroupVersion {
    pub(super) group_version: String,
}

/// `/apis/GROUP/VERSION`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Resources {
    pub(super) group_version: String,
    pub(super) resources: Vec<Resource>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Resource {
    pub(super) name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Meta {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) annotations: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ApiService {
    pub(super) metadata: Meta,
    pub(super) spec: ApiServiceSpec,
    pub(super) status: Conditions,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ApiServiceSpec {
    pub(super) service: Option<ServiceReference>,
    pub(super) ca_bundle: String,
    #[serde(rename = "insecureSkipTLSVerify")]
    pub(super) insecure_skip_tls_verify: bool,
}

#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default)]
pub(super) struct ServiceReference {
    pub(super) name: String,
    pub(super) namespace: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Conditions {
    pub(super) conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Condition {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) status: String,
    pub(super) reason: String,
    pub(super) message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WebhookConfiguration {
    pub(super) webhooks: Vec<Webhook>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Webhook {
    pub(super) client_config: ClientConfig,
    pub(super) failure_policy: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ClientConfig {
    pub(super) ca_bundle: String,
    pub(super) service: Option<ServiceReference>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Hpa {
    pub(super) metadata: Meta,
    pub(super) spec: HpaSpec,
    pub(super) status: Conditions,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct HpaSpec {
    pub(super) max_replicas: u32,
    pub(super) metrics: Vec<MetricSpec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct MetricSpec {
    pub(super) pods: Option<MetricSource>,
    pub(super) object: Option<MetricSource>,
    pub(super) external: Option<MetricSource>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct MetricSource {
    pub(super) metric: MetricName,
    pub(super) target: MetricTarget,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct MetricName {
    pub(super) name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct MetricTarget {
    pub(super) average_value: String,
}

/// A `SelfSubjectAccessReview` or `SubjectAccessReview`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Review<'a> {
    pub(super) kind: &'static str,
    pub(super) api_version: &'static str,
    pub(super) spec: ReviewSpec<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReviewSpec<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) groups: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) resource_attributes: Option<Attributes<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) non_resource_attributes: Option<PathAttributes<'a>>,
}

/// What one may do with a path that is no resource.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub(super) struct PathAttributes<'a> {
    pub(super) path: &'a str,
    pub(super) verb: &'a str,
}

/// What one may do.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub(super) struct Attributes<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) namespace: &'a str,
    pub(super) verb: &'a str,
    pub(super) group: &'a str,
    pub(super) resource: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) name: &'a str,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Reviewed {
    pub(super) status: ReviewStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ReviewStatus {
    pub(super) allowed: bool,
}
