//! Maintains a `ConfigMap` with the aggregators' CAs in each injected namespace. The injector that
//! holds the Lease writes.
//!
//! ```text
//! Lease (who writes) ─┐
//! watches -> cache ───┼> mesh_injector::ca_bundles (which action) -> create, patch, delete; Events
//! settings (the file) ┘
//! ```
//!
//! Independent of the webhook: a pod without the `ConfigMap` serves, and streams as soon as it
//! exists.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common_kubernetes::connection::{get, send};
use common_kubernetes::events::{Object, Warning};
use common_kubernetes::lease::{Leadership, LeaseHandle};
use common_kubernetes::objects::MetadataOnly;
use common_kubernetes::{ClusterError, Lease, Scope, Watches};
use http::Method;
use kube::Client;
use mesh_injector::ca_bundles::{
    Action, Backoff, CaBundle, ExistingConfigMap, INSTALLED_IN, MANAGED_BY, MANAGER, Owner,
};
use serde::de::IgnoredAny;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::events::COMPONENT;
use super::metrics::{Metrics, States};
use super::settings::SettingsReceiver;
use crate::clock;
use cache::{Cache, ConfigMaps, Namespaces};

mod cache;

/// Pause between requests: at most 20 per second, a thousand namespaces in less than a minute.
const WRITE_EVERY: Duration = Duration::from_millis(50);
/// Interval of rounds without an event: a watch may have become ready, or a backoff have expired.
const ROUND_EVERY: Duration = Duration::from_secs(1);

const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const REASON: &str = "CaNotWritten";

#[derive(Debug)]
pub(super) struct Options {
    /// Name of the `ConfigMap`s.
    pub(super) name: String,
    pub(super) installed_in: String,
    /// Name of the Lease, in `installed_in`.
    pub(super) lease: String,
    pub(super) identity: String,
    /// The `MutatingWebhookConfiguration` that owns the `ConfigMap`s.
    pub(super) webhook_configuration: String,
}

pub(super) struct Controller {
    client: Client,
    options: Options,
    settings: SettingsReceiver,
    metrics: Metrics,
    cache: Arc<Cache>,
    missing: Box<dyn Fn() -> Option<String> + Send + Sync>,
    leadership: watch::Receiver<Leadership>,
    backoff: Backoff,
    /// Last warning by namespace; removed once it has no fault.
    last_warnings: BTreeMap<String, String>,
    desired: Option<Arc<CaBundle>>,
    /// The owner existed. Once it is deleted no pod is injected.
    had_owner: bool,
    started_at: Instant,
}

/// Starts the controller until `stop`; returns its watches, which run until `ended`.
pub(super) fn start(
    client: Client,
    options: Options,
    settings: SettingsReceiver,
    metrics: Metrics,
    (stop, ended): (CancellationToken, &CancellationToken),
) -> Watches {
    let cache = Arc::new(Cache::new(
        &options.installed_in,
        metrics.ca_configmaps_over_limit(),
    ));
    let mut watches = Watches::new(client.clone(), clock::both(), ended.clone());
    watches.follow(Namespaces(Arc::clone(&cache)), Scope::All);
    let maps = ConfigMaps::new(Arc::clone(&cache), &options.name);
    watches.follow(maps, Scope::All);
    let lease = Lease {
        namespace: options.installed_in.clone(),
        name: options.lease.clone(),
        identity: options.identity.clone(),
    };
    let handle = lease.spawn(client.clone());
    let controller = Controller {
        client,
        options,
        settings,
        metrics,
        cache,
        missing: Box::new(watches.missing()),
        leadership: handle.leadership.clone(),
        backoff: Backoff::default(),
        last_warnings: BTreeMap::new(),
        desired: None,
        had_owner: false,
        started_at: clock::monotonic(),
    };
    tokio::spawn(controller.run(handle, stop));
    watches
}

// === impl Controller ===

impl Controller {
    async fn run(mut self, handle: LeaseHandle, stop: CancellationToken) {
        stop.run_until_cancelled(self.reconcile()).await;
        handle.release().await;
    }

    async fn reconcile(&mut self) {
        loop {
            // Before all lists are complete, a ConfigMap that is not listed yet would look absent.
            let states = if self.is_leader() && (self.missing)().is_none() {
                self.round().await
            } else {
                // Zeros, so that the sum over all replicas is the leader's count.
                States::default()
            };
            self.metrics.ca_configmap_states(states);
            let cache = Arc::clone(&self.cache);
            tokio::select! {
                () = cache.changed.notified() => {}
                _ = self.settings.changed() => {}
                _ = self.leadership.changed() => {}
                () = sleep(ROUND_EVERY) => {}
            }
        }
    }

    fn is_leader(&self) -> bool {
        *self.leadership.borrow() == Leadership::Leads
    }

    /// Reconciles each namespace once.
    async fn round(&mut self) -> States {
        let Some(desired) = self.desired() else {
            return States::default();
        };
        let names: BTreeSet<String> = self.cache.names().into_iter().collect();
        self.backoff.retain(&names);
        self.last_warnings
            .retain(|namespace, _| names.contains(namespace));
        let mut states = States::default();
        for namespace in &names {
            if !self.is_leader() {
                return States::default();
            }
            // Read anew for each: a round pauses after each write and may take a minute.
            let (state, existing) = self.cache.of(namespace);
            match desired.action(state.as_ref(), existing.as_deref()) {
                Action::Nothing => {
                    let current = existing.is_some_and(|existing| desired.is_current(&existing));
                    states.current += i64::from(current);
                    self.last_warnings.remove(namespace);
                }
                Action::Conflict => {
                    states.refused += 1;
                    self.warn_conflict(namespace).await;
                }
                action => {
                    states.behind += 1;
                    self.write(&desired, namespace, action, existing.as_deref())
                        .await;
                }
            }
        }
        states
    }

    /// The bundle for the current settings, rebuilt only when the certificates change.
    fn desired(&mut self) -> Option<Arc<CaBundle>> {
        let settings = Arc::clone(&self.settings.borrow_and_update());
        let certificates = &settings.secure.as_ref()?.ca;
        let is_same = |desired: &Arc<CaBundle>| desired.certificates() == certificates;
        if !self.desired.as_ref().is_some_and(is_same) {
            let Options {
                name, installed_in, ..
            } = &self.options;
            let desired = CaBundle::new(name, installed_in, certificates.clone());
            self.desired = Some(Arc::new(desired));
            self.backoff.reset();
        }
        self.desired.clone()
    }

    async fn write(
        &mut self,
        desired: &CaBundle,
        namespace: &str,
        action: Action,
        existing: Option<&ExistingConfigMap>,
    ) {
        if !self.backoff.is_due(namespace, self.started_at.elapsed()) {
            return;
        }
        let owner = match action {
            Action::Create => self.owner().await,
            _ => Ok(None),
        };
        let Ok(owner) = owner else {
            self.backoff.record(namespace, self.started_at.elapsed());
            return;
        };
        let request = request(desired, namespace, action, existing, owner.as_ref());
        let Some((method, content_type, body, outcome)) = request else {
            return;
        };
        let mut path = format!("/api/v1/namespaces/{namespace}/configmaps");
        if action != Action::Create {
            path = format!("{path}/{}", self.options.name);
        }
        let sent = send::<IgnoredAny>(&self.client, method, &path, content_type, &body).await;
        self.backoff.record(namespace, self.started_at.elapsed());
        match sent {
            Ok(_) => {
                self.metrics.ca_configmap(outcome);
                self.last_warnings.remove(namespace);
                let config_map = &self.options.name;
                tracing::info!(namespace, config_map, outcome, "CAs of aggregators");
            }
            // Another client changed or deleted it first: the watch delivers its new state.
            Err(error) if matches!(error.status(), Some(404 | 409)) => {
                tracing::debug!(namespace, %error, "ConfigMap changed or gone since it was read");
            }
            Err(error) => {
                self.metrics.ca_configmap("failed");
                self.warn_failure(namespace, &error).await;
            }
        }
        sleep(WRITE_EVERY).await;
    }

    /// The owner of new `ConfigMap`s; an error while it cannot be read, or once it is deleted.
    async fn owner(&mut self) -> Result<Option<Owner>, ClusterError> {
        let name = &self.options.webhook_configuration;
        let path =
            format!("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{name}");
        match get::<MetadataOnly>(&self.client, &path, JSON).await {
            Ok(found) => {
                self.had_owner = true;
                let (name, uid) = (name.clone(), found.metadata.uid);
                Ok(Some(Owner { name, uid }))
            }
            // The webhook is registered under another name, or a role does not permit to read it.
            Err(error) if !self.had_owner && matches!(error.status(), Some(403 | 404)) => Ok(None),
            Err(error) => {
                tracing::debug!(configuration = name, %error, "CA ConfigMap not created");
                Err(error)
            }
        }
    }

    async fn warn_conflict(&mut self, namespace: &str) {
        let Options {
            name, installed_in, ..
        } = &self.options;
        let message = format!(
            "the ConfigMap {name} in the namespace {namespace} has another owner (it lacks the labels \
             {MANAGED_BY}={MANAGER} and {INSTALLED_IN}={installed_in}) and stays unchanged, so sidecars there do not \
             get the CAs of the aggregators and are not counted: delete or rename it, or give the injector \
             another --aggregator-ca-configmap"
        );
        if self.warn(namespace, message).await {
            self.metrics.ca_configmap("refused");
        }
    }

    async fn warn_failure(&mut self, namespace: &str, error: &ClusterError) {
        let name = &self.options.name;
        let message = format!(
            "the ConfigMap {name} in the namespace {namespace} cannot be written, so sidecars there may not trust the \
             aggregators, and are not counted then: {error}; retrying within five minutes"
        );
        self.warn(namespace, message).await;
    }

    /// Logs and raises an Event, unless it repeats the namespace's last warning; true if raised.
    async fn warn(&mut self, namespace: &str, message: String) -> bool {
        if self.last_warnings.get(namespace) == Some(&message) {
            return false;
        }
        tracing::warn!(namespace, reason = message, "CAs not written");
        self.last_warnings
            .insert(namespace.to_owned(), message.clone());
        let warning = Warning {
            about: Object {
                api_version: "v1".to_owned(),
                kind: "Namespace".to_owned(),
                namespace: namespace.to_owned(),
                name: namespace.to_owned(),
                uid: String::new(),
            },
            reason: REASON,
            message,
            component: COMPONENT,
        };
        if let Err(error) = warning.raise(&self.client).await {
            tracing::warn!(%error, "event not raised");
        }
        sleep(WRITE_EVERY).await;
        true
    }
}

/// Method, content type, body, and the `outcome` label of the metric.
fn request(
    desired: &CaBundle,
    namespace: &str,
    action: Action,
    existing: Option<&ExistingConfigMap>,
    owner: Option<&Owner>,
) -> Option<(Method, &'static str, Value, &'static str)> {
    Some(match action {
        Action::Create => (
            Method::POST,
            JSON,
            desired.object(namespace, owner),
            "created",
        ),
        Action::Update => (
            Method::PATCH,
            MERGE_PATCH,
            desired.patch(existing?),
            "changed",
        ),
        Action::Delete => (
            Method::DELETE,
            JSON,
            CaBundle::delete_options(existing?),
            "removed",
        ),
        Action::Nothing | Action::Conflict => return None,
    })
}
