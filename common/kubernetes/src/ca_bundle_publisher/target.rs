//! Where the CA's certificate is published, by patches that change nothing else.

use std::collections::BTreeMap;
use std::fmt;

use http::Method;
use k8s_openapi::ByteString;
use kube::Client;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::connection::{ClusterError, get, send};
use crate::index::JSON;

/// The `APIServices` of both groups.
const API_SERVICES: [&str; 4] = [
    "v1beta1.custom.metrics.k8s.io",
    "v1beta2.custom.metrics.k8s.io",
    "v1beta1.external.metrics.k8s.io",
    VIEW_API_SERVICE,
];

/// Key of a `ConfigMap`, as in Kubernetes' own `kube-root-ca.crt`.
pub const CA_KEY: &str = "ca.crt";

/// What people see.
const VIEW_API_SERVICE: &str = "v1.view.meshmeter.io";

const API_SERVICES_PATH: &str = "/apis/apiregistration.k8s.io/v1/apiservices/";
const WEBHOOKS_PATH: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/";
const MERGE_PATCH: &str = "application/merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";

/// Where a CA is published.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// kube-apiserver's aggregation layer: the `caBundle` of our `APIServices`.
    ApiServices,
    /// kube-apiserver's admission: the `caBundle` of each webhook of the
    /// `MutatingWebhookConfiguration` of this name.
    Webhooks(String),
    /// Pods that mount the `ConfigMap` of this name: its key [`CA_KEY`]. Created if missing.
    ConfigMap(String),
}

/// How much of a [`Target`] has the CA.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum WriteOutcome {
    All,
    /// An object is missing.
    Some,
}

#[derive(Deserialize)]
struct Configuration {
    #[serde(default)]
    webhooks: Vec<Webhook>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Webhook {
    name: String,
    client_config: ClientConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientConfig {
    ca_bundle: Option<ByteString>,
}

#[derive(Deserialize)]
struct ConfigMap {
    #[serde(default)]
    data: BTreeMap<String, String>,
}

// === impl Target ===

impl Target {
    /// True if it must exist and be repaired soon: a pod created meanwhile stays without sidecar.
    pub(super) fn is_urgent(&self) -> bool {
        matches!(self, Self::Webhooks(_))
    }

    /// Writes `ca` (PEM), the CA of `service` in `namespace`.
    pub(super) async fn write(
        &self,
        client: &Client,
        namespace: &str,
        service: &str,
        ca: &str,
    ) -> Result<WriteOutcome, ClusterError> {
        match self {
            Self::ApiServices => api_services(client, namespace, service, ca).await,
            Self::Webhooks(name) => webhooks(client, name, ca).await,
            Self::ConfigMap(name) => config_map(client, namespace, name, ca).await,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ApiServices => f.write_str("an APIService"),
            Self::Webhooks(name) => write!(f, "the MutatingWebhookConfiguration {name}"),
            Self::ConfigMap(name) => write!(f, "the ConfigMap {name}"),
        }
    }
}

fn bundle(ca: &str) -> ByteString {
    ByteString(ca.as_bytes().to_vec())
}

async fn api_services(
    client: &Client,
    namespace: &str,
    service: &str,
    ca: &str,
) -> Result<WriteOutcome, ClusterError> {
    // The patch tests that the `APIService` refers to us: another server's CA must stay.
    let change = json!([
        {"op": "test", "path": "/spec/service/namespace", "value": namespace},
        {"op": "test", "path": "/spec/service/name", "value": service},
        {"op": "add", "path": "/spec/caBundle", "value": bundle(ca)},
        // kube-apiserver rejects a `caBundle` together with `insecureSkipTLSVerify: true`.
        {"op": "add", "path": "/spec/insecureSkipTLSVerify", "value": false},
    ]);
    let mut outcome = Ok(WriteOutcome::All);
    for name in API_SERVICES {
        let path = format!("{API_SERVICES_PATH}{name}");
        match send::<IgnoredAny>(client, Method::PATCH, &path, JSON_PATCH, &change).await {
            Ok(_) => {}
            // A role of an older version does not have the newest of them: autoscaling goes on.
            Err(error) if error.status() == Some(403) && name == VIEW_API_SERVICE => {
                tracing::debug!(api.service = name, %error, "may not be written");
                outcome = outcome.map(|_| WriteOutcome::Some);
            }
            Err(error) if matches!(error.status(), Some(404 | 422)) => {
                tracing::debug!(api.service = name, %error, "not registered, or another server's");
                outcome = outcome.map(|_| WriteOutcome::Some);
            }
            Err(error) => outcome = outcome.and(Err(error)),
        }
    }
    outcome
}

async fn webhooks(client: &Client, name: &str, ca: &str) -> Result<WriteOutcome, ClusterError> {
    let path = format!("{WEBHOOKS_PATH}{name}");
    let held = match get::<Configuration>(client, &path, JSON).await {
        Ok(held) => held,
        Err(error) if error.status() == Some(404) => return Ok(WriteOutcome::Some),
        Err(error) => return Err(error),
    };
    if held.webhooks.is_empty() {
        return Ok(WriteOutcome::Some);
    }
    let change = change_of(&held, &bundle(ca));
    if !change.is_empty() {
        let _: IgnoredAny = send(client, Method::PATCH, &path, JSON_PATCH, &change).await?;
        tracing::info!(configuration = name, "caBundle written");
    }
    Ok(WriteOutcome::All)
}

/// A JSON patch (RFC 6902) that sets `ca` in the webhooks with another one. A merge patch would
/// replace the whole list; the patch tests that each webhook is still at its index.
fn change_of(held: &Configuration, ca: &ByteString) -> Vec<Value> {
    let differing = held.webhooks.iter().enumerate().filter(|(_, webhook)| {
        let bundle = webhook.client_config.ca_bundle.as_ref();
        bundle.is_none_or(|bundle| bundle.0 != ca.0)
    });
    let operations = differing.flat_map(|(index, webhook)| {
        let at = format!("/webhooks/{index}");
        [
            json!({"op": "test", "path": format!("{at}/name"), "value": webhook.name}),
            json!({"op": "add", "path": format!("{at}/clientConfig/caBundle"), "value": ca}),
        ]
    });
    operations.collect()
}

async fn config_map(
    client: &Client,
    namespace: &str,
    name: &str,
    ca: &str,
) -> Result<WriteOutcome, ClusterError> {
    let maps = format!("/api/v1/namespaces/{namespace}/configmaps");
    let path = format!("{maps}/{name}");
    let data = json!({CA_KEY: ca});
    match get::<ConfigMap>(client, &path, JSON).await {
        Ok(held) if held.data.get(CA_KEY).is_some_and(|held| held == ca) => {
            return Ok(WriteOutcome::All);
        }
        Ok(_) => {}
        Err(error) if error.status() == Some(404) => {
            let map = json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {
                    "namespace": namespace,
                    "name": name,
                    "labels": {"app.kubernetes.io/managed-by": "meshmeter"},
                },
                "data": data,
            });
            match send::<IgnoredAny>(client, Method::POST, &maps, JSON, &map).await {
                Ok(_) => return Ok(WriteOutcome::All),
                // Another replica was first, perhaps with an older secret: patched below.
                Err(error) if error.status() == Some(409) => {}
                Err(error) => return Err(error),
            }
        }
        Err(error) => return Err(error),
    }
    let change = json!({"data": data});
    let _: IgnoredAny = send(client, Method::PATCH, &path, MERGE_PATCH, &change).await?;
    Ok(WriteOutcome::All)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only webhooks that have another bundle are changed, each only if it is still where it was.
    #[test]
    fn a_webhook_is_changed_by_its_place_and_name() {
        let held = json!({"webhooks": [
            {"name": "a.example", "clientConfig": {"caBundle": "Q0E=", "service": {"name": "x"}}},
            {"name": "b.example", "clientConfig": {"caBundle": "b2xk"}},
            {"name": "c.example", "clientConfig": {"url": "https://x"}},
        ]});
        let held: Configuration = serde_json::from_value(held).unwrap();
        let change = change_of(&held, &bundle("CA"));
        let expected = json!([
            {"op": "test", "path": "/webhooks/1/name", "value": "b.example"},
            {"op": "add", "path": "/webhooks/1/clientConfig/caBundle", "value": "Q0E="},
            {"op": "test", "path": "/webhooks/2/name", "value": "c.example"},
            {"op": "add", "path": "/webhooks/2/clientConfig/caBundle", "value": "Q0E="},
        ]);
        assert_eq!(Value::from(change), expected);
    }
}
