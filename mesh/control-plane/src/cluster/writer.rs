//! Writes conditions into the status of custom resources, one after another and only what is not
//! there yet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common_kubernetes::objects::Metadata;
use common_kubernetes::{Api, ClusterError};
use common_time::{Clock, Monotonic, UnixMillis};
use kube::Client;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::watch;
use tokio::time::sleep;

use super::cache::{Entry, ResourceCache};
use super::conditions::{ServedCondition, ServedConditions};
use crate::mesh::Key;
use crate::metrics::Metrics;
use crate::resources::{API_VERSION, Kind};

/// Time between two writes: ten a second at most.
const WRITE_EVERY: Duration = Duration::from_millis(100);

/// Until the same is written to the same object again, be it that it failed or that somebody else
/// wrote over it.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

pub(super) struct Writer {
    client: Client,
    cache: Arc<ResourceCache>,
    conditions: watch::Receiver<Arc<ServedConditions>>,
    metrics: Metrics,
    clock: Clock,
    /// What was written last, and when; of objects that are there.
    written: BTreeMap<(Kind, Key), (Monotonic, ServedCondition)>,
}

// === impl Writer ===

impl Writer {
    pub(super) fn new(
        client: Client,
        cache: Arc<ResourceCache>,
        conditions: watch::Receiver<Arc<ServedConditions>>,
        metrics: Metrics,
        clock: Clock,
    ) -> Self {
        Self {
            client,
            cache,
            conditions,
            metrics,
            clock,
            written: BTreeMap::new(),
        }
    }

    /// Writes as long as it is polled.
    pub(super) async fn run(mut self) {
        loop {
            self.round().await;
            let cache = Arc::clone(&self.cache);
            tokio::select! {
                changed = self.conditions.changed() => if changed.is_err() { return },
                () = cache.stated.notified() => {}
                () = sleep(AGAIN_AFTER) => {}
            }
        }
    }

    async fn round(&mut self) {
        let conditions = Arc::clone(&self.conditions.borrow_and_update());
        self.written.retain(|id, _| conditions.contains_key(id));
        for (id, condition) in conditions.iter() {
            // As it is now: a round may take long, and other control planes write too.
            let Some(entry) = self.cache.custom(id) else {
                continue;
            };
            let time = rfc3339(self.clock.wall());
            let Some(status) = condition.status(id.0, &entry, &time) else {
                continue;
            };
            let now = self.clock.now();
            let last = self.written.get(id);
            let early = |(at, what): &(Monotonic, ServedCondition)| {
                what == condition && now.since(*at) < AGAIN_AFTER
            };
            if last.is_some_and(early) {
                continue;
            }
            let new = last.is_none_or(|(_, what)| what != condition);
            self.written.insert(id.clone(), (now, condition.clone()));
            let outcome = self.write(id.0, &entry, &status).await;
            let wrote = self.took("status", &id.1, outcome);
            if wrote {
                self.metrics.statuses.inc();
            }
            if wrote && new && !condition.served {
                let (warning, suffix) = condition.warning(id.0, &entry);
                let outcome = warning.raise_as(&self.client, &suffix).await;
                if self.took("event", &id.1, outcome) {
                    self.metrics.events.inc();
                }
            }
            sleep(WRITE_EVERY).await;
        }
    }

    async fn write(&self, kind: Kind, entry: &Entry, status: &Value) -> Result<(), ClusterError> {
        let (group, version) = API_VERSION.split_once('/').unwrap_or_default();
        let named = GroupVersionKind::gvk(group, version, kind.as_str());
        let resource = ApiResource::from_gvk_with_plural(&named, kind.plural());
        let Metadata {
            name, namespace, ..
        } = &entry.metadata;
        let namespace = Some(namespace.as_str()).filter(|namespace| !namespace.is_empty());
        let objects = Api::<DynamicObject>::of(&self.client, &resource, namespace);
        objects.merge_status(name, status).await
    }

    fn took(&self, what: &str, key: &Key, outcome: Result<(), ClusterError>) -> bool {
        let Err(error) = outcome else {
            return true;
        };
        // Another control plane was faster, or the object is another by now: the watch tells.
        if error.status() == Some(409) {
            return false;
        }
        self.metrics.status_failures.inc();
        tracing::warn!(
            namespace = key.namespace,
            name = key.name,
            what,
            error = %error,
            "status update rejected"
        );
        false
    }
}

/// Whole seconds, as Kubernetes has it.
fn rfc3339(now: UnixMillis) -> String {
    let seconds = i64::try_from(now.0 / 1000).unwrap_or(0);
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(&Rfc3339).unwrap_or_default()
}
