//! Where the certificate of the CA goes, and how it is written there without touching anything
//! else.

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
const API_SERVICES: [&str; 3] = [
    "v1beta1.custom.metrics.k8s.io",
    "v1beta2.custom.metrics.k8s.io",
    "v1beta1.external.metrics.k8s.io",
];

/// Key of a `ConfigMap`, as Kubernetes itself calls it in `kube-root-ca.crt`.
pub const CA_KEY: &str = "ca.crt";

const API_SERVICES_PATH: &str = "/apis/apiregistration.k8s.io/v1/apiservices/";
const WEBHOOKS_PATH: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/";
const MERGE_PATCH: &str = "application/merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";

/// Who looks for the CA.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// kube-apiserver's aggregation layer: the `caBundle` of our `APIServices`.
    ApiServices,
    /// kube-apiserver's admission: the `caBundle` of each webhook of the
    /// `MutatingWebhookConfiguration` of this name.
    Webhooks(String),
    /// Whoever mounts the `ConfigMap` of this name: its key [`CA_KEY`]. It is made if it is not
    /// there.
    ConfigMap(String),
}

/// How much of a [`Target`] has the CA.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum WriteOutcome {
    All,
    /// Something is not there.
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
    /// True if it must be there, and be right again soon: a pod that is made meanwhile stays as it
    /// was made.
    pub(super) fn is_urgent(&self) -> bool {
        matches!(self, Self::Webhooks(_))
    }

    /// Writes `ca` (PEM), which vouches for `service` in `namespace`.
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
    // That it leads to us is a condition of the patch: the CA of another server is none of our
    // business.
    let change = json!([
        {"op": "test", "path": "/spec/service/namespace", "value": namespace},
        {"op": "test", "path": "/spec/service/name", "value": service},
        {"op": "add", "path": "/spec/caBundle", "value": bundle(ca)},
        // A CA and the order to skip verification exclude one another.
        {"op": "add", "path": "/spec/insecureSkipTLSVerify", "value": false},
    ]);
    let mut outcome = Ok(WriteOutcome::All);
    for name in API_SERVICES {
        let path = format!("{API_SERVICES_PATH}{name}");
        match send::<IgnoredAny>(client, Method::PATCH, &path, JSON_PATCH, &change).await {
            Ok(_) => {}
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

/// A JSON patch (RFC 6902) that gives `ca` to the webhooks which have another one. Lists of
/// webhooks have no merge patch that would leave the rest alone; that each is still where it was is
/// a condition of the patch.
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
                // Another replica was first; what it wrote is the same, unless the secret was
                // replaced meanwhile.
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
