//! The authority in a secret.

use std::collections::BTreeMap;

use aggregator_tls::Authority;
use http::Method;
use k8s_openapi::ByteString;
use kube::Client;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;

use super::RegistrationError;
use crate::connection::{get, send};
use crate::tables::JSON;

/// Keys of the secret, as those of the type `kubernetes.io/tls`.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// Where the authority is, and whose it is.
pub(super) struct Stored<'a> {
    pub(super) namespace: &'a str,
    pub(super) secret: &'a str,
    pub(super) service: &'a str,
}

#[derive(Deserialize)]
struct Secret {
    #[serde(default)]
    data: BTreeMap<String, ByteString>,
}

// === impl Stored ===

impl Stored<'_> {
    /// The authority in the secret; a new one if there is no secret. Of several replicas that make one at once, one
    /// wins, and all use its.
    pub(super) async fn authority(&self, client: &Client) -> Result<Authority, RegistrationError> {
        let secrets = format!("/api/v1/namespaces/{}/secrets", self.namespace);
        let path = format!("{secrets}/{}", self.secret);
        match get::<Secret>(client, &path, JSON).await {
            Ok(secret) => return self.read(&secret),
            Err(error) if error.status() == Some(404) => {}
            Err(error) => return Err(error.into()),
        }
        let made = Authority::new(&format!("{}.{}", self.service, self.namespace))?;
        let text = |text: &str| ByteString(text.as_bytes().to_vec());
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {
                "namespace": self.namespace,
                "name": self.secret,
                "labels": {"app.kubernetes.io/managed-by": "meshmeter"},
            },
            "data": {CERTIFICATE: text(made.certificate()), KEY: text(made.key())},
        });
        match send::<IgnoredAny>(client, Method::POST, &secrets, JSON, &secret).await {
            Ok(_) => {
                tracing::info!(secret = self.secret, "made an authority");
                Ok(made)
            }
            Err(error) if error.status() == Some(409) => {
                self.read(&get::<Secret>(client, &path, JSON).await?)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn read(&self, secret: &Secret) -> Result<Authority, RegistrationError> {
        let name = || format!("{}/{}", self.namespace, self.secret);
        let text = |key| match secret.data.get(key) {
            Some(ByteString(bytes)) => Ok(String::from_utf8_lossy(bytes)),
            None => Err(RegistrationError::Missing { name: name(), key }),
        };
        Authority::from_pem(&text(CERTIFICATE)?, &text(KEY)?).map_err(|source| {
            RegistrationError::Secret {
                name: name(),
                source,
            }
        })
    }
}
