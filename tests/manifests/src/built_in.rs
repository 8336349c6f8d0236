//! Kinds of Kubernetes itself, read into k8s-openapi's types.

use anyhow::{Result, bail};
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
    ValidatingWebhookConfiguration,
};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Tries `value` as each of the types; `Ok(false)` if it is none of them.
macro_rules! any_of {
    ($api_version:ident, $kind:ident, $value:ident; $($type:ty),+ $(,)?) => {
        $(if ($api_version, $kind) == (
            <$type as k8s_openapi::Resource>::API_VERSION,
            <$type as k8s_openapi::Resource>::KIND,
        ) {
            return strict::<$type>($value).map(|_| true);
        })+
    };
}

/// Reads `value` as the kind it says it is; `Ok(false)` if that is not a built-in one.
pub(crate) fn check(api_version: &str, kind: &str, value: &Value) -> Result<bool> {
    any_of!(api_version, kind, value;
        APIService, ClusterRole, ClusterRoleBinding, ConfigMap, CronJob, CustomResourceDefinition, DaemonSet,
        Deployment, EndpointSlice, FlowSchema, HorizontalPodAutoscaler, Job, Lease, MutatingWebhookConfiguration, Namespace,
        NetworkPolicy, PersistentVolumeClaim, Pod, PodDisruptionBudget, PriorityClass, PriorityLevelConfiguration, Role, RoleBinding, Secret,
        Service, ServiceAccount, StatefulSet, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
        ValidatingWebhookConfiguration,
    );
    Ok(false)
}

/// The metadata of a custom resource is that of all others.
pub(crate) fn metadata(value: &Value) -> Result<()> {
    strict::<ObjectMeta>(value).map(drop)
}

/// Reads `value`; fields that the type does not have are an error that names them all.
fn strict<T: DeserializeOwned>(value: &Value) -> Result<T> {
    let mut unknown = Vec::new();
    // An optional field is a step of its own there.
    let note = |path: serde_ignored::Path<'_>| unknown.push(path.to_string().replace(".?", ""));
    let object = serde_ignored::deserialize(value, note)?;
    if !unknown.is_empty() {
        bail!("unknown fields: {}", unknown.join(", "));
    }
    Ok(object)
}
