//! How others come to verify our certificates: an authority of our own in a secret, which all replicas share;
//! certificates by it, made in memory; and its certificate wherever somebody looks for it.
//!
//! ```text
//! stored (the secret) -> authority -> certificate, shown by a listener
//!                                  -> targets: APIServices, webhooks, a ConfigMap
//! ```

use std::time::Duration;

use aggregator_tls::{Serving, TlsError};
use kube::Client;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::connection::ClusterError;

mod stored;
mod target;

pub use target::{CA_KEY, Target};

use stored::Stored;
use target::Written;

/// How often everything is looked at again: someone may have applied a manifest without the `caBundle`, or deleted the
/// secret to get a new authority.
const AGAIN_AFTER: Duration = Duration::from_mins(1);

/// How soon it is looked again where a mistake costs more than a moment (a pod that was not injected stays so), and for
/// a target that is not there yet, as during an installation.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// How soon it is tried again where it failed.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// How old a certificate gets before there is another one.
const REISSUE_AFTER: Duration = Duration::from_hours(24);

/// Keeps a certificate, and who vouches for it, in order.
#[derive(Debug)]
pub struct Registration {
    /// The namespace of the secret and of the service.
    pub namespace: String,
    /// The secret that holds the authority.
    pub secret: String,
    /// The service whose certificate it is.
    pub service: String,
    /// The names the certificate is for.
    pub names: Vec<String>,
    /// Where the authority's certificate goes.
    pub targets: Vec<Target>,
    /// What is shown.
    pub serving: Serving,
}

/// Why there is no certificate that others would verify; `None` once there is. It stays so while the cluster cannot be
/// asked: what was in order is until the contrary is known.
pub type Fault = watch::Receiver<Option<String>>;

/// What is shown now.
struct Current {
    authority: String,
    age: Duration,
    /// Everyone who looks for the authority has found it.
    registered: bool,
}

/// What was said last.
#[derive(Eq, PartialEq)]
enum Said {
    Nothing,
    Order,
    Error(String),
}

#[derive(Debug, Error)]
pub(crate) enum RegistrationError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("the secret {name} cannot be used: {source}")]
    Secret { name: String, source: TlsError },
    #[error("the secret {name} has no {key}")]
    Missing { name: String, key: &'static str },
    #[error("the authority cannot be made: {0}")]
    Make(#[from] TlsError),
    /// Whom nobody calls need not be called ready.
    #[error("{0} is not there, or has no webhooks")]
    NoTarget(String),
}

/// The names under which `service` is reached in the cluster.
pub fn service_names(service: &str, namespace: &str) -> Vec<String> {
    ["", ".cluster.local"]
        .iter()
        .map(|suffix| format!("{service}.{namespace}.svc{suffix}"))
        .chain([format!("{service}.{namespace}"), service.to_owned()])
        .collect()
}

/// The names under which the pods of a `StatefulSet` are reached by way of their headless `service`.
pub fn pod_names(service: &str, namespace: &str) -> Vec<String> {
    ["", ".cluster.local"]
        .iter()
        .map(|suffix| format!("*.{service}.{namespace}.svc{suffix}"))
        .collect()
}

// === impl Registration ===

impl Registration {
    /// Keeps everything in order until `stop`, in a task of its own; tells what is wrong.
    pub fn keep(self, client: Client, stop: CancellationToken) -> Fault {
        let (fault, faults) = watch::channel(Some("the authority is not there yet".to_owned()));
        tokio::spawn(async move {
            let mut current = None;
            let mut said = Said::Nothing;
            loop {
                let outcome = self.once(&client, &mut current).await;
                let pause = match &outcome {
                    Ok(Written::All) => self.again_after(),
                    Ok(Written::Some) => LOOK_AGAIN_AFTER,
                    Err(_) => RETRY_AFTER,
                };
                let error = outcome.err().map(|error| error.to_string());
                said = self.say(&said, error.as_ref());
                let holds = current.as_ref().is_some_and(|current| current.registered);
                let told = error.filter(|_| !holds);
                fault.send_if_modified(|held| {
                    let changed = *held != told;
                    *held = told;
                    changed
                });
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sleep(pause) => {}
                }
                if let Some(current) = &mut current {
                    current.age += pause;
                }
            }
        });
        faults
    }

    fn again_after(&self) -> Duration {
        let urgent = self.targets.iter().any(Target::is_urgent);
        if urgent {
            LOOK_AGAIN_AFTER
        } else {
            AGAIN_AFTER
        }
    }

    /// Says what became of it, unless that was said last.
    fn say(&self, last: &Said, error: Option<&String>) -> Said {
        let service = &self.service;
        let say = error.map_or(Said::Order, |error| Said::Error(error.clone()));
        match &say {
            say if say == last => {}
            Said::Error(error) => tracing::warn!(service, error, "authority not registered"),
            Said::Order | Said::Nothing => {
                tracing::info!(service, "certificate and authority are in order");
            }
        }
        say
    }

    async fn once(
        &self,
        client: &Client,
        current: &mut Option<Current>,
    ) -> Result<Written, RegistrationError> {
        let stored = Stored {
            namespace: &self.namespace,
            secret: &self.secret,
            service: &self.service,
        };
        let authority = stored.authority(client).await?;
        let known = current
            .take_if(|held| held.authority != authority.certificate() || held.age >= REISSUE_AFTER);
        let current = if let Some(current) = current {
            current
        } else {
            let issued = authority.issue(&self.names)?;
            self.serving.swap(&issued.certificate, &issued.key)?;
            // Another certificate by the same authority is verified as the one before it was.
            let same = known.filter(|held| held.authority == authority.certificate());
            current.insert(Current {
                authority: authority.certificate().to_owned(),
                age: Duration::ZERO,
                registered: same.is_some_and(|held| held.registered),
            })
        };
        let mut written = Written::All;
        for target in &self.targets {
            let ca = authority.certificate();
            let outcome = target.write(client, &self.namespace, &self.service, ca);
            match outcome.await? {
                Written::All => {}
                Written::Some if target.is_urgent() => {
                    current.registered = false;
                    return Err(RegistrationError::NoTarget(target.to_string()));
                }
                Written::Some => written = Written::Some,
            }
        }
        current.registered = true;
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use tests_support::kubernetes::ApiServer;
    use tests_support::kubernetes::objects::CONFIG_MAP;

    use super::*;
    use crate::connection::connect;

    /// A certificate is kept for a day, then there is another one by the same authority, which is in order at once; and
    /// one that is in order stays so while the cluster cannot be asked.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_day_later_there_is_another_certificate() {
        let server = ApiServer::start().await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = directory.path().join("kubeconfig");
        server.write_kubeconfig(&kubeconfig).unwrap();
        let client = connect(Some(&kubeconfig)).await.unwrap();
        let names = service_names("ingest", "mesh");
        let registration = Registration {
            namespace: "mesh".to_owned(),
            secret: "ca".to_owned(),
            service: "ingest".to_owned(),
            serving: Serving::untrusted(&names).unwrap(),
            names,
            targets: vec![Target::ConfigMap("ca".to_owned())],
        };
        let mut current = None;
        let mut once = async |age| {
            if let Some(current) = &mut current {
                let current: &mut Current = current;
                current.age = age;
            }
            let outcome = registration.once(&client, &mut current).await;
            let current = current.as_ref().unwrap();
            assert!(current.registered);
            (outcome.is_ok(), current.age, current.authority.clone())
        };
        let (_, _, authority) = once(Duration::ZERO).await;
        let almost = Duration::from_hours(23);
        assert_eq!(once(almost).await, (true, almost, authority.clone()));
        let renewed = (true, Duration::ZERO, authority.clone());
        assert_eq!(once(REISSUE_AFTER).await, renewed);
        server.set_outage(Some(http::StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(once(almost).await, (false, almost, authority.clone()));
        server.set_outage(None);
        let map = server.objects().get(CONFIG_MAP, "mesh", "ca").unwrap();
        assert_eq!(map["data"][CA_KEY], authority);
    }
}
