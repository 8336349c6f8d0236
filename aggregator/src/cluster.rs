//! Parts that need a cluster: watches, authentication and authorisation, certificates.

use std::collections::BTreeMap;
use std::sync::Arc;

use aggregator_api::authentication::{Trust, TrustCell};
use aggregator_api::view::AutoscalersFault;
use aggregator_api::view::peers::Peers;
use aggregator_api::{Guard, review};
use aggregator_directory::{AUTOSCALERS_WATCH, Directory};
use anyhow::{Context as _, Result};
use common_http::health::Check;
use common_kubernetes::ca_bundle_publisher::{Fault, Target, service_names};
use common_kubernetes::reviews::Reviewer;
use common_kubernetes::{CaBundlePublisher, ClusterError, Lease, Watches, connection};
use common_time::{Clock, Monotonic};
use common_tls::{Protocols, ReloadableCert, clients, config};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReviewSpec,
};
use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::{ClusterConfig, LeaseConfig};
use crate::peers::{self, Roots};
use crate::remote_write::OneWriter;

mod ingest;

/// Returns the fault of the watches at a moment, if there is one.
type WatchFault = Box<dyn Fn(Monotonic) -> Option<String> + Send + Sync>;

/// Names the lists not read yet, if there are any.
type MissingLists = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// Tasks in a cluster, which run until `stop`.
pub(crate) struct Cluster {
    client: Client,
    trust: TrustCell,
    pub(crate) tls: Arc<rustls::ServerConfig>,
    pub(crate) watches: Watches,
    pub(crate) cert: ReloadableCert,
    /// Certificate for sidecars; `None` without TLS, or before [`Self::ingest`].
    pub(crate) ingest_cert: Option<ReloadableCert>,
    /// The CAs of the API's certificate (PEM); "" until they are known, and with files.
    api_cas: watch::Receiver<String>,
    checks: Checks,
}

/// Readiness checks in a cluster.
#[derive(Clone)]
pub(crate) struct Checks {
    watches: Arc<WatchFault>,
    missing: Arc<MissingLists>,
    trust: TrustCell,
    /// Faults of self-managed certificates.
    certificates: Vec<(&'static str, Fault)>,
}

struct ByCluster(Reviewer);

// === impl Cluster ===

impl Cluster {
    /// Starts watches and the management of the certificate. The API server need not be reachable
    /// yet.
    pub(crate) async fn begin(
        settings: &ClusterConfig,
        directory: &Arc<Directory>,
        clock: &Clock,
        stop: &CancellationToken,
    ) -> Result<Self> {
        let client = connection::connect(settings.kubeconfig.as_deref())
            .await
            .context(
                "cannot connect to the cluster (give --kubeconfig, or --standalone to run without a cluster)",
            )?;
        let mut watches = Watches::new(client.clone(), clock.clone(), stop.clone());
        aggregator_directory::follow(&mut watches, directory, &settings.scopes);
        if settings.watch_autoscalers {
            aggregator_directory::follow_autoscalers(&mut watches, directory, &settings.scopes);
        }
        let trust = TrustCell::default();
        tokio::spawn(follow_trust(watches.follow_authentication(), trust.clone()));
        let (bundle, api_cas) = watch::channel(String::new());
        let (cert, certificate) = certificate(settings, &client, clock, bundle, stop)?;
        let tls = config::server(cert.clone(), Some(clients::any()), Protocols::Http)?;
        let checks = Checks {
            watches: Arc::new(Box::new(watches.fault())),
            missing: Arc::new(Box::new(watches.missing())),
            trust: trust.clone(),
            certificates: certificate
                .map(|fault| ("certificate", fault))
                .into_iter()
                .collect(),
        };
        Ok(Self {
            client,
            trust,
            tls,
            watches,
            cert,
            ingest_cert: None,
            api_cas,
            checks,
        })
    }

    /// A guard that authenticates and authorises by the cluster.
    pub(crate) fn guard(&self, settings: &ClusterConfig, clock: &Clock) -> Guard {
        let reviews = Arc::new(ByCluster(Reviewer::new(self.client.clone())));
        let (trust, ttl) = (self.trust.clone(), settings.review_ttl);
        Guard::new(trust, reviews, ttl, clock.clone())
    }

    /// The Lease by which one replica writes, with a client.
    pub(crate) fn one_writer(&self, settings: &ClusterConfig, lease: &LeaseConfig) -> OneWriter {
        OneWriter {
            client: self.client.clone(),
            lease: Lease {
                namespace: settings.namespace.clone(),
                name: lease.name.clone(),
                identity: lease.identity.clone(),
            },
        }
    }

    /// The other replicas, if there are any.
    pub(crate) fn peers(&self, settings: &ClusterConfig) -> Option<Arc<dyn Peers>> {
        let config = settings.peers.clone()?;
        let roots = match &config.ca_file {
            Some(file) => Roots::File(file.clone()),
            None => Roots::Published(self.api_cas.clone()),
        };
        let name = format!("{}.{}.svc", settings.api_service, settings.namespace);
        Some(peers::shared(config, roots, name))
    }

    /// Why autoscalers are not known; `None` while they are.
    pub(crate) fn autoscalers_fault(
        &self,
        settings: &ClusterConfig,
        clock: &Clock,
    ) -> AutoscalersFault {
        if !settings.watch_autoscalers {
            return Arc::new(|| Some("--watch-autoscalers is false".to_owned()));
        }
        let fault = self.watches.fault_of(AUTOSCALERS_WATCH);
        let clock = clock.clone();
        Arc::new(move || fault(clock.now()))
    }

    pub(crate) fn checks(&self) -> Checks {
        self.checks.clone()
    }
}

/// The certificate of the API, from files or self-managed.
fn certificate(
    settings: &ClusterConfig,
    client: &Client,
    clock: &Clock,
    bundle: watch::Sender<String>,
    stop: &CancellationToken,
) -> Result<(ReloadableCert, Option<Fault>)> {
    if let Some(files) = &settings.api_files {
        let watched = files.clone().load().context("--api-cert-file")?;
        let cert = watched.serving();
        tokio::spawn(watched.follow(stop.clone()));
        return Ok((cert, None));
    }
    let names = service_names(&settings.api_service, &settings.namespace);
    let cert = ReloadableCert::untrusted(&names)?;
    let publisher = CaBundlePublisher {
        namespace: settings.namespace.clone(),
        secret: settings.api_ca_secret.clone(),
        service: settings.api_service.clone(),
        names,
        targets: vec![Target::ApiServices],
        serving: cert.clone(),
        bundle,
        clock: clock.clone(),
    };
    let fault = publisher.spawn(client.clone(), stop.clone());
    Ok((cert, Some(fault)))
}

/// Updates `trust` from the `ConfigMap`. An invalid one keeps the previous trust.
async fn follow_trust(
    mut config: watch::Receiver<Option<BTreeMap<String, String>>>,
    trust: TrustCell,
) {
    loop {
        let read = config.borrow_and_update().clone();
        match read.as_ref().map(Trust::from_config_map) {
            Some(Ok(read)) => {
                tracing::info!("front proxies and client CAs read");
                trust.set(read);
            }
            Some(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(
                    error,
                    "invalid extension-apiserver-authentication; keeping previous trust"
                );
            }
            None if trust.is_set() => {
                tracing::warn!(
                    "extension-apiserver-authentication was deleted; keeping previous trust"
                );
            }
            None => {}
        }
        if config.changed().await.is_err() {
            return;
        }
    }
}

// === impl Checks ===

impl Checks {
    /// True until every watch has its first list.
    pub(crate) fn lists_are_missing(&self) -> bool {
        (self.missing)().is_some()
    }

    /// The result of each check as of `now`.
    pub(crate) fn now(&self, now: Monotonic) -> Vec<Check> {
        let trust = (!self.trust.is_set()).then(|| {
            "the ConfigMap kube-system/extension-apiserver-authentication was not read; is the role \
             extension-apiserver-authentication-reader bound?"
                .to_owned()
        });
        let certificates = self.certificates.iter();
        let certificates = certificates.map(|(name, fault)| check(name, fault.borrow().clone()));
        [
            check("watches", (self.watches)(now)),
            check("authentication", trust),
        ]
        .into_iter()
        .chain(certificates)
        .collect()
    }
}

fn check(name: &'static str, failure: Option<String>) -> Check {
    Check { name, failure }
}

// === impl ByCluster ===

impl review::Reviews for ByCluster {
    fn token<'a>(
        &'a self,
        token: &'a str,
        audiences: &'a [String],
    ) -> review::Review<'a, Option<review::User>> {
        Box::pin(async move {
            let user = self.0.token(token, audiences).await;
            let user = user.map_err(|error| failure(&error))?;
            Ok(user.map(|user| review::User {
                name: user.username.unwrap_or_default(),
                uid: user.uid.unwrap_or_default(),
                groups: user.groups.unwrap_or_default(),
                extra: user.extra.unwrap_or_default(),
            }))
        })
    }

    fn access<'a>(
        &'a self,
        user: &'a review::User,
        attributes: &'a review::Attributes,
    ) -> review::Review<'a, review::Decision> {
        Box::pin(async move {
            let decision = self.0.access(review_spec(user.clone(), attributes.clone()));
            let decision = decision.await.map_err(|error| failure(&error))?;
            let reason = decision.reason.filter(|reason| !reason.is_empty());
            Ok(match (decision.allowed, reason) {
                (true, _) => review::Decision::Allow,
                (false, None) => review::Decision::NoOpinion,
                (false, Some(reason)) => review::Decision::Deny(reason),
            })
        })
    }
}

fn review_spec(user: review::User, attributes: review::Attributes) -> SubjectAccessReviewSpec {
    let mut spec = SubjectAccessReviewSpec {
        user: Some(user.name),
        uid: Some(user.uid),
        groups: Some(user.groups),
        extra: Some(user.extra),
        ..SubjectAccessReviewSpec::default()
    };
    match attributes {
        review::Attributes::Resource(wanted) => {
            spec.resource_attributes = Some(ResourceAttributes {
                verb: Some(wanted.verb),
                group: Some(wanted.group),
                version: Some(wanted.version),
                resource: Some(wanted.resource),
                subresource: Some(wanted.subresource),
                name: Some(wanted.name),
                namespace: Some(wanted.namespace),
                ..ResourceAttributes::default()
            });
        }
        review::Attributes::NonResource { path, verb } => {
            let (path, verb) = (Some(path), Some(verb));
            spec.non_resource_attributes = Some(NonResourceAttributes { path, verb });
        }
    }
    spec
}

fn failure(error: &ClusterError) -> review::ReviewError {
    match error.status() {
        Some(code) => review::ReviewError::Refused(format!("{code}: {error}")),
        None => review::ReviewError::Unavailable(error.to_string()),
    }
}
