//! How kube-apiserver comes to verify our certificate: an authority of our own in a secret, which all replicas share;
//! certificates by it, made in memory; and its certificate as `caBundle` in the `APIServices` that lead to us.

use std::time::Duration;

use aggregator_tls::{Authority, Serving, TlsError};
use http::Method;
use k8s_openapi::ByteString;
use kube::Client;
use serde::Deserialize;
use serde::de::IgnoredAny;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::connection::{ClusterError, get, send};
use crate::tables::JSON;

/// The `APIServices` of both groups.
pub const API_SERVICES: [&str; 3] = [
    "v1beta1.custom.metrics.k8s.io",
    "v1beta2.custom.metrics.k8s.io",
    "v1beta1.external.metrics.k8s.io",
];

const PATH: &str = "/apis/apiregistration.k8s.io/v1/apiservices/";
const MERGE_PATCH: &str = "application/merge-patch+json";

/// Keys of the secret, as those of the type `kubernetes.io/tls`.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// How often everything is looked at again: someone may have applied a manifest without the `caBundle`, or deleted the
/// secret to get a new authority.
const AGAIN_AFTER: Duration = Duration::from_mins(1);

/// How soon it is looked for an `APIService` that is not there yet, as during an installation.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// How soon it is tried again where it failed.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Rounds of [`AGAIN_AFTER`] until the next certificate: a day's.
const REISSUE_AFTER: u32 = 24 * 60;

/// Keeps the certificate of the API, and who vouches for it, in order.
#[derive(Debug)]
pub struct Registration {
    /// The namespace of the secret and of the service.
    pub namespace: String,
    /// The secret that holds the authority.
    pub secret: String,
    /// The service that the `APIServices` lead to.
    pub service: String,
    /// What is shown.
    pub serving: Serving,
}

/// Why there is no certificate that kube-apiserver would verify; `None` once there is.
pub type Fault = watch::Receiver<Option<String>>;

/// Which of the [`API_SERVICES`] have our authority.
enum Registered {
    All,
    Some,
}

/// What is shown now.
struct Current {
    authority: String,
    rounds: u32,
}

#[derive(Debug, Error)]
enum RegistrationError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("the secret {name} cannot be used: {source}")]
    Secret { name: String, source: TlsError },
    #[error("the secret {name} has no {key}")]
    Missing { name: String, key: &'static str },
    #[error("the authority cannot be made: {0}")]
    Make(#[from] TlsError),
}

#[derive(Deserialize)]
struct Secret {
    #[serde(default)]
    data: std::collections::BTreeMap<String, ByteString>,
}

// === impl Registration ===

impl Registration {
    /// Keeps everything in order until `stop`, in a task of its own; tells what is wrong.
    pub fn keep(self, client: Client, stop: CancellationToken) -> Fault {
        let (fault, faults) = watch::channel(Some("the authority is not there yet".to_owned()));
        tokio::spawn(async move {
            let mut current = None;
            loop {
                let outcome = self.once(&client, &mut current).await;
                let pause = match &outcome {
                    Ok(Registered::All) => AGAIN_AFTER,
                    Ok(Registered::Some) => LOOK_AGAIN_AFTER,
                    Err(_) => RETRY_AFTER,
                };
                let told = outcome.err().map(|error| error.to_string());
                fault.send_if_modified(|held| {
                    let changed = *held != told;
                    if changed {
                        match &told {
                            None => tracing::info!("certificate and CA of the API are in order"),
                            Some(error) => tracing::warn!(error, "CA of the API not registered"),
                        }
                    }
                    *held = told;
                    changed
                });
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sleep(pause) => {}
                }
            }
        });
        faults
    }

    /// The names under which kube-apiserver and people reach the service.
    pub fn names(&self) -> Vec<String> {
        let (service, namespace) = (&self.service, &self.namespace);
        ["", ".cluster.local"]
            .iter()
            .map(|suffix| format!("{service}.{namespace}.svc{suffix}"))
            .chain([format!("{service}.{namespace}"), service.clone()])
            .collect()
    }

    async fn once(
        &self,
        client: &Client,
        current: &mut Option<Current>,
    ) -> Result<Registered, RegistrationError> {
        let authority = self.authority(client).await?;
        let fresh = current.as_mut().is_some_and(|current| {
            current.rounds += 1;
            current.authority == authority.certificate() && current.rounds < REISSUE_AFTER
        });
        if !fresh {
            let issued = authority.issue(&self.names())?;
            self.serving.swap(&issued.certificate, &issued.key)?;
            *current = Some(Current {
                authority: authority.certificate().to_owned(),
                rounds: 0,
            });
        }
        Ok(register(client, authority.certificate()).await?)
    }

    /// The authority in the secret; a new one if there is no secret. Of several replicas that make one at once, one
    /// wins, and all use its.
    async fn authority(&self, client: &Client) -> Result<Authority, RegistrationError> {
        let secrets = format!("/api/v1/namespaces/{}/secrets", self.namespace);
        let path = format!("{secrets}/{}", self.secret);
        match get::<Secret>(client, &path, JSON).await {
            Ok(secret) => return self.read(&secret),
            Err(error) if error.status() == Some(404) => {}
            Err(error) => return Err(error.into()),
        }
        let made = Authority::new(&format!("{}.{}", self.service, self.namespace))?;
        let text = |text: &str| ByteString(text.as_bytes().to_vec());
        let secret = serde_json::json!({
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
                tracing::info!(secret = self.secret, "made an authority for the API");
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

/// Writes `ca` (PEM) into those of [`API_SERVICES`] that are there.
async fn register(client: &Client, ca: &str) -> Result<Registered, ClusterError> {
    let mut outcome = Ok(Registered::All);
    for name in API_SERVICES {
        match write(client, name, ca).await {
            Ok(()) => {}
            Err(error) if error.status() == Some(404) => {
                tracing::debug!(api.service = name, "not registered");
                outcome = outcome.map(|_| Registered::Some);
            }
            Err(error) => outcome = outcome.and(Err(error)),
        }
    }
    outcome
}

async fn write(client: &Client, name: &str, ca: &str) -> Result<(), ClusterError> {
    // A CA and the order to skip verification exclude one another.
    let change = serde_json::json!({"spec": {
        "caBundle": ByteString(ca.as_bytes().to_vec()),
        "insecureSkipTLSVerify": null,
    }});
    let path = format!("{PATH}{name}");
    let _: IgnoredAny = send(client, Method::PATCH, &path, MERGE_PATCH, &change).await?;
    Ok(())
}
