//! Publishes the CA by which others verify our certificates: a CA in a secret that all replicas
//! share, certificates issued by it in memory, and its own certificate in each [`Target`].
//!
//! ```text
//! stored (the secret) -> generations -> the signing CA: certificate of a listener
//!                                    -> all CAs: targets: APIServices, webhooks, a ConfigMap
//! ```
//!
//! A deleted secret is recreated with the signing CA and a new one beside it: see `generations`.

use std::collections::BTreeMap;
use std::time::Duration;

use common_time::Clock;
use common_tls::{CertificateAuthority, ReloadableCert, TlsError};
use kube::Client;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::connection::ClusterError;

mod current;
mod generations;
mod stored;
mod target;

pub use target::{CA_KEY, Target};

use current::Current;
use generations::{Generations, Pair};
use stored::Stored;
use target::WriteOutcome;

/// How often everything is checked: someone may have applied a manifest without the `caBundle`, or
/// deleted the secret to get a new CA.
const CHECK_EVERY: Duration = Duration::from_secs(15);

/// How often where an error has lasting effects (a pod that was not injected stays so), and while a
/// target is missing, as during an installation.
const CHECK_OFTEN_EVERY: Duration = Duration::from_secs(5);

/// Pause after a failed check.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Maintains a certificate, and its CA in the secret and the targets.
#[derive(Debug)]
pub struct CaBundlePublisher {
    /// The namespace of the secret and of the service.
    pub namespace: String,
    /// The secret that holds the CA.
    pub secret: String,
    /// The service whose certificate it is.
    pub service: String,
    /// The DNS names of the certificate.
    pub names: Vec<String>,
    /// Where the CA's certificate is published.
    pub targets: Vec<Target>,
    pub serving: ReloadableCert,
    /// Gets the certificates of all CAs that are published (PEM), as soon as they are known.
    pub bundle: watch::Sender<String>,
    pub clock: Clock,
}

/// Why peers cannot verify our certificate yet; `None` once they can, also while the API server is
/// unreachable.
pub type Fault = watch::Receiver<Option<String>>;

#[derive(Eq, PartialEq)]
enum LastLog {
    Nothing,
    InOrder,
    Error(String),
}

#[derive(Debug, Error)]
pub(crate) enum PublishError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("the secret {name} cannot be used: {source}")]
    Secret { name: String, source: TlsError },
    #[error("the secret {0} was replaced: what is shown now is kept in it for a day")]
    Replaced(String),
    #[error("the secret {name} has no {key}")]
    Missing { name: String, key: &'static str },
    #[error("the CA cannot be made: {0}")]
    Make(#[from] TlsError),
    /// Without its webhooks nobody calls this program, so it is not ready.
    #[error("{0} does not exist or has no webhooks")]
    NoTarget(String),
}

/// The DNS names of `service` in the cluster.
pub fn service_names(service: &str, namespace: &str) -> Vec<String> {
    ["", ".cluster.local"]
        .iter()
        .map(|suffix| format!("{service}.{namespace}.svc{suffix}"))
        .chain([format!("{service}.{namespace}"), service.to_owned()])
        .collect()
}

/// The wildcard DNS names of the pods of a `StatefulSet` with the headless `service`.
pub fn pod_names(service: &str, namespace: &str) -> Vec<String> {
    ["", ".cluster.local"]
        .iter()
        .map(|suffix| format!("*.{service}.{namespace}.svc{suffix}"))
        .collect()
}

// === impl CaBundlePublisher ===

impl CaBundlePublisher {
    /// Checks and repairs everything until `stop`, in a task of its own; returns what is wrong.
    pub fn spawn(self, client: Client, stop: CancellationToken) -> Fault {
        let (fault, faults) = watch::channel(Some("the CA is not there yet".to_owned()));
        tokio::spawn(async move {
            let mut current = None;
            let mut last_log = LastLog::Nothing;
            loop {
                let outcome = self.once(&client, &mut current).await;
                let pause = match &outcome {
                    Ok(WriteOutcome::All) => self.check_interval(),
                    Ok(WriteOutcome::Some) => CHECK_OFTEN_EVERY,
                    Err(_) => RETRY_AFTER,
                };
                let error = outcome.err().map(|error| error.to_string());
                last_log = self.log(&last_log, error.as_ref());
                // Once registered, a failed check is no fault: the certificate is still verified.
                let registered = current.as_ref().is_some_and(|current| current.registered);
                let new_fault = error.filter(|_| !registered);
                fault.send_if_modified(|fault| {
                    let changed = *fault != new_fault;
                    *fault = new_fault;
                    changed
                });
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sleep(pause) => {}
                }
                if let Some(current) = &mut current {
                    current.pass(pause, last_log == LastLog::InOrder);
                }
            }
        });
        faults
    }

    fn check_interval(&self) -> Duration {
        let urgent = self.targets.iter().any(Target::is_urgent);
        if urgent {
            CHECK_OFTEN_EVERY
        } else {
            CHECK_EVERY
        }
    }

    /// Logs the outcome of a check unless it is that of the last one.
    fn log(&self, last: &LastLog, error: Option<&String>) -> LastLog {
        let service = &self.service;
        let outcome = error.map_or(LastLog::InOrder, |error| LastLog::Error(error.clone()));
        match &outcome {
            outcome if outcome == last => {}
            LastLog::Error(error) => tracing::warn!(service, error, "CA not registered"),
            LastLog::InOrder | LastLog::Nothing => {
                tracing::info!(service, "certificate and CA are in order");
            }
        }
        outcome
    }

    async fn once(
        &self,
        client: &Client,
        current: &mut Option<Current>,
    ) -> Result<WriteOutcome, PublishError> {
        let stored = Stored {
            namespace: &self.namespace,
            secret: &self.secret,
            service: &self.service,
        };
        let known = current.as_ref().map(|current| &current.held.generations);
        let held = stored.read_or_make(client, known).await?;
        let generations = held.generations.clone();
        let current = match current {
            Some(current) => current,
            // The first check: no certificate is in use yet.
            None => current.insert(Current {
                shown: self.show(&generations)?,
                age: Duration::ZERO,
                made: self.clock.wall(),
                unchanged: Duration::ZERO,
                published: BTreeMap::new(),
                held: held.clone(),
                registered: false,
            }),
        };
        current.saw(held);
        // The secret was replaced without the CA of the certificate in use here: add it back, so
        // that peers verify this certificate until the next one.
        let with_shown = generations.keeping(&current.shown);
        if with_shown != generations {
            stored.replace(client, &current.held, &with_shown).await?;
            return Err(PublishError::Replaced(self.secret.clone()));
        }
        let written = self.publish(client, &generations, current).await?;
        current.registered = true;
        current.note_published();
        if let Some(moved) = generations.after(current.unchanged)
            && stored.replace(client, &current.held, &moved).await?
        {
            log_change(&self.secret, &generations, &moved);
            // Set here, so that the next check does not take our own write for a change and reset
            // the time.
            current.unchanged = Duration::ZERO;
            current.held.generations = moved;
        }
        let now = self.clock.wall();
        if current.is_due(now) {
            current.shown = self.show(&current.held.generations)?;
            current.age = Duration::ZERO;
            current.made = now;
        }
        Ok(written)
    }

    /// Issues a new certificate by the signing CA and uses it; returns that CA.
    fn show(&self, generations: &Generations) -> Result<String, PublishError> {
        let Pair { certificate, key } = &generations.signing;
        let issued = CertificateAuthority::from_pem(certificate, key)?.issue(&self.names)?;
        self.serving.swap(&issued.certificate, &issued.key)?;
        Ok(certificate.clone())
    }

    /// Writes all current CAs to the targets.
    async fn publish(
        &self,
        client: &Client,
        generations: &Generations,
        current: &mut Current,
    ) -> Result<WriteOutcome, PublishError> {
        let bundle = generations.bundle();
        self.bundle.send_if_modified(|known| {
            let is_new = *known != bundle;
            known.clone_from(&bundle);
            is_new
        });
        let mut written = WriteOutcome::All;
        for target in &self.targets {
            let outcome = target.write(client, &self.namespace, &self.service, &bundle);
            match outcome.await? {
                WriteOutcome::All => {}
                WriteOutcome::Some if target.is_urgent() => {
                    current.registered = false;
                    return Err(PublishError::NoTarget(target.to_string()));
                }
                WriteOutcome::Some => written = WriteOutcome::Some,
            }
        }
        Ok(written)
    }
}

fn log_change(secret: &str, before: &Generations, after: &Generations) {
    if before.signing != after.signing {
        tracing::info!(
            secret,
            "the new CA signs; the one before is published for another day"
        );
    } else if before.former != after.former {
        tracing::info!(secret, "previous CA no longer published");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use common_time::{Monotonic, UnixMillis};
    use serde_json::Value;
    use tests_support::kubernetes::ApiServer;
    use tests_support::kubernetes::objects::{CONFIG_MAP, SECRET};

    use super::generations::PUBLISHED_FOR;
    use super::*;
    use crate::connection::connect;

    /// One replica, whose time is passed by hand.
    struct Replica {
        registration: CaBundlePublisher,
        client: Client,
        current: Option<Current>,
        /// What its wall clock shows.
        wall: Arc<AtomicU64>,
    }

    impl Replica {
        async fn new(server: &ApiServer, files: &std::path::Path) -> Self {
            let kubeconfig = files.join("kubeconfig");
            server.write_kubeconfig(&kubeconfig).unwrap();
            let names = service_names("ingest", "mesh");
            let wall = Arc::new(AtomicU64::new(1_800_000_000_000));
            let shown = Arc::clone(&wall);
            let shown = move || UnixMillis(shown.load(Ordering::Relaxed));
            Self {
                wall,
                client: connect(Some(&kubeconfig)).await.unwrap(),
                registration: CaBundlePublisher {
                    namespace: "mesh".to_owned(),
                    secret: "ca".to_owned(),
                    service: "ingest".to_owned(),
                    serving: ReloadableCert::untrusted(&names).unwrap(),
                    names,
                    targets: vec![Target::ConfigMap("ca".to_owned())],
                    bundle: watch::Sender::default(),
                    clock: Clock::new(Monotonic::default, shown),
                },
                current: None,
            }
        }

        /// Sets the wall clock by so many milliseconds.
        fn set(&self, step: i64) {
            let set = |shown: u64| shown.checked_add_signed(step);
            self.wall
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, set)
                .unwrap();
        }

        /// Looks after `time`; true if all is in order.
        async fn after(&mut self, time: Duration) -> bool {
            self.set(i64::try_from(time.as_millis()).unwrap());
            if let Some(current) = &mut self.current {
                current.pass(time, true);
            }
            let outcome = self
                .registration
                .once(&self.client, &mut self.current)
                .await;
            outcome.is_ok()
        }

        fn current(&self) -> &Current {
            self.current.as_ref().unwrap()
        }

        fn shown(&self) -> String {
            self.current().shown.clone()
        }
    }

    fn published(server: &ApiServer) -> String {
        let map = server.objects().get(CONFIG_MAP, "mesh", "ca").unwrap();
        map["data"][CA_KEY].as_str().unwrap().to_owned()
    }

    /// A certificate is kept for a day, then there is another one by the same CA, which is in order
    /// at once; and one that is in order stays so while the cluster cannot be asked.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_day_later_there_is_another_certificate() {
        let server = ApiServer::start().await.unwrap();
        let files = tempfile::tempdir().unwrap();
        let mut replica = Replica::new(&server, files.path()).await;
        assert!(replica.after(Duration::ZERO).await);
        let ca = replica.shown();
        let almost = Duration::from_hours(23);
        assert!(replica.after(almost).await);
        assert_eq!(replica.current().age, almost);
        assert!(replica.after(Duration::from_hours(1)).await);
        assert_eq!(replica.current().age, Duration::ZERO);
        server.set_outage(Some(http::StatusCode::SERVICE_UNAVAILABLE));
        assert!(!replica.after(almost).await);
        assert!(replica.current().registered);
        server.set_outage(None);
        assert_eq!(replica.shown(), ca);
        assert_eq!(published(&server), ca);
    }

    /// A certificate is valid by the wall clock: where that is set by more than others put up with,
    /// there is another one at the next look, once.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_clock_that_is_set_makes_another_certificate() {
        let server = ApiServer::start().await.unwrap();
        let files = tempfile::tempdir().unwrap();
        let hour = 60 * 60 * 1000;
        let look = Duration::from_secs(15);
        for (step, anew) in [
            (0, false),
            (-hour / 4, false),
            (-hour, true),
            (-100 * 24 * hour, true),
            (hour, false),
            (25 * hour, false),
            (100 * 24 * hour, true),
        ] {
            let mut replica = Replica::new(&server, files.path()).await;
            assert!(replica.after(Duration::ZERO).await);
            assert!(replica.after(look).await);
            assert_eq!(replica.current().age, look);
            replica.set(step);
            assert!(replica.after(look).await);
            assert_eq!(replica.current().age == Duration::ZERO, anew, "{step}");
            assert!(replica.after(look).await);
            assert!(!replica.current().age.is_zero(), "{step}");
        }
    }

    /// The secret is deleted: what signs signs on, a new CA is published beside it, signs ten
    /// minutes later, and a day later the old one goes. At no time is a certificate shown, by
    /// either replica, whose CA was not published for ten minutes; one that begins in between shows
    /// what the others show.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_deleted_secret_begins_a_rotation() {
        let server = ApiServer::start().await.unwrap();
        let files = tempfile::tempdir().unwrap();
        let mut one = Replica::new(&server, files.path()).await;
        let mut other = Replica::new(&server, files.path()).await;
        assert!(one.after(Duration::ZERO).await && other.after(Duration::ZERO).await);
        let old = one.shown();
        assert_eq!(other.shown(), old);
        assert!(server.objects().delete(SECRET, "mesh", "ca"));
        let step = Duration::from_secs(15);
        let mut new_since = None;
        let mut waited = Duration::ZERO;
        while one.shown() == old || other.shown() == old {
            waited += step;
            assert!(waited < Duration::from_mins(30), "it does not switch");
            one.after(step).await;
            other.after(step).await;
            let bundle = published(&server);
            assert!(bundle.contains(&old), "published for a day");
            if bundle != old {
                new_since.get_or_insert(waited);
            }
            for shown in [one.shown(), other.shown()] {
                assert!(bundle.contains(&shown));
                let known_for = waited.saturating_sub(new_since.unwrap_or(waited));
                assert!(
                    shown == old || known_for >= PUBLISHED_FOR,
                    "after {known_for:?}"
                );
            }
        }
        assert_eq!(one.shown(), other.shown());
        let mut third = Replica::new(&server, files.path()).await;
        assert!(third.after(Duration::ZERO).await);
        assert_eq!(third.shown(), one.shown());
        let mut kept = Duration::ZERO;
        while published(&server).contains(&old) {
            kept += Duration::from_mins(5);
            assert!(kept < Duration::from_hours(26), "it is never dropped");
            assert!(one.after(Duration::from_mins(5)).await);
        }
        assert!(kept >= generations::KEPT_FOR, "dropped after {kept:?}");
        assert_eq!(published(&server), one.shown());
    }

    /// Who puts a CA of their own in the secret does not cut anybody off: what is shown is
    /// published on, and the other is shown when it was published for long enough.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_replaced_secret_cuts_nobody_off() {
        let server = ApiServer::start().await.unwrap();
        let files = tempfile::tempdir().unwrap();
        let mut replica = Replica::new(&server, files.path()).await;
        assert!(replica.after(Duration::ZERO).await);
        let ours = replica.shown();
        let theirs = CertificateAuthority::new("theirs").unwrap();
        let mut secret: Value = server.objects().get(SECRET, "mesh", "ca").unwrap();
        let text =
            |text: &str| serde_json::json!(k8s_openapi::ByteString(text.as_bytes().to_vec()));
        secret["data"]["tls.crt"] = text(theirs.certificate());
        secret["data"]["tls.key"] = text(theirs.key());
        server.objects().apply(SECRET, secret);
        // Once to note what is shown, once to publish both.
        assert!(!replica.after(Duration::from_secs(15)).await);
        assert!(replica.after(Duration::from_secs(2)).await);
        let bundle = published(&server);
        assert!(bundle.contains(&ours) && bundle.contains(theirs.certificate()));
        assert_eq!(replica.shown(), ours);
        assert!(replica.after(PUBLISHED_FOR).await);
        assert_eq!(replica.shown(), theirs.certificate());
    }
}
