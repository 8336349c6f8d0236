//! The API group `view.meshmeter.io`: what people see, from store, directory and ledger.
//!
//! ```text
//! path::view, form::view -> pods, groups     lists, page by page ──┐
//!                        -> history, evidence reads, explanations  ├─> JSON
//!                        -> health            replica by replica ──┘
//! peers: what the other replicas know, asked for by their own API
//! ```
//!
//! Reads of metrics never wait for these: they are built on a thread of their own, one at a time.

mod evidence;
mod groups;
mod health;
mod pages;
pub mod peers;
mod pods;
mod rates;
mod reads;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aggregator_core::store::Store;
use aggregator_directory::Directory;
use aggregator_ledger::Ledger;
use aggregator_view::documents;
use bytes::Bytes;
use common_time::Clock;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::form::view::ViewParameters;
use crate::metric_name::MetricNames;
use crate::path::{ListResource, ViewPath};
use crate::status::{Kind, Reason, Refusal};
use peers::Peers;

/// Documents and pages that are built at once: on two processors the other one is left to
/// autoscalers and sidecars.
const BUILDERS_MAX: usize = 1;

/// Documents of what all replicas know that are made at once: each holds up to 8 MiB of the other
/// replicas' answers, and as much again as it reads them.
const GATHERERS_MAX: usize = 1;

/// How long a request waits for one of them.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// What this replica knows of itself.
pub type ReplicaSource = Arc<dyn Fn() -> documents::Replica + Send + Sync>;

/// Why autoscalers are not known; `None` while they are.
pub type AutoscalersFault = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// What the program adds to the views.
#[derive(Clone)]
pub struct ViewSettings {
    /// State of this replica; its name is the one under which its reads are listed.
    pub replica: ReplicaSource,
    pub autoscalers_fault: AutoscalersFault,
    /// The other replicas; `None` for a single one.
    pub peers: Option<Arc<dyn Peers>>,
}

/// The views over store, directory and ledger.
pub(crate) struct Views {
    pub(crate) store: Arc<Store>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) clock: Clock,
    pub(crate) names: MetricNames,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) settings: ViewSettings,
    builders: Arc<Semaphore>,
    gatherers: Arc<Semaphore>,
}

// === impl Views ===

impl Views {
    pub(crate) fn new(
        store: Arc<Store>,
        directory: Arc<Directory>,
        clock: Clock,
        names: MetricNames,
        ledger: Arc<Ledger>,
        settings: ViewSettings,
    ) -> Self {
        Self {
            store,
            directory,
            clock,
            names,
            ledger,
            settings,
            builders: Arc::new(Semaphore::new(BUILDERS_MAX)),
            gatherers: Arc::new(Semaphore::new(GATHERERS_MAX)),
        }
    }

    /// The document at `path`, as JSON.
    pub(crate) async fn serve(
        self: &Arc<Self>,
        path: ViewPath,
        query: &str,
    ) -> Result<Bytes, Refusal> {
        let parameters = parameters(query)?;
        match path {
            ViewPath::List {
                resource,
                namespace,
            } => {
                self.build(move |views| views.list(resource, namespace.as_deref(), &parameters))
                    .await
            }
            ViewPath::Reads { namespace } => self.reads(&namespace, parameters).await,
            ViewPath::Explanation { namespace, hpa } => {
                self.explanation(&namespace, &hpa, &parameters).await
            }
            ViewPath::Timeline { namespace, hpa } => {
                self.timeline(&namespace, &hpa, &parameters).await
            }
            ViewPath::Health => self.health(parameters.only_self).await,
        }
    }

    fn list(
        &self,
        resource: ListResource,
        namespace: Option<&str>,
        parameters: &ViewParameters,
    ) -> Result<Bytes, Refusal> {
        match resource {
            ListResource::Pods => json(&self.pods(namespace, parameters)?),
            ListResource::Workloads => json(&self.workloads(namespace, parameters)?),
            ListResource::Namespaces => json(&self.namespaces(namespace, parameters)?),
            ListResource::Services => json(&self.services(namespace, parameters)?),
        }
    }

    /// Runs `make` on a thread where it may take its time. Not one of lower priority: while it
    /// waits for its turn it may hold what reads of metrics need.
    pub(crate) async fn build<T: Send + 'static>(
        self: &Arc<Self>,
        make: impl FnOnce(&Self) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let slot = slot(&self.builders, || {
            format!(
                "documents are made for others, who did not end within {} s; ask for less at once: one namespace, a \
                 page by limit, history=false",
                WAIT_MAX.as_secs()
            )
        });
        let slot = slot.await?;
        let views = Arc::clone(self);
        let built = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            make(&views)
        });
        built.await.map_err(|error| internal(&error))?
    }

    /// Room for what is gathered of reads, until it is dropped.
    async fn gatherer(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let slot = slot(&self.gatherers, || {
            format!(
                "reads are gathered for others, who did not end within {} s; ask again, or for less: hpa=NAME, a \
                 later from",
                WAIT_MAX.as_secs()
            )
        });
        slot.await
    }
}

impl fmt::Debug for Views {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Views").finish_non_exhaustive()
    }
}

// === impl ViewSettings ===

impl ViewSettings {
    /// Of a single replica that knows nothing of itself.
    pub(crate) fn alone() -> Self {
        Self {
            replica: Arc::new(documents::Replica::default),
            autoscalers_fault: Arc::new(|| None),
            peers: None,
        }
    }
}

impl fmt::Debug for ViewSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ViewSettings").finish_non_exhaustive()
    }
}

pub(crate) fn parameters(query: &str) -> Result<ViewParameters, Refusal> {
    ViewParameters::parse(query)
        .map_err(|error| Refusal::bad_request(Reason::Query, error.to_string()))
}

/// One of `slots`, if it comes soon enough; `busy` is what the refusal says.
async fn slot(
    slots: &Arc<Semaphore>,
    busy: impl FnOnce() -> String,
) -> Result<OwnedSemaphorePermit, Refusal> {
    let slot = timeout(WAIT_MAX, Arc::clone(slots).acquire_owned()).await;
    let slot = slot.ok().and_then(Result::ok);
    slot.ok_or_else(|| Refusal::new(Kind::Unavailable, Reason::Busy, busy()))
}

fn json(document: &impl Serialize) -> Result<Bytes, Refusal> {
    let json = serde_json::to_vec(document).map_err(|error| internal(&error))?;
    Ok(json.into())
}

fn internal(error: &dyn fmt::Display) -> Refusal {
    Refusal::new(Kind::Internal, Reason::Internal, error.to_string())
}

#[cfg(test)]
mod tests;
