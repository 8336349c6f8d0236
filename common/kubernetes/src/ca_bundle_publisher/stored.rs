//! The signing CA in a secret, with the former ones and the next.

use std::collections::BTreeMap;
use std::time::Duration;

use common_tls::CertificateAuthority;
use http::Method;
use k8s_openapi::ByteString;
use kube::Client;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::PublishError;
use super::generations::{Generations, Pair};
use crate::connection::{get, send};
use crate::index::JSON;

/// Keys of the signing CA, those of the type `kubernetes.io/tls`.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// The CA that will sign.
const NEXT_CERTIFICATE: &str = "next.crt";
const NEXT_KEY: &str = "next.key";
/// The former CAs.
const FORMER: &str = "former.crt";
/// How long the state has lasted.
const WAITED: &str = "waited-seconds";

const END: &str = "-----END CERTIFICATE-----";

/// The secret of a CA and its service.
pub(super) struct Stored<'a> {
    pub(super) namespace: &'a str,
    pub(super) secret: &'a str,
    pub(super) service: &'a str,
}

/// The content of the secret, and its `resourceVersion`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct StoredSecret {
    pub(super) generations: Generations,
    version: String,
}

#[derive(Deserialize)]
struct Secret {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    data: BTreeMap<String, ByteString>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    resource_version: String,
}

// === impl Stored ===

impl Stored<'_> {
    /// Reads the secret, or creates it if it does not exist: from the last known state (`known`)
    /// with a new CA beside the signing one, since deleting the secret requests a rotation; with a
    /// new CA alone if no state is known. If several replicas create one at once, all use the
    /// first.
    pub(super) async fn read_or_make(
        &self,
        client: &Client,
        known: Option<&Generations>,
    ) -> Result<StoredSecret, PublishError> {
        let path = self.path();
        match get::<Secret>(client, &path, JSON).await {
            Ok(secret) => return self.read(&secret),
            Err(error) if error.status() == Some(404) => {}
            Err(error) => return Err(error.into()),
        }
        let new = self.new_ca()?;
        let made = match known {
            Some(known) => known.rotated(|| new),
            None => Generations::new(new),
        };
        let mut secret = self.object(&made);
        secret["metadata"]["labels"] = json!({"app.kubernetes.io/managed-by": "meshmeter"});
        match send::<Secret>(client, Method::POST, &self.collection(), JSON, &secret).await {
            Ok(secret) => {
                let beside = known.is_some();
                tracing::info!(secret = self.secret, beside, "made a CA");
                Ok(StoredSecret {
                    generations: made,
                    version: secret.metadata.resource_version,
                })
            }
            Err(error) if error.status() == Some(409) => {
                self.read(&get::<Secret>(client, &path, JSON).await?)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Replaces `held` by `now`; false if somebody else wrote meanwhile.
    pub(super) async fn replace(
        &self,
        client: &Client,
        held: &StoredSecret,
        now: &Generations,
    ) -> Result<bool, PublishError> {
        let mut change = self.object(now);
        change["metadata"]["resourceVersion"] = held.version.as_str().into();
        // Removed keys are null, which a merge patch deletes; labels and annotations of others
        // stay.
        for key in [NEXT_CERTIFICATE, NEXT_KEY, FORMER, WAITED] {
            if let Some(data) = change["data"].as_object_mut() {
                data.entry(key).or_insert(Value::Null);
            }
        }
        let merge = "application/merge-patch+json";
        match send::<IgnoredAny>(client, Method::PATCH, &self.path(), merge, &change).await {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.status(), Some(404 | 409)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn collection(&self) -> String {
        format!("/api/v1/namespaces/{}/secrets", self.namespace)
    }

    fn path(&self) -> String {
        format!("{}/{}", self.collection(), self.secret)
    }

    fn new_ca(&self) -> Result<Pair, PublishError> {
        let made = CertificateAuthority::new(&format!("{}.{}", self.service, self.namespace))?;
        Ok(Pair {
            certificate: made.certificate().to_owned(),
            key: made.key().to_owned(),
        })
    }

    fn object(&self, generations: &Generations) -> Value {
        let text = |text: &str| json!(ByteString(text.as_bytes().to_vec()));
        let Generations {
            signing,
            next,
            former,
            waited,
        } = generations;
        let mut data = json!({CERTIFICATE: text(&signing.certificate), KEY: text(&signing.key)});
        if let Some(next) = next {
            data[NEXT_CERTIFICATE] = text(&next.certificate);
            data[NEXT_KEY] = text(&next.key);
        }
        if !former.is_empty() {
            data[FORMER] = text(&former.concat());
        }
        if !waited.is_zero() {
            data[WAITED] = text(&waited.as_secs().to_string());
        }
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {"namespace": self.namespace, "name": self.secret},
            "data": data,
        })
    }

    fn read(&self, secret: &Secret) -> Result<StoredSecret, PublishError> {
        let name = || format!("{}/{}", self.namespace, self.secret);
        let text = |key: &str| {
            let bytes = secret.data.get(key);
            bytes.map(|ByteString(bytes)| String::from_utf8_lossy(bytes).into_owned())
        };
        let pair = |certificate: &'static str, key: &'static str| {
            let missing = |key| PublishError::Missing { name: name(), key };
            let pair = Pair {
                certificate: text(certificate).ok_or_else(|| missing(certificate))?,
                key: text(key).ok_or_else(|| missing(key))?,
            };
            let usable = CertificateAuthority::from_pem(&pair.certificate, &pair.key);
            usable.map_err(|source| PublishError::Secret {
                name: name(),
                source,
            })?;
            Ok::<_, PublishError>(pair)
        };
        let former = text(FORMER).unwrap_or_default();
        let former = former.split_inclusive(END).map(str::trim);
        let waited = text(WAITED).and_then(|waited| waited.parse().ok());
        let generations = Generations {
            signing: pair(CERTIFICATE, KEY)?,
            next: secret
                .data
                .contains_key(NEXT_CERTIFICATE)
                .then(|| pair(NEXT_CERTIFICATE, NEXT_KEY))
                .transpose()?,
            former: former
                .filter(|certificate| !certificate.is_empty())
                .map(|certificate| format!("{certificate}\n"))
                .collect(),
            waited: Duration::from_secs(waited.unwrap_or(0)),
        };
        Ok(StoredSecret {
            generations,
            version: secret.metadata.resource_version.clone(),
        })
    }
}
