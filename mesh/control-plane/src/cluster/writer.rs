//! Writes conditions into the status of custom resources, sequentially and only where they differ.

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

/// Pause between writes: at most 10 per second.
const WRITE_EVERY: Duration = Duration::from_millis(100);

/// Wait before the same condition is written again, after a failure or another client's write.
const RETRY_AFTER: Duration = Duration::from_secs(30);

pub(super) struct Writer {
    client: Client,
    cache: Arc<ResourceCache>,
    conditions: watch::Receiver<Arc<ServedConditions>>,
    metrics: Metrics,
    clock: Clock,
    /// Last write of each existing object, successful or not.
    last_written: BTreeMap<(Kind, Key), (Monotonic, ServedCondition)>,
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
            last_written: BTreeMap::new(),
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            self.round().await;
            let cache = Arc::clone(&self.cache);
            tokio::select! {
                changed = self.conditions.changed() => if changed.is_err() { return },
                () = cache.status_changed.notified() => {}
                () = sleep(RETRY_AFTER) => {}
            }
        }
    }

    async fn round(&mut self) {
        let conditions = Arc::clone(&self.conditions.borrow_and_update());
        self.last_written
            .retain(|id, _| conditions.contains_key(id));
        for (id, condition) in conditions.iter() {
            // Read anew for each: a round pauses after each write, and other control planes write
            // the same conditions.
            let Some(entry) = self.cache.custom(id) else {
                continue;
            };
            let time = rfc3339(self.clock.wall());
            let Some(status) = condition.status(id.0, &entry, &time) else {
                continue;
            };
            let now = self.clock.now();
            let last = self.last_written.get(id);
            let too_early = |(at, written): &(Monotonic, ServedCondition)| {
                written == condition && now.since(*at) < RETRY_AFTER
            };
            if last.is_some_and(too_early) {
                continue;
            }
            let new = last.is_none_or(|(_, written)| written != condition);
            self.last_written
                .insert(id.clone(), (now, condition.clone()));
            let outcome = self.write(id.0, &entry, &status).await;
            let wrote = self.succeeded("status", &id.1, outcome);
            if wrote {
                self.metrics.statuses.inc();
            }
            // Only after this replica's write succeeded: the others got 409 and raise none.
            if wrote && new && !condition.served {
                let (warning, suffix) = condition.warning(id.0, &entry);
                let outcome = warning.raise_as(&self.client, &suffix).await;
                if self.succeeded("event", &id.1, outcome) {
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

    fn succeeded(&self, what: &str, key: &Key, outcome: Result<(), ClusterError>) -> bool {
        let Err(error) = outcome else {
            return true;
        };
        // Another control plane wrote first, or the object changed: the watch delivers its new
        // state, which leads to the next round.
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

/// Whole seconds, as in Kubernetes' `metav1.Time`.
fn rfc3339(now: UnixMillis) -> String {
    let seconds = i64::try_from(now.0 / 1000).unwrap_or(0);
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(&Rfc3339).unwrap_or_default()
}
