//! Keeps a `ConfigMap` with the CAs of the aggregators in each meshed namespace, by one of several
//! injectors.
//!
//! ```text
//! Lease (who writes) ─┐
//! watches -> cache ───┼> mesh_injector::ca_bundles (which step) -> create, patch, delete; Events
//! settings (the file) ┘
//! ```
//!
//! Beside the webhook, which waits for nothing here: a pod without the `ConfigMap` serves, and
//! streams once it is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common_kubernetes::connection::send;
use common_kubernetes::events::{Object, Warning};
use common_kubernetes::lease::{LeaseHandle, Role};
use common_kubernetes::{ClusterError, Lease, Scope, Watches};
use http::Method;
use kube::Client;
use mesh_injector::ca_bundles::{
    Backoff, CaBundle, ExistingConfigMap, INSTALLED_IN, MANAGED_BY, MANAGER, Step,
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

/// Time between two requests: twenty a second at most, a thousand namespaces in less than a minute.
const WRITE_EVERY: Duration = Duration::from_millis(50);
/// How often it is looked again although nothing is heard of: whether a list is there, and who may
/// be written to again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const REASON: &str = "CaNotWritten";

/// What is kept where, and by whom.
#[derive(Debug)]
pub(super) struct Options {
    /// Name of the `ConfigMap`s.
    pub(super) name: String,
    pub(super) installed_in: String,
    /// Name of the Lease in it.
    pub(super) lease: String,
    pub(super) identity: String,
}

/// Keeps them until it is told to stop.
pub(super) struct Keeper {
    client: Client,
    options: Options,
    settings: SettingsReceiver,
    metrics: Metrics,
    cache: Arc<Cache>,
    missing: Box<dyn Fn() -> Option<String> + Send + Sync>,
    role: watch::Receiver<Role>,
    backoff: Backoff,
    /// What was said last of each namespace with which something is wrong.
    said: BTreeMap<String, String>,
    wanted: Option<Arc<CaBundle>>,
    begun: Instant,
}

/// Begins to keep them until `stop`; gives the watches, which go on until `ended`.
pub(super) fn begin(
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
    let kept = lease.keep(client.clone());
    let keeper = Keeper {
        client,
        options,
        settings,
        metrics,
        cache,
        missing: Box::new(watches.missing()),
        role: kept.role.clone(),
        backoff: Backoff::default(),
        said: BTreeMap::new(),
        wanted: None,
        begun: clock::monotonic(),
    };
    tokio::spawn(keeper.run(kept, stop));
    watches
}

// === impl Keeper ===

impl Keeper {
    async fn run(mut self, kept: LeaseHandle, stop: CancellationToken) {
        stop.run_until_cancelled(self.follow()).await;
        kept.release().await;
    }

    async fn follow(&mut self) {
        loop {
            let states = if self.is_leader() && (self.missing)().is_none() {
                self.round().await
            } else {
                // What another one says of them is what counts.
                States::default()
            };
            self.metrics.ca_configmap_states(states);
            let cache = Arc::clone(&self.cache);
            tokio::select! {
                () = cache.changed.notified() => {}
                _ = self.settings.changed() => {}
                _ = self.role.changed() => {}
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }

    fn is_leader(&self) -> bool {
        *self.role.borrow() == Role::Leads
    }

    /// Looks at each namespace once.
    async fn round(&mut self) -> States {
        let Some(wanted) = self.wanted() else {
            return States::default();
        };
        let names: BTreeSet<String> = self.cache.names().into_iter().collect();
        self.backoff.retain(&names);
        self.said.retain(|namespace, _| names.contains(namespace));
        let mut states = States::default();
        for namespace in &names {
            if !self.is_leader() {
                return States::default();
            }
            // As it is by now: a round may take long.
            let (is, held) = self.cache.of(namespace);
            let step = wanted.step(is.as_ref(), held.as_deref());
            match step {
                Step::Nothing => {
                    states.current += i64::from(held.is_some_and(|held| wanted.is_kept(&held)));
                    self.said.remove(namespace);
                }
                Step::Refuse => {
                    states.refused += 1;
                    self.refuse(namespace).await;
                }
                step => {
                    states.behind += 1;
                    self.write(&wanted, namespace, step, held.as_deref()).await;
                }
            }
        }
        states
    }

    /// What each namespace is to have by now; made anew only when the certificates change.
    fn wanted(&mut self) -> Option<Arc<CaBundle>> {
        let settings = Arc::clone(&self.settings.borrow_and_update());
        let certificates = &settings.secure.as_ref()?.ca;
        let is_same = |wanted: &Arc<CaBundle>| wanted.certificates() == certificates;
        if !self.wanted.as_ref().is_some_and(is_same) {
            let Options {
                name, installed_in, ..
            } = &self.options;
            let wanted = CaBundle::new(name, installed_in, certificates.clone());
            self.wanted = Some(Arc::new(wanted));
            self.backoff.reset();
        }
        self.wanted.clone()
    }

    async fn write(
        &mut self,
        wanted: &CaBundle,
        namespace: &str,
        step: Step,
        held: Option<&ExistingConfigMap>,
    ) {
        if !self.backoff.is_due(namespace, self.begun.elapsed()) {
            return;
        }
        let Some((method, content_type, body, outcome)) = request(wanted, namespace, step, held)
        else {
            return;
        };
        let mut path = format!("/api/v1/namespaces/{namespace}/configmaps");
        if step != Step::Create {
            path = format!("{path}/{}", self.options.name);
        }
        let sent = send::<IgnoredAny>(&self.client, method, &path, content_type, &body).await;
        self.backoff.tried(namespace, self.begun.elapsed());
        match sent {
            Ok(_) => {
                self.metrics.ca_configmap(outcome);
                self.said.remove(namespace);
                let config_map = &self.options.name;
                tracing::info!(namespace, config_map, outcome, "CAs of aggregators");
            }
            // Somebody was faster, or it is another by now: the watch tells.
            Err(error) if matches!(error.status(), Some(404 | 409)) => {
                tracing::debug!(namespace, %error, "ConfigMap changed or gone since it was read");
            }
            Err(error) => {
                self.metrics.ca_configmap("failed");
                self.tell_failure(namespace, &error).await;
            }
        }
        sleep(WRITE_EVERY).await;
    }

    async fn refuse(&mut self, namespace: &str) {
        let Options {
            name, installed_in, ..
        } = &self.options;
        let message = format!(
            "the ConfigMap {name} in the namespace {namespace} is somebody else\'s (it has not the labels \
             {MANAGED_BY}={MANAGER} and {INSTALLED_IN}={installed_in}) and is left as it is, so sidecars there do not \
             get the CAs of the aggregators and are not counted: delete or rename it, or give the injector \
             another --aggregator-ca-configmap"
        );
        if self.tell(namespace, message).await {
            self.metrics.ca_configmap("refused");
        }
    }

    async fn tell_failure(&mut self, namespace: &str, error: &ClusterError) {
        let name = &self.options.name;
        let message = format!(
            "the ConfigMap {name} in the namespace {namespace} cannot be written, so sidecars there may not trust the \
             aggregators, and are not counted then: {error}; it is tried again within five minutes"
        );
        self.tell(namespace, message).await;
    }

    /// Says it, unless that was said last of this namespace; true if so.
    async fn tell(&mut self, namespace: &str, message: String) -> bool {
        if self.said.get(namespace) == Some(&message) {
            return false;
        }
        tracing::warn!(namespace, reason = message, "CAs not written");
        self.said.insert(namespace.to_owned(), message.clone());
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

/// Method, content type, body, and what it is counted as.
fn request(
    wanted: &CaBundle,
    namespace: &str,
    step: Step,
    held: Option<&ExistingConfigMap>,
) -> Option<(Method, &'static str, Value, &'static str)> {
    Some(match step {
        Step::Create => (Method::POST, JSON, wanted.object(namespace), "created"),
        Step::Change => (Method::PATCH, MERGE_PATCH, wanted.change(held?), "changed"),
        Step::Remove => (Method::DELETE, JSON, CaBundle::removal(held?), "removed"),
        Step::Nothing | Step::Refuse => return None,
    })
}
